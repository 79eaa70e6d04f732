"""Write rendered dancers to files: videos, and their poses and part maps."""

from __future__ import annotations

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
from mimic.video import VideoWriter

_WHOLE = {
    "num_clips": (1, 10**6),
    "height": (8, 8192),
    "width": (8, 8192),
    "seed": (0, 2**63 - 1),
    "supersample": (1, 16),
}
_NUMBERS = {"seconds": (0.001, 86_400.0), "fps": (0.01, 1000.0), "noise_strength": (0.0, 100.0)}
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
    progress: Callable[[int, int | None], None] | None = None,
) -> list[Path]:
    """Render dancers to ``clip_0000.mp4`` and ``clip_0000.npz``, ``clip_0001.mp4``, and so on.

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
        progress: called with the numbers of finished clips and of all clips.

    Returns:
        paths of the videos.

    Raises:
        ValueError: a number is out of range, or the world is unknown; nothing was written.
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
    paths = []
    for i in range(num_clips):
        rng = np.random.default_rng([seed, i])
        character = sample_character(rng, world)
        motion = sample_motion(rng, world, duration_s=seconds)
        clip = render(
            character, motion, np.arange(num_frames) / fps, height, width, supersample=supersample, fps=fps
        )
        if noise_strength > 0:
            noisy = add_detector_noise(clip.poses, rng, strength=noise_strength)
            clip = replace(clip, poses=noisy)
        path = output_dir / f"clip_{i:04d}.mp4"
        parts = path.with_suffix(".densepose.mp4") if densepose else None
        paths.append(write_clip(clip, path, path.with_suffix(".npz"), parts))
        if progress is not None:
            progress(i + 1, num_clips)
    return paths


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
