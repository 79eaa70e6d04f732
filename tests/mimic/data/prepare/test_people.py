"""Which stretches show the person, and when others are there."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic.data.prepare.people import between, confidence, has_others, is_seen, stretches
from pose import PoseSequence
from pose.skeletons import BODY, HANDS
from pose.types import NUM_POINTS


def _figures(*boxes: tuple[float, float, float, float]) -> PoseSequence:
    """One frame of 100 x 200 pixels with people who fill these boxes (fractions)."""
    rng = np.random.default_rng(0)
    spread = rng.random((NUM_POINTS, 2))
    spread[BODY][:2] = [[0, 0], [1, 1]]
    points = np.array([spread * (np.subtract(box[2:], box[:2])) + box[:2] for box in boxes])
    return PoseSequence(points[None], np.ones((1, len(boxes), NUM_POINTS)), height=200, width=100)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 5))
def test_stretches_hold_every_seen_frame_and_no_longer_gap(seen, max_gap):
    found = stretches(np.array(seen, dtype=bool), max_gap)
    inside = {frame for first, end in found for frame in range(first, end)}
    assert {i for i, is_there in enumerate(seen) if is_there} <= inside
    for first, end in found:
        assert seen[first]
        assert seen[end - 1]
        gap = longest = 0
        for is_there in seen[first:end]:
            gap = 0 if is_there else gap + 1
            longest = max(longest, gap)
        assert longest <= max_gap
    for (_, end), (first, _) in itertools.pairwise(found):
        assert first - end > max_gap


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 5))
def test_stretches_and_what_lies_between_are_all_frames_once(seen, max_gap):
    found = stretches(np.array(seen, dtype=bool), max_gap)
    frames = [i for first, end in [*found, *between(found, len(seen))] for i in range(first, end)]
    assert sorted(frames) == list(range(len(seen)))


def test_coverage_counts_frames_and_confidences_are_of_the_seen_ones():
    scores = np.zeros((4, 1, NUM_POINTS))
    scores[:3, 0, BODY], scores[:3, 0, HANDS[0]], scores[:3, 0, HANDS[1]] = 0.8, 0.5, 0.1
    poses = PoseSequence(np.zeros((4, 1, NUM_POINTS, 2)), scores, height=10, width=10)
    assert is_seen(poses).tolist() == [True, True, True, False]
    measured = confidence(poses)
    assert (measured.coverage, measured.body, measured.hands) == pytest.approx((0.75, 0.8, 0.3))


def test_another_person_beside_counts_and_the_same_one_found_twice_does_not():
    me = _figures((0.1, 0.1, 0.4, 0.9))
    assert not has_others(me, _figures((0.12, 0.11, 0.41, 0.9)), 0.4)
    assert has_others(me, _figures((0.1, 0.1, 0.4, 0.9), (0.6, 0.2, 0.9, 0.9)), 0.4)


def test_small_people_in_the_background_do_not_count():
    me, small = _figures((0.1, 0.1, 0.4, 0.9)), (0.8, 0.4, 0.9, 0.6)
    assert not has_others(me, _figures(small), 0.4)
    assert has_others(me, _figures(small), 0.2)


def test_half_a_body_does_not_count_as_another_person():
    me, other = _figures((0.1, 0.1, 0.4, 0.9)), _figures((0.6, 0.2, 0.9, 0.9))
    other.scores[0, 0, 7:] = 0
    assert not has_others(me, other, 0.4)
