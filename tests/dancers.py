"""A small world for whole-chain tests: a dancer's picture, another's clip, and a model of random weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimic.dancers.character import sample_character
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import sample_motion
from mimic.dancers.render import render
from mimic.dancers.world import World
from mimic.video import AudioTrack, VideoWriter, write_image
from pose import PoseSequence
from tests.media import even_times, write_clip
from tests.tiny import random_pipeline

NUM_FRAMES, FPS, SIDE = 10, 10, 384
CLAPS = (0.2, 0.7)
DEFAULTS = {
    "height": 32,
    "width": 32,
    "tile_size": 6,
    "tile_overlap": 2,
    "num_inference_steps": 1,
    "min_guidance_scale": 1.0,
    "max_guidance_scale": 1.0,
    "canvas_short_side": 256,
    "warning": "This is a toy.",
}


@dataclass(frozen=True)
class Stage:
    """Where the files of the small world lie."""

    reference: Path
    reference_pose: PoseSequence
    driving: Path
    """With claps on its sound track."""
    driving_poses: PoseSequence
    model: Path


def make_stage(folder: Path) -> Stage:
    world = World.plain()
    rng = np.random.default_rng(1)
    picture = render(
        sample_character(rng, world), sample_motion(rng, world, duration_s=1), np.zeros(1), SIDE, SIDE
    )
    motion = sample_motion(rng, world, duration_s=1)
    clip = render(sample_character(rng, world), motion, np.arange(NUM_FRAMES) / FPS, SIDE, SIDE, fps=FPS)
    write_image(folder / "reference.png", picture.frames[0])
    clapping = write_clip(folder / "claps.mp4", even_times(30, 30), clap_times_s=CLAPS, sound_s=1.0)
    sound = AudioTrack(clapping, start_s=0.0, duration_s=1.0)
    with VideoWriter(folder / "driving.mp4", height=SIDE, width=SIDE, fps=FPS, audio=sound) as writer:
        for frame in clip.frames:
            writer.write(frame)
    pipeline = random_pipeline()
    pipeline.generation_defaults = dict(DEFAULTS)
    pipeline.save_pretrained(folder / "model")
    return Stage(
        folder / "reference.png",
        picture.poses,
        folder / "driving.mp4",
        clip.poses,
        folder / "model",
    )


def write_dancer(path: Path, dancer: RenderedClip) -> Path:
    """Write the frames of a dancer, 10 in a second."""
    with VideoWriter(path, height=SIDE, width=SIDE, fps=FPS) as writer:
        for frame in dancer.frames:
            writer.write(frame)
    return path
