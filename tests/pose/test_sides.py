"""Left and right: short exchanges are undone, real turns and everything else stay."""

from dataclasses import replace

import numpy as np
import pytest

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.views import turning
from pose import PoseSequence, smooth_pose
from pose.sides import is_flip, repair_sides
from pose.skeletons import BODY, FACE, LEFT_SHOULDER, LEFT_WRIST, MIRROR, NOSE, RIGHT_SHOULDER
from pose.types import concatenate
from tests.pose.figures import beside, clip


def exchanged(poses: PoseSequence, frames) -> PoseSequence:
    """Left and right of body, feet and hands exchanged in some frames, as a detector would."""
    order = np.where(np.isin(np.arange(134), np.arange(134)[FACE]), np.arange(134), MIRROR)
    points, scores = poses.points.copy(), poses.scores.copy()
    points[frames], scores[frames] = points[frames][:, :, order], scores[frames][:, :, order]
    return replace(poses, points=points, scores=scores)


def without_face(poses: PoseSequence) -> PoseSequence:
    poses.scores[:, :, FACE] = 0.0
    return poses


@pytest.fixture(scope="module")
def turn() -> PoseSequence:
    """Exact poses of a dancer who turns once around in two seconds."""
    rng, world = np.random.default_rng(1), World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=2.0)
    motion = turning(motion, turns_per_second=0.5)
    return render(character, motion, np.arange(50) / 25, 48, 48, supersample=1, fps=25).poses


def test_a_short_exchange_is_undone():
    poses = without_face(clip(num_frames=20, step=(1.0, 0.0), jitter=0.5))
    repaired = repair_sides(exchanged(poses, [8, 9, 10]))
    np.testing.assert_array_equal(repaired.points, poses.points)
    np.testing.assert_array_equal(repaired.scores, poses.scores)


@pytest.mark.parametrize("frames", [[0, 1], [18, 19]])
def test_an_exchange_at_either_end_is_undone(frames):
    poses = without_face(clip(num_frames=20))
    np.testing.assert_array_equal(repair_sides(exchanged(poses, frames)).points, poses.points)


def test_a_real_turn_stays_as_it_is(turn):
    assert repair_sides(turn) is turn
    assert not is_flip(turn).any()
    across = turn.points[:, 0, LEFT_SHOULDER, 0] - turn.points[:, 0, RIGHT_SHOULDER, 0]
    assert across.max() > 0.05
    assert across.min() < -0.05  # it was a turn


@pytest.mark.parametrize("first", [5, 24, 44])
def test_an_exchange_within_a_turn_is_undone(turn, first):
    wrong = exchanged(turn, np.arange(first, first + 4))
    repaired = repair_sides(wrong)
    paired = np.arange(2, 14)
    np.testing.assert_array_equal(repaired.points[:, :, paired], turn.points[:, :, paired])


def test_a_long_exchange_is_left_but_ends_the_stretch_that_is_smoothed():
    poses = without_face(clip(num_frames=60, fps=25.0))
    wrong = exchanged(poses, np.arange(20, 45))
    assert repair_sides(wrong) is wrong
    np.testing.assert_array_equal(np.flatnonzero(is_flip(wrong)[:, 0]), [19, 44])
    np.testing.assert_array_equal(smooth_pose(wrong).points, wrong.points)  # nobody is folded to a line


def test_a_face_tells_which_of_two_assignments_is_wrong():
    poses = clip(num_frames=60, fps=25.0)
    for point, x in ((0, -0.04), (16, 0.04), (30, 0.0)):  # the face is seen from the front throughout
        poses.points[:, :, FACE.start + point, 0] = poses.points[:, :, NOSE, 0] + x
    repaired = repair_sides(exchanged(poses, np.arange(20, 45)))
    np.testing.assert_array_equal(repaired.points, poses.points)


def test_a_back_without_a_face_tells_the_same():
    """Somebody with a face, then a back of which half is exchanged: that half is the wrong one."""
    front = clip(num_frames=10, fps=25.0)
    back = exchanged(without_face(clip(num_frames=8, fps=25.0)), np.arange(8))
    back.scores[:, :, [0, 14, 15]] = 0.0
    poses = concatenate([front, back])
    repaired = repair_sides(exchanged(poses, np.arange(10, 14)))
    np.testing.assert_array_equal(repaired.points, poses.points)


def test_each_person_is_repaired_alone_and_absence_ends_a_stretch():
    one, other = clip(num_frames=12), clip(num_frames=12, at=(90.0, 30.0))
    people = without_face(beside(one, other))
    wrong = exchanged(people, [5])
    wrong.points[:, 1], wrong.scores[:, 1] = people.points[:, 1], people.scores[:, 1]
    np.testing.assert_array_equal(repair_sides(wrong).points, people.points)
    gap = replace(one[0], scores=np.zeros_like(one[0].scores))
    turned = exchanged(one, np.arange(12))
    apart = without_face(concatenate([one, gap, turned]))
    assert repair_sides(apart) is apart


def test_who_looks_away_after_the_repair_has_no_nose():
    back = exchanged(without_face(clip(num_frames=20)), np.arange(20))  # as seen from behind
    back.scores[:, :, [0, 14, 15]] = 0.0
    wrong = exchanged(back, [9])
    wrong.scores[9, :, [0, 14, 15]] = 0.9
    repaired = repair_sides(wrong)
    np.testing.assert_array_equal(repaired.points[:, :, LEFT_WRIST], back.points[:, :, LEFT_WRIST])
    assert (repaired.scores[:, :, NOSE] == 0).all()


def test_unseen_joints_and_nobody_are_no_flip():
    nobody = PoseSequence(np.zeros((3, 0, 134, 2)), np.zeros((3, 0, 134)), 8, 8)
    assert is_flip(nobody).shape == (2, 0)
    assert repair_sides(nobody) is nobody
    unseen = exchanged(clip(num_frames=4, score=0.2), [2])
    assert not is_flip(unseen).any()
    single = clip()
    assert repair_sides(single) is single
    assert is_flip(single).shape == (0, 1)
    assert single.points[:, :, BODY].shape[2] == 18
