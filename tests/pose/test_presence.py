"""Presence: what is missing is counted, who comes and goes is said."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pose import PoseSequence, summarise_presence
from pose.types import concatenate
from tests.pose.figures import beside, clip


def absent(poses: PoseSequence) -> PoseSequence:
    return replace(poses, scores=np.zeros_like(poses.scores))


def test_one_person_throughout_needs_no_words():
    presence = summarise_presence(clip(num_frames=8))
    assert (presence.num_frames, presence.num_empty, presence.num_people) == (8, 0, 1)
    assert (presence.empty, presence.leaves, presence.outside) == ([], [], [])
    assert presence.sentences() == []


def test_frames_without_anybody_are_counted_and_named():
    poses = clip(num_frames=12, fps=10.0)
    gaps = concatenate([absent(poses[:2]), poses[2:5], absent(poses[5:9]), poses[9:]])
    presence = summarise_presence(gaps)
    assert presence.empty == [(0, 2), (5, 9)]
    assert presence.num_empty == 6
    assert presence.share_empty == 0.5
    assert presence.num_people == 1  # the same person came back within two seconds
    (sentence,) = presence.sentences()
    assert sentence == (
        "nobody is seen in 6 of 12 frames (50%): frames 0 to 1 (0.0 to 0.2 s), frames 5 to 8 (0.5 to 0.9 s)"
    )


@pytest.mark.parametrize("marked", ["scores", "padding"])
def test_a_clip_without_anybody_is_all_gap(marked):
    poses = absent(clip(num_frames=5))
    if marked == "padding":
        poses = replace(clip(num_frames=5), is_present=np.zeros((5, 1), bool))
    presence = summarise_presence(poses)
    assert (presence.num_empty, presence.num_people, presence.share_empty) == (5, 0, 1.0)
    nobody = PoseSequence(np.zeros((3, 0, 134, 2)), np.zeros((3, 0, 134)), 8, 8)
    assert summarise_presence(nobody).empty == [(0, 3)]


def test_people_one_after_another_are_different_people():
    visits = [clip(num_frames=4, fps=10.0, at=(x, 30.0)) for x in (20.0, 60.0, 100.0)]
    long_gap = absent(clip(num_frames=25, fps=10.0))
    poses = concatenate([visits[0], long_gap, visits[1], long_gap, visits[2]])
    presence = summarise_presence(poses)
    assert presence.num_people == 3
    assert "3 different people are seen one after another" in presence.sentences()


def test_people_at_once_are_counted_in_the_sequence_and_by_the_estimator():
    both = beside(clip(num_frames=4), clip(num_frames=4, at=(90.0, 30.0)))
    assert summarise_presence(both).most_at_once == 2
    followed = replace(clip(num_frames=4), metadata={"most_people": 3})
    presence = summarise_presence(followed)
    assert (presence.most_at_once, presence.num_people) == (3, 3)
    assert presence.sentences() == ["up to 3 people are in the picture at once"]


@pytest.mark.parametrize(
    ("at", "step", "leaves"),
    [((60.0, 30.0), (5.0, 0.0), True), ((60.0, 30.0), (-5.0, 0.0), True), ((60.0, 30.0), (0.0, 0.0), False)],
)
def test_who_walks_out_is_told_from_who_is_lost(at, step, leaves):
    walk = clip(num_frames=10, at=at, step=step, fps=10.0)
    presence = summarise_presence(concatenate([walk, absent(walk[:3])]))
    assert presence.leaves == ([10] if leaves else [])
    assert any("walks out of the picture before frame 10" in s for s in presence.sentences()) == leaves


def test_a_fitted_person_outside_the_frame_is_said():
    poses = clip(num_frames=6)
    poses.points[3:5, :, :, 0] += 1.0
    presence = summarise_presence(poses)
    assert presence.outside == [(3, 5)]
    assert "outside the frame: frames 3 to 4" in presence.sentences()[0]


def test_it_is_plain_data():
    poses = concatenate([clip(num_frames=2), absent(clip(num_frames=2))])
    data = json.loads(json.dumps(summarise_presence(poses).as_dict()))
    assert data["empty"] == [[2, 4]]
    assert data["share_empty"] == 0.5
