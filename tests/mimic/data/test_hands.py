"""The share of frames with masked hands, and what another threshold would give, are said before training."""

import numpy as np
import pytest

from mimic.data.hands import all_thresholds, describe, hand_shares
from pose import PoseSequence
from pose.skeletons import HANDS
from pose.types import NUM_POINTS


def clip(lowest: list[float]) -> PoseSequence:
    """One person whose left hand's least sure point has these scores, frame by frame; the right is unseen."""
    points = np.random.default_rng(0).uniform(0.2, 0.8, (len(lowest), 1, NUM_POINTS, 2))
    scores = np.zeros((len(lowest), 1, NUM_POINTS))
    for frame, score in enumerate(lowest):
        scores[frame, 0, HANDS[0]] = 0.99
        scores[frame, 0, HANDS[0].start + 3] = score
    return PoseSequence(points=points, scores=scores, height=64, width=64, fps=8.0)


def test_a_frame_counts_when_all_points_of_a_hand_exceed_the_threshold():
    shares = hand_shares([clip([0.85, 0.75]), clip([0.55, 0.1])], all_thresholds(0.8))
    assert shares[0.8] == 0.25
    assert shares[0.7] == 0.5
    assert shares[0.5] == 0.75
    assert describe(shares, 0.8) == "25% of the frames have a hand mask (data.hand_threshold 0.8)"


def test_where_hands_are_rarely_sure_the_thresholds_that_give_more_are_said():
    shares = hand_shares([clip([0.75, 0.55, 0.1, 0.1])], all_thresholds(0.8))
    assert describe(shares, 0.8).startswith("0% of the frames have a hand mask (data.hand_threshold 0.8); ")
    assert "0.7 gives 25%, 0.6 gives 25%, 0.5 gives 50%" in describe(shares, 0.8)


def test_no_frames_have_no_hands():
    assert hand_shares([], [0.8]) == {0.8: 0.0}
    assert describe({0.8: 0.0}, 0.8) == "0% of the frames have a hand mask (data.hand_threshold 0.8)"


@pytest.mark.parametrize("threshold", [0.8, 0.65])
def test_the_threshold_in_use_is_among_those_looked_at(threshold):
    assert threshold in all_thresholds(threshold)
    assert all_thresholds(threshold) == sorted(set(all_thresholds(threshold)), reverse=True)
