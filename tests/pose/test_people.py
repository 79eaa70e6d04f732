"""Several people: paired from left to right or by name, fitted to their own bodies, drawn in depth order."""

import numpy as np
import pytest

from pose import PoseError, PoseSequence
from pose.people import depth_orders, fit_people, match_people, people_from_left
from pose.skeletons import BODY
from tests.pose.figures import beside, clip

LEFT = {"at": (30.0, 30.0), "size": 60.0}
RIGHT = {"at": (90.0, 40.0), "size": 90.0}


def pixels(poses: PoseSequence) -> np.ndarray:
    return poses.points * [poses.width, poses.height]


def movers() -> PoseSequence:
    """The right one first along P."""
    return beside(
        clip(num_frames=6, at=(95.0, 20.0), size=50.0), clip(num_frames=6, at=(20.0, 30.0), size=80.0)
    )


def test_people_are_paired_from_left_to_right():
    assert people_from_left(movers()) == [1, 0]
    assert match_people(movers(), beside(clip(**RIGHT), clip(**LEFT))) == [(1, 1), (0, 0)]


def test_pairs_can_be_named():
    reference = beside(clip(**LEFT), clip(**RIGHT))
    assert match_people(movers(), reference, {0: 1, 1: 0}) == [(0, 0), (1, 1)]
    assert match_people(movers(), reference, {1: 0}) == [(0, 0)]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ({2: 0}, r"person 2 of the clip, which shows 2 \(0 to 1, from the left\)"),
        ({0: 5}, "person 5 of the picture"),
        ({0: 1, 1: 1}, "only one person can move"),
    ],
)
def test_wrong_pairs_are_one_sentence(pairs, expected):
    with pytest.raises(PoseError, match=expected):
        match_people(movers(), beside(clip(**LEFT), clip(**RIGHT)), pairs)


def test_of_too_many_people_those_who_stay_are_taken():
    driving = beside(clip(num_frames=6, at=(20.0, 30.0)), clip(num_frames=6, at=(90.0, 30.0)))
    driving.scores[2:, 0] = 0.0
    assert match_people(driving, clip()) == [(1, 0)]


@pytest.mark.parametrize("mode", ["robust", "limbs"])
def test_everybody_is_fitted_to_their_own_body(mode):
    reference = beside(clip(**LEFT), clip(**RIGHT))
    fitted = fit_people(movers(), reference, mode=mode)
    expected = pixels(reference)[0][:, BODY]
    np.testing.assert_allclose(pixels(fitted)[3][:, BODY], expected, atol=2.5)
    told = fitted.metadata["alignment"]["people"]
    assert [(fit["driving"], fit["reference"]) for fit in told] == [(1, 0), (0, 1)]


def test_whoever_stands_lower_is_drawn_last_and_crossing_changes_it():
    behind, front = (
        clip(num_frames=11, fps=10.0),
        clip(num_frames=11, fps=10.0, at=(60.0, 20.0), step=(0.0, 2.0)),
    )
    orders = depth_orders(beside(behind, front))
    assert orders[0].tolist() == [1, 0]
    assert orders[-1].tolist() == [0, 1]
    assert (np.abs(np.diff(orders[:, 0])).sum()) == 1  # once, without flicker


def test_one_person_has_no_order():
    assert depth_orders(clip(num_frames=3)).tolist() == [[0], [0], [0]]
