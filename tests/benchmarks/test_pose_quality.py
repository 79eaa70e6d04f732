"""The benchmark of poses: its counts are right where the answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import pose_quality
from benchmarks.pose_scenes import CASES
from pose.skeletons import LEFT_HAND, MIRROR, RIGHT_HAND
from tests.pose.figures import beside, clip

TALL = {"height": 800, "width": 600, "size": 700.0, "at": (300.0, 60.0)}


def test_the_truth_itself_has_no_faults():
    truth = clip(num_frames=3, **TALL)
    tally = pose_quality.judge_followed(truth, truth, 0)
    assert (tally.people, tally.missed, tally.false_people, tally.switches, tally.flips) == (3, 0, 0, 0, 0)
    assert tally.joints_right == tally.joints == 3 * 18
    assert tally.hands_found == tally.hands == 6
    assert tally.sides == 3


def test_exchanged_sides_count_as_flips_and_as_wrong_joints():
    truth = clip(**TALL)
    tally = pose_quality.judge_followed(replace(truth, points=truth.points[:, :, MIRROR]), truth, 0)
    assert (tally.flips, tally.sides, tally.missed) == (1, 1, 0)
    assert tally.joints_right < tally.joints


def test_a_hand_without_a_score_or_elsewhere_is_not_found():
    truth, poses = clip(**TALL), clip(**TALL)
    poses.scores[0, 0, LEFT_HAND] = 0.0
    poses.points[0, 0, RIGHT_HAND] += 0.1
    tally = pose_quality.judge_followed(poses, truth, 0)
    assert (tally.hands, tally.hands_found) == (2, 0)


def test_nobody_where_somebody_is_and_somebody_where_nobody_is():
    truth = clip(**TALL)
    nothing = replace(truth, scores=np.zeros_like(truth.scores))
    assert pose_quality.judge_followed(nothing, truth, 0).missed == 1
    elsewhere = clip(**{**TALL, "at": (1800.0, 60.0)})
    tally = pose_quality.judge_followed(elsewhere, truth, 0)
    assert (tally.missed, tally.false_people) == (1, 1)
    assert pose_quality.judge_picture(truth, None).false_people == 1
    both = pose_quality.judge_picture(beside(truth, truth), truth)  # two readings of one person
    assert (both.missed, both.false_people) == (0, 1)


def test_following_somebody_else_is_one_switch():
    one, other = clip(num_frames=4, **TALL), clip(num_frames=4, **{**TALL, "at": (1800.0, 60.0)})
    followed = replace(one, points=np.concatenate([one.points[:2], other.points[2:]]))
    tally = pose_quality.judge_followed(followed, beside(one, other), 0)
    assert (tally.switches, tally.missed, tally.false_people) == (1, 2, 0)


def test_the_same_seed_gives_the_same_scenes():
    first, again, other = (next(iter(CASES["small"](seed, True))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.frames[0], again.frames[0])
    assert (first.frames[0] != other.frames[0]).any()


def test_the_command_prints_a_table_and_writes_its_counts(tmp_path, monkeypatch, capsys):
    path = tmp_path / "counts.json"
    arguments = ["pose_quality", "--quick", "--cases", "turns", "nobody", "--json", str(path)]
    monkeypatch.setattr("sys.argv", arguments)
    pose_quality.main()
    printed = capsys.readouterr().out
    assert "| turns | " in printed
    counts = json.loads(path.read_text())
    assert counts["estimator"] == "blazepose"
    assert counts["cases"]["turns"]["people"] == 3
    assert counts["cases"]["nobody"]["false_people"] == 0
    with pytest.raises(SystemExit):
        monkeypatch.setattr("sys.argv", ["pose_quality", "--cases", "ghosts"])
        pose_quality.main()
