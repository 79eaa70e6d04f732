"""Procedural dancers: random dancing people, rendered with the exact pose of every frame.

Example::

    rng = np.random.default_rng(0)
    world = World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=2.0)
    clip = render(character, motion, np.arange(16) / 8, 128, 128)
"""

from mimic.dancers.body_parts import draw_densepose
from mimic.dancers.character import (
    Background,
    Body,
    Camera,
    Character,
    Light,
    Outfit,
    sample_character,
)
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import Motion, sample_motion
from mimic.dancers.noise import add_detector_noise
from mimic.dancers.render import render
from mimic.dancers.solids import LEFT_HAND, PART_NAMES, RIGHT_HAND
from mimic.dancers.world import WORLDS, World

__all__ = [
    "LEFT_HAND",
    "PART_NAMES",
    "RIGHT_HAND",
    "WORLDS",
    "Background",
    "Body",
    "Camera",
    "Character",
    "Light",
    "Motion",
    "Outfit",
    "RenderedClip",
    "World",
    "add_detector_noise",
    "draw_densepose",
    "render",
    "sample_character",
    "sample_motion",
]
