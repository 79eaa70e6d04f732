"""Write rendered dancers to files: videos, and their poses and part maps."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.body_parts import draw_densepose
from mimic.dancers.character import sample_character
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import sample_motion
from mimic.dancers.noise import add_detector_noise
from mimic.dancers.render import render
from mimic.dancers.world import World
from mimic.files import remove_partial
from mimic.files import replace as replace_file
from mimic.results import PlainFiles, ResultError, hash_of_video, identity_of, set_aside
from mimic.video import VideoWriter
from pose import PoseError, PoseSequence

_WHOLE = {
    "num_clips": (1, 10**6),
    "height": (8, 8192),
    "width": (8, 8192),
    "seed": (0, 2**63 - 1),
    "supersample": (1, 16),
}
_NUMBERS = {"seconds": (0.001, 86_400.0), "fps": (0.01, 1000.0), "noise_strength": (0.0, 100.0)}
_BESIDE = ".mimic-synth"
_BYTES_A_PIXEL = 6  # bytes of picture, figure mask and both part maps of a `RenderedClip`
_MOST_BYTES = 8 << 30


def write_clip(
    clip: RenderedClip,
    out_path: str | os.PathLike[str],
    poses_path: str | os.PathLike[str] | None = None,
    densepose_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a clip's pictures as a video, its poses as npz, and its body parts as a video.

    Args:
        clip: result of `render`; videos have the frame rate of its poses.
        out_path: the video, ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv``.
        poses_path: file of the poses, ``.npz``; None writes none.
        densepose_path: video of the body parts in DensePose's colours, with a suffix as for `out_path`; None
            writes none.

    Returns:
        path of the video.

    Raises:
        ValueError, OSError: a file cannot be written; the message says which and why.
    """
    out_path = Path(out_path)
    _write_video(clip.frames, out_path, clip.poses.fps)
    if poses_path is not None:
        clip.poses.save(poses_path)
    if densepose_path is not None:
        height, width = clip.frames.shape[1:3]
        _write_video(draw_densepose(clip, height, width), Path(densepose_path), clip.poses.fps)
    return out_path


def _write_video(frames: NDArray[np.uint8], path: Path, fps: float) -> None:
    height, width = frames.shape[1:3]
    with VideoWriter(path, height=height, width=width, fps=fps) as writer:
        for frame in frames:
            writer.write(frame)


