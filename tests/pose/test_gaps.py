"""Bridging: short gaps fade, long ones stay, nothing else moves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.dancers import World, render, sample_character, sample_motion
from pose import PoseError, bridge_gaps
from pose.skeletons import LEFT_HAND, LEFT_WRIST, RIGHT_HAND
from pose.types import concatenate
from tests.pose.figures import clip


def without_hand(poses, frames, hand=LEFT_HAND):
    """As an estimator that misses the hand: scores 0 at (0, 0)."""
    points, scores = poses.points.copy(), poses.scores.copy()
    for frame in frames:
        points[frame, :, hand], scores[frame, :, hand] = 0.0, 0.0
    return replace(poses, points=points, scores=scores)


def test_a_short_gap_of_a_hand_is_filled_and_fades():
    poses = clip(num_frames=20, step=(1.0, 0.5), fps=25.0)
    bridged = bridge_gaps(without_hand(poses, range(8, 13)))
    np.testing.assert_allclose(bridged.points, poses.points, atol=1e-9)
    scores = bridged.scores[7:14, 0, LEFT_HAND.start]
    assert (np.diff(scores) < 0).tolist() == [True] * 3 + [False] * 3
    assert 0.3 < scores.min() < 0.7 * scores[0]
    np.testing.assert_array_equal(bridged.scores[:, :, RIGHT_HAND], poses.scores[:, :, RIGHT_HAND])


def test_a_hand_moves_with_its_wrist_through_a_gap():
    poses = clip(num_frames=12)
    poses.points[:, 0, LEFT_WRIST, 1] += 0.1 * np.sin(np.arange(12))
    poses.points[:, 0, LEFT_HAND, 1] += 0.1 * np.sin(np.arange(12))[:, None]
    bridged = bridge_gaps(without_hand(poses, range(4, 8)))
    np.testing.assert_allclose(bridged.points, poses.points, atol=1e-9)


@pytest.mark.parametrize(("frames", "fps"), [(range(4, 12), 25.0), (range(4, 8), 10.0), (range(0, 3), 25.0),
                                             (range(17, 20), 25.0)])  # fmt: skip
def test_long_gaps_and_the_ends_of_a_clip_are_not_invented(frames, fps):
    poses = without_hand(clip(num_frames=20, fps=fps), frames)
    assert bridge_gaps(poses) is poses


@pytest.mark.parametrize(
    ("seconds", "num_frames", "is_bridged"), [(0.3, 3, True), (0.3, 4, False), (0.4, 4, True)]
)
def test_the_longest_gap_is_in_seconds(seconds, num_frames, is_bridged):
    poses = without_hand(clip(num_frames=20, fps=10.0), range(5, 5 + num_frames))
    assert (bridge_gaps(poses, seconds) is not poses) == is_bridged


def test_zero_switches_it_off():
    poses = without_hand(clip(num_frames=9), [4])
    assert bridge_gaps(poses, 0.0) is poses


def test_a_person_who_is_missed_for_some_frames_is_bridged_but_not_across_a_jump():
    poses = clip(num_frames=12, step=(1.0, 0.0))
    scores = poses.scores.copy()
    scores[4:7] = 0.0
    points = poses.points.copy()
    points[4:7] = points[3]  # carried
    bridged = bridge_gaps(replace(poses, points=points, scores=scores))
    np.testing.assert_allclose(bridged.points, poses.points, atol=1e-9)
    assert (bridged.scores > 0).all()
    other = clip(num_frames=5, at=(300.0, 30.0))
    gap = replace(poses[:3], scores=np.zeros((3, 1, 134)))
    apart = concatenate([poses[:4], gap, other])
    assert bridge_gaps(apart) is apart
    padded = replace(poses, scores=scores, is_present=(scores > 0).any(axis=2))
    assert bridge_gaps(padded).is_present.all()


def test_a_gap_beside_an_unsure_frame_stays():
    poses = clip(num_frames=9)
    poses.scores[5, :, LEFT_HAND] = 0.2
    poses = without_hand(poses, [4])
    assert bridge_gaps(poses) is poses


def test_bridged_hands_are_near_the_truth():
    """On a rendered dancer: gaps of four frames of 25 a second, error in body heights."""
    rng, world = np.random.default_rng(0), World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=2.0)
    truth = render(character, motion, np.arange(50) / 25, 48, 48, supersample=1, fps=25).poses
    truth = replace(truth, scores=np.full_like(truth.scores, 0.9))
    gaps = [frame for start in (5, 15, 25, 35) for frame in range(start, start + 4)]
    bridged = bridge_gaps(without_hand(truth, gaps))
    errors = np.linalg.norm(bridged.points - truth.points, axis=-1)[gaps][:, 0, LEFT_HAND]
    assert np.median(errors) < 0.01
    assert (bridged.scores[gaps][:, :, LEFT_HAND] > 0.3).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_what_has_a_score_is_never_touched(seed, seconds):
    rng = np.random.default_rng(seed)
    poses = clip(num_frames=10, fps=10.0, jitter=1.0, seed=seed)
    scores = np.where(rng.random(poses.scores.shape) < 0.4, 0.0, rng.uniform(0, 1, poses.scores.shape))
    poses = replace(poses, scores=scores)
    bridged = bridge_gaps(poses, seconds)
    is_seen = scores > 0
    np.testing.assert_array_equal(bridged.points[is_seen], poses.points[is_seen])
    np.testing.assert_array_equal(bridged.scores[is_seen], scores[is_seen])
    assert np.isfinite(bridged.points).all()
    assert (bridged.scores <= 1).all()


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_wrong_lengths_are_pose_errors(seconds):
    with pytest.raises(PoseError, match="seconds cannot be bridged"):
        bridge_gaps(clip(num_frames=3), seconds)
