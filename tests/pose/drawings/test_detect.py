"""Drawn skeletons are told from pictures of people."""

import numpy as np
import pytest

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.rooms import paint_pattern, paint_room
from pose import draw_pose
from pose.drawings import is_skeleton_drawing
from tests.pose.figures import beside, clip


@pytest.mark.parametrize("mode", ["confidence", "binary"])
@pytest.mark.parametrize("canvas", [512, 2160])
def test_drawn_skeletons_are_recognised(mode, canvas):
    one, other = clip(score=0.8), clip(score=0.8, at=(90.0, 40.0), size=60.0)
    for poses in (one, beside(one, other)):
        assert is_skeleton_drawing(draw_pose(poses, 256, 192, mode=mode, canvas_short_side=canvas)[0])


def test_pictures_of_people_rooms_and_patterns_are_none():
    for seed in range(4):
        rng, world = np.random.default_rng(seed), World.rich()
        character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=1.0)
        clip_ = render(character, motion, [0.3], 96, 96, supersample=1)
        on_black = np.where(clip_.figure_mask[0][..., None], clip_.frames[0], 0).astype(np.uint8)
        dark = (clip_.frames[0] * 0.1).astype(np.uint8)
        pictures = [clip_.frames[0], on_black, dark, paint_room(rng, 90, 120), paint_pattern(rng, 90, 120)]
        assert not any(is_skeleton_drawing(picture) for picture in pictures)


def test_black_white_and_noise_are_none():
    assert not is_skeleton_drawing(np.zeros((40, 50, 3), np.uint8))
    assert not is_skeleton_drawing(np.full((40, 50, 3), 255, np.uint8))
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    assert not is_skeleton_drawing(noise)
