"""The benchmark of several people: switches, places and missed people are counted right."""

from dataclasses import replace

import numpy as np

from benchmarks.people_quality import SCENES, Count, add, make_scene, shuffled
from pose import PoseSequence, follow_person
from pose.people import people_in_order
from tests.pose.figures import beside, clip

TALL = {"height": 800, "width": 600, "size": 700.0, "score": 0.9}


def two() -> PoseSequence:
    return beside(clip(num_frames=4, at=(300.0, 60.0), **TALL), clip(num_frames=4, at=(1500.0, 60.0), **TALL))


def test_the_truth_has_no_faults() -> None:
    count = Count()
    add(count, two(), two())
    assert (count.switches, count.places, count.people, count.missed, count.sights) == (0, 2, 2, 0, 8)


def test_exchanged_places_are_two_switches_and_lost_people_are_missed() -> None:
    truth, count = two(), Count()
    other = people_in_order(truth, [1, 0])
    add(count, replace(truth, points=np.concatenate([truth.points[:2], other.points[2:]])), truth)
    assert (count.switches, count.missed) == (2, 0)
    lost, count = replace(truth, scores=truth.scores.copy()), Count()
    lost.scores[:, 1] = 0.0
    add(count, lost, truth)
    assert (count.places, count.missed) == (1, 4)


def test_people_who_are_apart_keep_their_places_in_any_order() -> None:
    truth = beside(*(clip(num_frames=6, at=(x, 60.0), step=(4.0, 0.0), **TALL) for x in (0.0, 600.0, 1200.0)))
    count = Count()
    add(count, follow_person(shuffled(truth, 0), "all"), truth)
    assert (count.switches, count.places) == (0, 3)


def test_a_scene_in_which_one_is_lost_hides_them() -> None:
    assert "one is lost" in SCENES
    truth = make_scene("one is lost", [0, 0], num_frames=7).poses
    is_gone = (truth.scores[:, 0, :18] > 0.3).sum(axis=1) < 3
    assert is_gone[3]
    assert not is_gone[[0, 6]].any()