def synth(
    output_dir: str | os.PathLike[str],
    *,
    num_clips: int = 4,
    seconds: float = 4.0,
    fps: float = 12.0,
    height: int = 384,
    width: int = 384,
    seed: int = 0,
    world: str | World = "plain",
    noise_strength: float = 0.0,
    densepose: bool = False,
    supersample: int = 2,
    overwrite: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> list[Path]:
    """Render dancers to ``clip_0000.mp4`` and ``clip_0000.npz``, ``clip_0001.mp4``, and so on.

    A clip that is there and was made with the same arguments is kept.

    Args:
        output_dir: folder to write to, created if missing.
        num_clips: number of clips; clip i depends only on `seed` and i.
        seconds, fps: duration and frame rate of each clip.
        height, width: size of the pictures in pixels.
        seed: of all random choices.
        world: a name of `WORLDS` or a `World`.
        noise_strength: strength of simulated detector errors in the poses; 0 writes exact poses.
        densepose: also write the body parts, as ``clip_0000.densepose.mp4``.
        supersample: samples per pixel along each axis.
        overwrite: replace clips made with other arguments; if false, they are renamed to
            ``clip_0000.1.mp4``.
        progress: called with the numbers of finished clips and of all clips.

    Returns:
        paths of the videos.

    Raises:
        ValueError: a number is out of range, or the world is unknown; nothing was written.
        ResultError: a file with the name of a clip was not made by this function; nothing was written.
        OSError: a file cannot be written.
    """
    world = _world(world)
    _check_whole(num_clips=num_clips, height=height, width=width, seed=seed, supersample=supersample)
    _check_numbers(seconds=seconds, fps=fps, noise_strength=noise_strength)
    num_frames = round(seconds * fps)
    if num_frames < 1:
        raise ValueError(f"{seconds} s at {fps} frames a second hold no frame; use more seconds or fps")
    num_bytes = num_frames * height * width * _BYTES_A_PIXEL
    if num_bytes > _MOST_BYTES:
        raise ValueError(
            f"a clip of {num_frames} frames of {width}x{height} takes {num_bytes / 2**30:.0f} GiB of memory; "
            f"at most {_MOST_BYTES >> 30} GiB are allowed. Use less seconds, fps, height or width"
        )
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    remove_partial(output_dir / _BESIDE)
    arguments = {
        "seconds": seconds,
        "fps": fps,
        "size": (height, width),
        "seed": seed,
        "world": world,
        "noise_strength": noise_strength,
        "supersample": supersample,
    }
    clips = [_files(output_dir, i, densepose=densepose) for i in range(num_clips)]
    identities = [identity_of({"clip": i, **arguments}) for i in range(num_clips)]
    former = [_read_identity(files) for files in clips]
    for i, files in enumerate(clips):
        if former[i] != identities[i] or not all(path.is_file() for path in files):
            rng = np.random.default_rng([seed, i])
            character = sample_character(rng, world)
            motion = sample_motion(rng, world, duration_s=seconds)
            times_s = np.arange(num_frames) / fps
            clip = render(character, motion, times_s, height, width, supersample=supersample, fps=fps)
            if noise_strength > 0:
                clip = replace(clip, poses=add_detector_noise(clip.poses, rng, strength=noise_strength))
            with set_aside(files, is_kept=not overwrite):
                _write_clip(clip, files, identities[i])
        if progress is not None:
            progress(i + 1, num_clips)
    return [files.paths[0] for files in clips]


def _files(folder: Path, number: int, *, densepose: bool) -> PlainFiles:
    """The video, the poses, and the body parts if asked for."""
    video = folder / f"clip_{number:04d}.mp4"
    parts = (video.with_suffix(".densepose.mp4"),) if densepose else ()
    return PlainFiles((video, video.with_suffix(".npz"), *parts))


def _write_clip(clip: RenderedClip, files: PlainFiles, identity: str) -> None:
    """Write a clip whose poses say what it was made of.

    The videos are written in a folder beside and renamed after the poses, so that no video is ever there
    without the poses by which it is known again.
    """
    video, poses, *parts = files.paths
    folder = video.parent / _BESIDE
    folder.mkdir(exist_ok=True)
    videos = [folder / path.name for path in (video, *parts)]
    write_clip(clip, videos[0], densepose_path=videos[1] if parts else None)
    made = {path.name: hash_of_video(path) for path in videos}
    replace(clip.poses, metadata={**clip.poses.metadata, "identity": identity, "made": made}).save(poses)
    for path in videos:
        replace_file(path, video.parent / path.name)
    with contextlib.suppress(OSError):  # not empty: something is left of a run that was killed
        folder.rmdir()


def _read_identity(files: PlainFiles) -> str | None:
    """Identity of the clip that is there; None where there is none.

    Raises:
        ResultError: a file of one of these names was not made by `synth`.
    """
    there = [path for path in files if os.path.lexists(path)]
    if not there:
        return None
    poses = files.paths[1]
    try:
        found = PoseSequence.load(poses).metadata if poses.is_file() else {}
    except PoseError:
        found = {}
    made = found.get("made", {})
    for path in there:
        is_ours = "identity" in found if path == poses else made.get(path.name) == hash_of_video(path)
        if not is_ours:
            raise ResultError(
                f"{path} is there and was not made by `mimic synth`; it is not replaced. Choose another "
                "output folder, or move it away"
            )
    return str(found["identity"])


def _check_whole(**values: int) -> None:
    for name, value in values.items():
        least, most = _WHOLE[name]
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
            raise ValueError(f"{name} is {value!r}; expected a whole number from {least} to {most}")


def _check_numbers(**values: float) -> None:
    for name, value in values.items():
        least, most = _NUMBERS[name]
        is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            raise ValueError(f"{name} is {value!r}; expected a number from {least:g} to {most:g}")


def _world(world: str | World) -> World:
    if isinstance(world, World):
        return world
    return World.named(world)
