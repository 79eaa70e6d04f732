"""Render picture and clip of the demonstration: `python -m mimic.dancers.demo mimic/assets/demo`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from mimic.dancers.character import sample_character
from mimic.dancers.motion import sample_motion
from mimic.dancers.render import render
from mimic.dancers.world import World
from mimic.dancers.write import write_clip

REFERENCE_SEED = 1_000_000
DRIVING_SEED = 1_000_006
SIZE = 384
SECONDS, FPS = 4.0, 10.0


def make_demo(folder: Path) -> None:
    """Write `reference.png`; `driving.mp4` of a dancer with another appearance and other proportions; and
    `driving.densepose.mp4`, the body parts of that dancer."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(REFERENCE_SEED)
    world = World.plain()
    character = sample_character(rng, world)
    motion = sample_motion(rng, world, duration_s=8.0)
    picture = render(character, motion, [0.2], SIZE, SIZE, supersample=3)
    Image.fromarray(picture.frames[0]).save(folder / "reference.png", optimize=True)

    rng = np.random.default_rng(DRIVING_SEED)
    other_world = replace(world, proportion_variation=0.15, zoom=(0.88, 0.88))
    other = sample_character(rng, other_world)
    motion = sample_motion(rng, other_world, duration_s=8.0)
    times = np.arange(round(SECONDS * FPS)) / FPS
    clip = render(other, motion, times, SIZE, SIZE, supersample=3)
    write_clip(clip, folder / "driving.mp4", densepose_path=folder / "driving.densepose.mp4")


if __name__ == "__main__":
    make_demo(Path(sys.argv[1] if len(sys.argv) > 1 else "mimic/assets/demo"))
