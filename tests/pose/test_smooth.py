"""Smoothing: less jitter, no delay, nothing mixed that does not belong together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose import PoseError, PoseSequence, smooth_pose
from pose.types import concatenate
from tests.pose.figures import beside, clip


def test_window_of_one_changes_nothing():
    poses = clip(num_frames=5, jitter=2.0)
    np.testing.assert_array_equal(smooth_pose(poses, window=1).points, poses.points)


def test_resting_points_stay_exactly():
    poses = clip(num_frames=9)
    np.testing.assert_array_equal(smooth_pose(poses).points, poses.points)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([3, 5, 7, 11]), st.integers(2, 15))
def test_steady_motion_is_unchanged_whatever_the_scores(seed, window, num_frames):
    rng = np.random.default_rng(seed)
    poses = clip(num_frames=num_frames, step=tuple(rng.uniform(-4, 4, 2)))
    scores = rng.uniform(0.0, 1.0, poses.scores.shape)
    scores[rng.random(scores.shape) < 0.2] = 0.0
    poses = PoseSequence(poses.points, scores, 160, 120)
    np.testing.assert_allclose(smooth_pose(poses, window=window).points, poses.points, atol=1e-7)


def test_jitter_becomes_less_with_the_window():
    still, shaky = clip(num_frames=60), clip(num_frames=60, jitter=1.0)
    left = [np.std(smooth_pose(shaky, window=w).points - still.points) for w in (1, 3, 5, 9)]
    assert left == sorted(left, reverse=True)
    assert left[2] < 0.65 * left[0]


def test_nothing_is_delayed():
    """A symmetric bump keeps its middle; a clip run backwards is smoothed as forwards."""
    poses = clip(num_frames=21, jitter=1.0)
    backwards = smooth_pose(poses[np.arange(21)[::-1]], window=7)
    forwards = smooth_pose(poses, window=7)
    np.testing.assert_allclose(backwards.points[::-1], forwards.points, atol=1e-12)
    bump = clip(num_frames=21)
    bump.points[..., 1] += 0.05 * np.exp(-(((np.arange(21) - 10) / 2) ** 2))[:, None, None]
    smoothed = smooth_pose(bump, window=7).points[:, 0, 0, 1]
    assert smoothed.argmax() == 10


def test_sure_frames_pull_unsure_ones():
    poses = clip(num_frames=9)
    poses.points[4] += 0.05
    pulled = {}
    for score in (0.05, 0.9):
        poses.scores[4] = score
        pulled[score] = np.abs(smooth_pose(poses).points - clip(num_frames=9).points).max(axis=(1, 2, 3))
    assert pulled[0.05][4] < 0.01 < pulled[0.9][4]
    assert pulled[0.05][3] < pulled[0.9][3] / 5


def test_scores_and_everything_else_stay():
    poses = clip(num_frames=6, jitter=1.0)
    smoothed = smooth_pose(poses)
    np.testing.assert_array_equal(smoothed.scores, poses.scores)
    np.testing.assert_array_equal(smoothed.is_present, poses.is_present)
    assert (smoothed.fps, smoothed.metadata) == (poses.fps, poses.metadata)


@pytest.mark.parametrize("how", ["padding", "scores"])
def test_nothing_is_mixed_across_an_absence(how):
    first, second = clip(num_frames=5, jitter=1.0), clip(num_frames=5, jitter=1.0, seed=1, at=(64.0, 32.0))
    gap = clip(at=(-300.0, 900.0))
    if how == "padding":
        gap = PoseSequence(gap.points, gap.scores, 160, 120, is_present=np.zeros((1, 1), bool))
    else:
        gap.scores[:] = 0.0
    smoothed = smooth_pose(concatenate([first, gap, second]), window=7)
    np.testing.assert_allclose(smoothed.points[:5], smooth_pose(first, window=7).points, atol=1e-12)
    np.testing.assert_allclose(smoothed.points[6:], smooth_pose(second, window=7).points, atol=1e-12)
    np.testing.assert_array_equal(smoothed.points[5], gap.points[0])


def test_nothing_is_mixed_across_a_jump():
    first, second = clip(num_frames=5, jitter=1.0), clip(num_frames=5, jitter=1.0, seed=1, at=(150.0, 40.0))
    smoothed = smooth_pose(concatenate([first, second]), window=7)
    np.testing.assert_allclose(smoothed.points[:5], smooth_pose(first, window=7).points, atol=1e-12)
    np.testing.assert_allclose(smoothed.points[5:], smooth_pose(second, window=7).points, atol=1e-12)


def test_people_are_smoothed_each_for_themselves():
    one, other = clip(num_frames=6, jitter=1.0), clip(num_frames=6, jitter=1.0, seed=1, at=(90.0, 20.0))
    both = smooth_pose(beside(one, other))
    np.testing.assert_array_equal(both.points[:, :1], smooth_pose(one).points)
    np.testing.assert_array_equal(both.points[:, 1:], smooth_pose(other).points)


def test_a_point_without_score_stays_and_moves_no_other():
    poses = clip(num_frames=7)
    poses.points[3, 0, 4] = 0.9
    poses.scores[3, 0, 4] = 0.0
    np.testing.assert_array_equal(smooth_pose(poses).points, poses.points)


def test_clips_shorter_than_the_window_and_without_people():
    assert len(smooth_pose(clip(num_frames=2, jitter=1.0), window=9)) == 2
    nobody = PoseSequence(np.zeros((3, 0, 134, 2)), np.zeros((3, 0, 134)), 8, 8)
    assert smooth_pose(nobody).num_people == 0


@pytest.mark.parametrize("arguments", [{"window": 4}, {"window": 0}, {"window": -3}, {"jump": 0.0}])
def test_wrong_arguments_are_pose_errors(arguments):
    with pytest.raises(PoseError):
        smooth_pose(clip(num_frames=3), **arguments)
