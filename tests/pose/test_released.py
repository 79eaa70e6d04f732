"""The released pose dictionaries: there and back without a change."""

import numpy as np
import pytest

from pose import PoseError
from pose.released import from_dwpose_dict, to_dwpose_dict
from pose.skeletons import FEET, LEFT_ANKLE, LEFT_HAND, RIGHT_HAND
from pose.types import concatenate
from tests.pose.figures import GOLDENS, beside, clip

DRAW_CASES = sorted(path.stem for path in (GOLDENS / "draw").glob("*.npz"))


@pytest.mark.parametrize("name", DRAW_CASES)
def test_a_recorded_dictionary_survives_the_round_trip(name):
    with np.load(GOLDENS / "draw" / f"{name}.npz") as file:
        pose = dict(file)
    back = to_dwpose_dict(from_dwpose_dict(pose, int(pose["H"]), int(pose["W"])))
    assert set(back) == set(pose) - {"H", "W"}
    for key, value in back.items():
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, pose[key])


def test_hands_are_everyones_left_then_everyones_right():
    couple = beside(clip(at=(30.0, 30.0)), clip(at=(90.0, 30.0)))
    hands = to_dwpose_dict(couple)["hands"]
    np.testing.assert_array_equal(hands[:2], couple.points[0, :, LEFT_HAND])
    np.testing.assert_array_equal(hands[2:], couple.points[0, :, RIGHT_HAND])


def test_padding_people_are_left_out_and_feet_come_back_on_the_ankles():
    padded = concatenate([clip(), beside(clip(), clip())])[0]
    back = from_dwpose_dict(to_dwpose_dict(padded), 160, 120)
    assert back.num_people == 1
    np.testing.assert_array_equal(back.scores[0, 0, FEET], 0)
    np.testing.assert_array_equal(back.points[0, 0, FEET][0], back.points[0, 0, LEFT_ANKLE])


def test_the_nested_form_is_read_and_a_lost_joint_stays_lost():
    flat = to_dwpose_dict(clip())
    flat["bodies_score"][0, 4] = np.float32(0.3)  # above 0.3 in float64, not in the float32 that was compared
    flat["bodies_subset"][0, 4] = -1
    nested = {
        "bodies": {name: flat.pop(f"bodies_{name}") for name in ("candidate", "subset", "score")},
        **flat,
    }
    back = to_dwpose_dict(from_dwpose_dict(nested, 160, 120))
    assert back["bodies_subset"][0, 4] == -1
    assert back["bodies_score"][0, 4] == 0.3


def test_wrong_dictionaries_are_named():
    pose = to_dwpose_dict(clip())
    with pytest.raises(PoseError, match="lacks faces_score"):
        from_dwpose_dict({key: value for key, value in pose.items() if key != "faces_score"}, 160, 120)
    with pytest.raises(PoseError, match=r"hands has shape \(1, 21, 2\)"):
        from_dwpose_dict({**pose, "hands": pose["hands"][:1]}, 160, 120)
    with pytest.raises(PoseError, match="one frame"):
        to_dwpose_dict(clip(num_frames=2))
