"""Procedural dancers: random people who dance, with the exact pose of every frame.

Example::

    rng = np.random.default_rng(0)
    world = World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=2.0)
    clip = render(character, motion, np.arange(16) / 8, 128, 128)
"""

from mimic.data.synthetic.character import (
    Background,
    Body,
    Camera,
    Character,
    Light,
    Outfit,
    sample_character,
)
from mimic.data.synthetic.densepose import (
    DENSEPOSE_NAMES,
    densepose_palette,
    draw_densepose,
    mirror_densepose,
    read_densepose,
)
from mimic.data.synthetic.motion import Motion, sample_motion
from mimic.data.synthetic.noise import add_detector_noise
from mimic.data.synthetic.render import Clip, render
from mimic.data.synthetic.solids import LEFT_HAND, PART_NAMES, RIGHT_HAND
from mimic.data.synthetic.world import World

__all__ = [
    "DENSEPOSE_NAMES",
    "LEFT_HAND",
    "PART_NAMES",
    "RIGHT_HAND",
    "Background",
    "Body",
    "Camera",
    "Character",
    "Clip",
    "Light",
    "Motion",
    "Outfit",
    "World",
    "add_detector_noise",
    "densepose_palette",
    "draw_densepose",
    "mirror_densepose",
    "read_densepose",
    "render",
    "sample_character",
    "sample_motion",
]
