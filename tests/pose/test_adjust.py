"""Corrections as data: each does what its name says, bad ones are refused in a sentence."""

import json

import numpy as np
import pytest

from pose import PoseError, PoseSequence
from pose.adjust import Adjustment, adjust_pose
from pose.skeletons import LEFT_ANKLE, LEFT_HAND, LEFT_WRIST, NECK, NOSE, RIGHT_ANKLE, RIGHT_WRIST
from tests.pose.figures import beside, clip


def pixels(poses: PoseSequence) -> np.ndarray:
    return poses.points * [poses.width, poses.height]


def adjusted(poses: PoseSequence, **data: object) -> np.ndarray:
    return pixels(adjust_pose(poses, Adjustment.from_dict(data)))


def test_nothing_to_correct_changes_nothing():
    np.testing.assert_allclose(adjusted(clip(num_frames=2)), pixels(clip(num_frames=2)), atol=1e-12)


def test_scale_keeps_the_feet_on_the_ground():
    poses = adjusted(clip(), scale=0.5)[0, 0]
    before = pixels(clip())[0, 0]
    assert poses[[LEFT_ANKLE, RIGHT_ANKLE], 1] == pytest.approx(before[[LEFT_ANKLE, RIGHT_ANKLE], 1])
    assert before[LEFT_ANKLE, 1] - poses[NOSE, 1] == pytest.approx(0.5 * 86)


def test_offset_is_in_fractions_of_the_frame():
    moved = adjusted(clip(), offset=[0.1, -0.05]) - pixels(clip())
    np.testing.assert_allclose(moved, np.broadcast_to([12.0, -8.0], moved.shape))


def test_rotation_is_clockwise_and_keeps_lengths():
    before, after = (
        pixels(clip(height=100, width=200))[0, 0],
        adjusted(clip(height=100, width=200), rotate=90)[0, 0],
    )
    assert after[NOSE, 0] - after[LEFT_ANKLE, 0] == pytest.approx(86, abs=10)  # the head falls to the right
    assert np.linalg.norm(after[NOSE] - after[NECK]) == pytest.approx(
        np.linalg.norm(before[NOSE] - before[NECK])
    )


def test_limbs_change_both_sides_and_what_hangs_on_them():
    before, after = pixels(clip())[0, 0], adjusted(clip(), limbs={"forearm": 1.5})[0, 0]
    for elbow, wrist in ((3, RIGHT_WRIST), (6, LEFT_WRIST)):
        np.testing.assert_allclose(after[wrist] - after[elbow], 1.5 * (before[wrist] - before[elbow]))
    np.testing.assert_allclose(
        after[LEFT_HAND] - after[LEFT_WRIST], before[LEFT_HAND] - before[LEFT_WRIST], atol=1e-9
    )


def test_keyframes_move_points_in_between():
    frames = [
        {"frame": 2, "points": {"left_wrist": [0.0, 0.0]}},
        {"frame": 6, "points": {"left_wrist": [0.1, 0]}},
    ]
    moved = adjusted(clip(num_frames=10), keyframes=frames) - pixels(clip(num_frames=10))
    np.testing.assert_allclose(moved[:, 0, LEFT_WRIST, 0], [0, 0, 0, 3, 6, 9, 12, 12, 12, 12])
    np.testing.assert_allclose(moved[:, 0, LEFT_HAND, 0], moved[:, 0, [LEFT_WRIST] * 21, 0])
    assert (moved[:, 0, RIGHT_WRIST] == 0).all()


def test_keyframes_in_seconds_follow_the_rate():
    frames = [{"seconds": 0.0, "points": {"nose": [0, 0]}}, {"seconds": 1.0, "points": {"nose": [0.5, 0]}}]
    moved = adjusted(clip(num_frames=11, fps=10.0), keyframes=frames) - pixels(clip(num_frames=11, fps=10.0))
    assert moved[5, 0, NOSE, 0] == pytest.approx(30)


def test_one_of_several_people_can_be_corrected():
    both = beside(clip(), clip(at=(20, 30)))
    moved = adjusted(both, offset=[0.1, 0], person=1) - pixels(both)
    assert (moved[:, 0] == 0).all()
    np.testing.assert_allclose(moved[:, 1], np.broadcast_to([12.0, 0.0], (1, 134, 2)))
    with pytest.raises(PoseError, match="the poses hold 2"):
        adjusted(both, person=2)


def test_corrections_are_recorded_and_read_back(tmp_path):
    data = {
        "scale": 1.1,
        "keyframes": [{"frame": 3, "points": {"head": [0.01, 0.0]}}],
        "limbs": {"shin": 0.9},
    }
    poses = adjust_pose(clip(), Adjustment.from_dict(data))
    recorded = json.loads(json.dumps(poses.metadata["adjust"]))
    assert Adjustment.from_dict(recorded) == Adjustment.from_dict(data)
    assert PoseSequence.load(poses.save(tmp_path / "a.npz")).metadata["adjust"]["scale"] == 1.1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (3, "adjust is 3; expected keys"),
        ({"scael": 1}, "has no 'scael'; did you mean scale"),
        ({"scale": 0}, "adjust.scale is 0; expected a factor"),
        ({"scale": float("nan")}, "expected a number"),
        ({"scale": "large"}, "expected a number"),
        ({"offset": 1}, r"expected \[right, down\]"),
        ({"rotate": True}, "adjust.rotate is True"),
        ({"limbs": {"tail": 2}}, "has no 'tail'"),
        ({"limbs": [1]}, "expected factors by name"),
        ({"keyframes": 1}, "expected a list"),
        ({"keyframes": [{"points": {"nose": [0, 0]}}]}, "either frame or seconds"),
        ({"keyframes": [{"frame": 1.5, "points": {"nose": [0, 0]}}]}, "expected a frame from 0"),
        ({"keyframes": [{"frame": 1, "points": {}}]}, "expected moves by name"),
        ({"keyframes": [{"frame": 1, "points": {"noes": [0, 0]}}]}, "did you mean nose"),
        ({"person": -1}, "an index from 0"),
    ],
)
def test_invalid_corrections_are_one_sentence(data, expected):
    with pytest.raises(PoseError, match=expected):
        Adjustment.from_dict(data)
