"""A small prepared folder, made without an estimator: dancers as mp4 files, with their exact poses."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.data.index import PreparedClip, write_index
from mimic.files import write_json
from mimic.video import VideoWriter

FPS = 10.0


def make_prepared(
    folder: Path,
    *,
    clips_of_videos: dict[str, list[tuple[int, int]]],
    height: int = 48,
    width: int = 80,
    split: dict[str, str] | None = None,
) -> Path:
    """Videos of dancers with clips at ``(first frame, number of frames)``.

    Frame n of a video has two lower left pixels blocks, of which the colour tells n.
    """
    data, videos = folder / "DATA", folder / "videos"
    (data / "poses").mkdir(parents=True)
    videos.mkdir()
    rows = []
    for number, (name, spans) in enumerate(clips_of_videos.items()):
        rng = np.random.default_rng(number)
        world = World.plain()
        num_frames = max(first + length for first, length in spans)
        character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=4.0)
        dance = render(character, motion, np.arange(num_frames) / FPS, height, width, fps=FPS)
        with VideoWriter(videos / name, height=height, width=width, fps=FPS, crf=4) as writer:
            for frame in dance.frames:
                writer.write(frame)
        for first, length in spans:
            clip = f"{Path(name).stem}-{first:05d}"
            poses = dance.poses[slice(first, first + length)]
            poses.save(data / "poses" / f"{clip}.npz")
            rows.append(
                PreparedClip(
                    clip=clip,
                    video=name,
                    first_frame=first,
                    num_frames=length,
                    fps=FPS,
                    width=width,
                    height=height,
                    poses=f"poses/{clip}.npz",
                    person_coverage=1.0,
                    body_confidence=0.9,
                    hand_confidence=0.9,
                    split=(split or {}).get(name, "train"),  # type: ignore[arg-type]
                )
            )
    write_json(data / "prepare.json", {"videos": str(videos), "videos_from_here": "../videos"})
    write_index(data, rows)
    return data
