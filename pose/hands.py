"""Where the hands are and how sure the estimator is of them.

Hands of which every point is sure mark the regions whose error counts more in training: MimicMotion's
regional loss amplification (arXiv 2406.19680, section 3.4). The paper does not publish its threshold.

Legend: F frames, P people, 2 hands (left, right), H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import HANDS
from pose.types import PoseError, PoseSequence

SURE_ABOVE = 0.8


@dataclass(frozen=True)
class HandSummary:
    """How usable the hands of a clip are. Shares are of all hands of all people who are present."""

    num_hands: int
    share_sure: float
    mean_score: float


def hand_boxes(
    sequence: PoseSequence, threshold: float = SURE_ABOVE, *, margin: float = 0.0
) -> NDArray[np.float64]:
    """The rectangle around every hand whose 21 points all have a score above the threshold.

    Args:
        sequence: the poses.
        threshold: see above.
        margin: how far every side is moved outwards, as a fraction of the longer side in pixels.

    Returns:
        float64 ``F x P x 2 x 4``: x0, y0, x1, y1 as fractions of the frame, left hand first. NaN where
        the hand is not sure or the person is padding. Boxes may reach out of the frame.

    Raises:
        PoseError: the margin is negative.
    """
    if not margin >= 0:
        raise PoseError(f"margin is {margin}; it must be 0 or more, in longer sides of the hand")
    size = np.array([sequence.width, sequence.height], dtype=np.float64)
    boxes = np.full((len(sequence), sequence.num_people, 2, 4), np.nan)
    for side, hand in enumerate(HANDS):
        points = sequence.points[:, :, hand]
        lowest, highest = points.min(axis=2), points.max(axis=2)
        longer = ((highest - lowest) * size).max(axis=-1, keepdims=True)
        grown = margin * longer / size
        box = np.concatenate([lowest - grown, highest + grown], axis=-1)
        is_sure = _lowest_scores(sequence)[..., side] > threshold
        boxes[:, :, side] = np.where(is_sure[..., None], box, np.nan)
    return boxes


def hand_masks(
    sequence: PoseSequence, height: int, width: int, threshold: float = SURE_ABOVE, *, margin: float = 0.0
) -> NDArray[np.bool_]:
    """Masks of the sure hands at any size: of the frames, or of their latents.

    Every pixel that a rectangle touches is in the mask, so that a small hand is not lost at a small size.

    Returns:
        bool ``F x height x width``; what lies outside the frame is cut off.
    """
    if height < 1 or width < 1:
        raise PoseError(f"a mask of {width}x{height} cannot be")
    masks = np.zeros((len(sequence), height, width), dtype=np.bool_)
    boxes = hand_boxes(sequence, threshold, margin=margin)
    for frame, person, side in np.argwhere(~np.isnan(boxes[..., 0])):
        x0, y0, x1, y1 = boxes[frame, person, side]
        columns = _touched(x0 * width, x1 * width, width)
        rows = _touched(y0 * height, y1 * height, height)
        masks[frame, rows, columns] = True
    return masks


def hand_confidence(sequence: PoseSequence) -> NDArray[np.float64]:
    """The mean score of the 21 points of every hand, ``F x P x 2``, left first; 0 for padding people."""
    assert sequence.is_present is not None
    means = np.stack([sequence.scores[:, :, hand].mean(axis=-1) for hand in HANDS], axis=-1)
    return np.where(sequence.is_present[..., None], means, 0.0)


def summarise_hands(sequence: PoseSequence, threshold: float = SURE_ABOVE) -> HandSummary:
    """Count the hands of a clip and how many of them are sure, all zero where nobody is present."""
    assert sequence.is_present is not None
    num_hands = 2 * int(sequence.is_present.sum())
    if num_hands == 0:
        return HandSummary(0, 0.0, 0.0)
    return HandSummary(
        num_hands=num_hands,
        share_sure=float((_lowest_scores(sequence) > threshold).sum() / num_hands),
        mean_score=float(hand_confidence(sequence).sum() / num_hands),
    )


def _lowest_scores(sequence: PoseSequence) -> NDArray[np.float64]:
    """F x P x 2: the least sure point of every hand; minus infinity for padding people."""
    assert sequence.is_present is not None
    lowest = np.stack([sequence.scores[:, :, hand].min(axis=-1) for hand in HANDS], axis=-1)
    return np.where(sequence.is_present[..., None], lowest, -np.inf)


def _touched(start: float, end: float, length: int) -> slice:
    """The pixels of 0 … length that the interval touches; at least one, if it lies inside."""
    first = math.floor(start)
    return slice(max(0, first), min(length, max(math.ceil(end), first + 1)))
