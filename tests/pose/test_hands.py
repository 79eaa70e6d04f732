"""Hands: which are sure, and the regions they cover."""

import numpy as np
import pytest

from pose import PoseError, PoseSequence
from pose.hands import hand_boxes, hand_confidence
from pose.skeletons import LEFT_HAND
from pose.types import concatenate
from tests.pose.figures import beside, clip


def with_hand(left_box: tuple[float, float, float, float], score: float = 0.9) -> PoseSequence:
    """A clip of one frame of 160 x 120 whose left hand fills a rectangle, its right hand not sure."""
    poses = clip(score=0.5)
    x0, y0, x1, y1 = left_box
    spread = np.linspace(0, 1, 21)[:, None]
    poses.points[0, 0, LEFT_HAND] = np.array([x0, y0]) * (1 - spread) + np.array([x1, y1]) * spread
    poses.scores[0, 0, LEFT_HAND] = score
    return poses


def test_the_box_is_the_extent_of_the_points():
    boxes = hand_boxes(with_hand((0.25, 0.5, 0.5, 0.75)))
    assert boxes.shape == (1, 1, 2, 4)
    np.testing.assert_allclose(boxes[0, 0, 0], (0.25, 0.5, 0.5, 0.75))
    assert np.isnan(boxes[0, 0, 1]).all()


def test_the_margin_is_the_same_in_pixels_on_every_side():
    boxes = hand_boxes(with_hand((0.25, 0.5, 0.5, 0.75)), margin=0.5)  # 30 x 40 pixels: 20 more
    np.testing.assert_allclose(boxes[0, 0, 0] * [120, 160, 120, 160], (10, 60, 80, 140))


def test_one_unsure_point_makes_the_hand_unsure():
    poses = with_hand((0.25, 0.5, 0.5, 0.75))
    poses.scores[0, 0, LEFT_HAND.start + 7] = 0.8  # not above the threshold
    assert np.isnan(hand_boxes(poses)).all()
    assert not np.isnan(hand_boxes(poses, 0.7)[0, 0, 0]).any()


def test_padding_people_have_no_box_and_no_confidence():
    sure = clip(score=0.95)
    padded = concatenate([sure, beside(sure, clip(score=0.95, at=(90.0, 60.0)))])
    padded.scores[0, 1] = 1.0  # whatever padding holds
    is_box = ~np.isnan(hand_boxes(padded)).any(axis=-1)
    assert is_box.all(axis=-1).tolist() == [[True, False], [True, True]]
    assert (hand_confidence(padded)[0, 1] == 0).all()


def test_the_confidence_is_the_mean_score_of_a_hand():
    poses = concatenate([with_hand((0.2, 0.2, 0.4, 0.4)), clip(score=0.5)])
    np.testing.assert_allclose(hand_confidence(poses)[:, 0], [(0.9, 0.5), (0.5, 0.5)])


def test_wrong_arguments_are_pose_errors():
    with pytest.raises(PoseError, match="margin"):
        hand_boxes(clip(), margin=-0.1)
