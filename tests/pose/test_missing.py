"""Frames without the person: cut, held, faded or refused, and never those of a bridged gap."""

from dataclasses import replace

import numpy as np
import pytest

from pose import PoseError, PoseSequence
from pose.missing import fill_missing, missing_stretches
from tests.pose.figures import beside, clip


def without(frames: slice, num_frames: int = 20) -> PoseSequence:
    poses = clip(num_frames=num_frames, fps=10.0, step=(1.0, 0.0))
    scores = poses.scores.copy()
    scores[frames] = 0.0
    return replace(poses, scores=scores)


def test_cut_changes_nothing():
    poses = without(slice(5, 12))
    assert fill_missing(poses, "cut") is poses


def test_hold_keeps_the_last_pose_and_at_the_start_the_first():
    held = fill_missing(without(slice(5, 12)), "hold")
    np.testing.assert_array_equal(held.points[11], held.points[4])
    np.testing.assert_array_equal(held.scores[5:12], np.full((7, 1, 134), 0.9))
    start = fill_missing(without(slice(0, 6)), "hold")
    np.testing.assert_array_equal(start.points[0], start.points[6])


def test_fade_ends_within_half_a_second_on_both_sides():
    faded = fill_missing(without(slice(2, 18)), "fade").scores[:, 0, 0]
    assert (np.diff(faded[1:7]) < 0).all()
    np.testing.assert_allclose(faded[7:13], 0.0, atol=1e-9)
    assert (np.diff(faded[13:19]) > 0).all()


def test_fail_names_the_stretches_and_the_remedy():
    with pytest.raises(PoseError, match=r"7 of 20 frames \(0\.5–1\.2 s\).*missing: hold"):
        fill_missing(without(slice(5, 12)), "fail")
    assert len(fill_missing(clip(num_frames=3), "fail")) == 3


def test_stretches_that_bridging_covers_are_left():
    poses = without(slice(5, 8))
    assert missing_stretches(poses, longer_than=0.3) == []
    assert missing_stretches(poses, longer_than=0.2) == [(5, 8)]
    np.testing.assert_array_equal(fill_missing(poses, "hold", longer_than=0.3).scores, poses.scores)


def test_who_comes_or_leaves_among_several_is_not_invented():
    both = beside(clip(num_frames=20, fps=10.0), without(slice(0, 5)))
    assert (fill_missing(both, "hold").scores[:5, 1] == 0).all()
    both = beside(clip(num_frames=20, fps=10.0), without(slice(5, 12)))
    assert (fill_missing(both, "hold").scores[:, 1] > 0).all()


def test_an_unknown_choice_is_a_pose_error():
    with pytest.raises(PoseError, match="cut, hold, fade, fail"):
        fill_missing(clip(), "guess")
