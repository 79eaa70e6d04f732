"""Hands: which are sure, and the regions they cover."""

import numpy as np
import pytest

from pose import PoseError, PoseSequence
from pose.hands import hand_boxes, hand_confidence, hand_masks, summarise_hands
from pose.skeletons import LEFT_HAND, RIGHT_HAND
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
    assert not hand_masks(poses, 16, 12).any()
    assert not np.isnan(hand_boxes(poses, 0.7)[0, 0, 0]).any()


@pytest.mark.parametrize(("height", "width"), [(160, 120), (16, 12), (64, 48), (1, 1)])
def test_masks_cover_the_box_at_any_size(height, width):
    mask = hand_masks(with_hand((0.25, 0.5, 0.5, 0.75)), height, width)
    assert mask.shape == (1, height, width)
    assert mask.dtype == np.bool_
    expected = np.zeros((height, width), bool)
    expected[int(0.5 * height) : -(-3 * height // 4), int(0.25 * width) : -(-width // 2)] = True
    np.testing.assert_array_equal(mask[0], expected)


def test_a_hand_smaller_than_a_pixel_still_counts():
    assert hand_masks(with_hand((0.3, 0.3, 0.3, 0.3)), 12, 8).sum() == 1


@pytest.mark.parametrize(
    ("box", "covered"),
    [((-0.5, 0.0, 0.5, 1.0), 32), ((1.1, 0.2, 1.3, 0.4), 0), ((-2.0, -2.0, -1.0, -1.0), 0)],
)
def test_masks_end_at_the_frame(box, covered):
    assert hand_masks(with_hand(box), 8, 8).sum() == covered


def test_all_hands_of_everyone_but_padding_are_in_the_mask():
    sure = clip(score=0.95)
    padded = concatenate([sure, beside(sure, clip(score=0.95, at=(90.0, 60.0)))])
    padded.scores[0, 1] = 1.0  # whatever padding holds
    masks = hand_masks(padded, 160, 120)
    np.testing.assert_array_equal(masks[0], hand_masks(sure, 160, 120)[0])
    assert masks[1].sum() > masks[0].sum()
    for hand in (LEFT_HAND, RIGHT_HAND):
        x, y = (sure.points[0, 0, hand].mean(axis=0) * [120, 160]).astype(int)
        assert masks[0, y, x]


def test_confidence_and_summary():
    poses = concatenate([with_hand((0.2, 0.2, 0.4, 0.4)), clip(score=0.5)])
    np.testing.assert_allclose(hand_confidence(poses)[:, 0], [(0.9, 0.5), (0.5, 0.5)])
    summary = summarise_hands(poses)
    assert summary.num_hands == 4
    assert summary.share_sure == 0.25
    assert summary.mean_score == pytest.approx(0.6)
    nobody = PoseSequence(poses.points, poses.scores, 160, 120, is_present=np.zeros((2, 1), bool))
    assert summarise_hands(nobody).num_hands == 0


def test_wrong_arguments_are_pose_errors():
    with pytest.raises(PoseError, match="margin"):
        hand_boxes(clip(), margin=-0.1)
    with pytest.raises(PoseError, match="mask"):
        hand_masks(clip(), 0, 8)
