"""Where the hands are and how sure the estimator is of them.

Hands whose points all have a high score mark the regions whose error counts more in training: MimicMotion's
regional loss amplification (arXiv 2406.19680, section 3.4). The paper does not publish its threshold.

Legend: F frames, P people, 2 hands (left, right).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import HANDS
from pose.types import PoseError, PoseSequence

SURE_ABOVE = 0.8


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


def hand_confidence(sequence: PoseSequence) -> NDArray[np.float64]:
    """The mean score of the 21 points of every hand, ``F x P x 2``, left first; 0 for padding people."""
    assert sequence.is_present is not None
    means = np.stack([sequence.scores[:, :, hand].mean(axis=-1) for hand in HANDS], axis=-1)
    return np.where(sequence.is_present[..., None], means, 0.0)


def _lowest_scores(sequence: PoseSequence) -> NDArray[np.float64]:
    """F x P x 2: the least sure point of every hand; minus infinity for padding people."""
    assert sequence.is_present is not None
    lowest = np.stack([sequence.scores[:, :, hand].min(axis=-1) for hand in HANDS], axis=-1)
    return np.where(sequence.is_present[..., None], lowest, -np.inf)
