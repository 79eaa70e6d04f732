"""Views for pose estimators: what each shows is what its name says, and the seed decides."""

from dataclasses import replace

import numpy as np
import pytest

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.background import paint_background
from mimic.dancers.rooms import paint_pattern, paint_room
from mimic.dancers.views import CHEST, HIPS, SHOULDERS, crossing, framed, seated, turning
from pose.skeletons import LEFT_ANKLE, LEFT_HIP, LEFT_KNEE, LEFT_SHOULDER, LEFT_WRIST, NOSE, RIGHT_SHOULDER

SIZE = 64


def dancer(seed: int):
    rng, world = np.random.default_rng(seed), replace(World.plain(), turn_deg=20.0)
    return sample_character(rng, world), sample_motion(rng, world, duration_s=2.0), rng


def pictured(character, motion, times=(0.5,)):
    return render(character, motion, times, SIZE, SIZE, supersample=1)


@pytest.mark.parametrize(
    ("lower", "inside", "outside"),
    [
        (SHOULDERS, [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER], [LEFT_HIP, LEFT_KNEE]),
        (CHEST, [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER], [LEFT_HIP, LEFT_KNEE]),
        (HIPS, [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP], [LEFT_KNEE, LEFT_ANKLE]),
    ],
)
def test_a_framed_body_ends_where_it_is_asked_to(lower, inside, outside):
    for seed in range(5):
        character, motion, rng = dancer(seed)
        scores = pictured(framed(character, rng, lower), motion).poses.scores[0, 0]
        assert (scores[inside] > 0).all()
        assert (scores[outside] == 0).all()


def test_who_sits_has_bent_knees_and_keeps_the_arms():
    for seed in range(5):
        character, motion, rng = dancer(seed)
        sitting, standing = (
            pictured(character, one).poses.points[0, 0]
            for one in (seated(motion, character.body, rng), motion)
        )
        assert sitting[LEFT_HIP, 1] > standing[LEFT_HIP, 1] + 0.15  # lower in the picture
        assert sitting[LEFT_ANKLE, 1] - sitting[LEFT_HIP, 1] < standing[LEFT_ANKLE, 1] - standing[LEFT_HIP, 1]
        arms = [points[LEFT_WRIST, 1] - points[LEFT_SHOULDER, 1] for points in (sitting, standing)]
        assert arms[0] == pytest.approx(arms[1], abs=0.05)


def test_a_turn_shows_front_back_and_front_again():
    character, motion, _ = dancer(0)
    clip = pictured(character, turning(motion, turns_per_second=0.5), np.arange(9) / 4)
    across = clip.poses.points[:, 0, LEFT_SHOULDER, 0] - clip.poses.points[:, 0, RIGHT_SHOULDER, 0]
    assert across[0] > 0
    assert across[4] < 0
    assert across[8] > 0


def test_two_dancers_change_places_and_the_one_behind_is_hidden():
    clips = [pictured(*dancer(seed)[:2], np.arange(9) / 4) for seed in (0, 1)]
    background = paint_background(dancer(0)[0].background, SIZE, 2 * SIZE)
    clip = crossing(clips[0], clips[1], background)
    noses = clip.poses.points[:, :, NOSE, 0]
    assert noses[0, 1] - noses[0, 0] > 0.2
    assert noses[-1, 0] - noses[-1, 1] > 0.2
    behind, front = clip.poses.scores[4, 0, :14], clip.poses.scores[4, 1, :14]
    assert (behind <= 0.1).sum() > (front <= 0.1).sum()
    assert clip.frames.shape == (9, SIZE, 2 * SIZE, 3)
    assert clip.figure_mask[0].sum() > clip.figure_mask[4].sum()  # one hides the other


@pytest.mark.parametrize("paint", [paint_room, paint_pattern])
def test_rooms_and_patterns_follow_the_seed(paint):
    first, again, other = (paint(np.random.default_rng(seed), 60, 80) for seed in (1, 1, 2))
    assert first.shape == (60, 80, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
