"""What the tests of several commands share."""

import numpy as np
import pytest

from mimic.dancers.character import sample_character
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import sample_motion
from mimic.dancers.render import render
from mimic.dancers.world import World


@pytest.fixture(scope="session")
def dancer() -> RenderedClip:
    rng = np.random.default_rng(1)
    world = World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=1)
    return render(character, motion, np.arange(4) / 10, 384, 384, supersample=1, fps=10)
