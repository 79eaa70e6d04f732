"""Masks of hands, faces and persons: the share of each latent pixel that a region covers.

A hand is masked by the bounding box of its keypoints if the score of every keypoint is above a threshold
(MimicMotion's regional loss amplification, arXiv 2406.19680, section 3.4), and a face likewise. A person is
masked by the bounding box of those body keypoints whose scores are above a threshold. Masks hold covered
shares, so that a hand smaller than a latent pixel gets its proportional weight.

Legend: F frames, P people, h x w latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose import PoseSequence
from pose.hands import hand_boxes
from pose.skeletons import BODY, FACE

Box = tuple[float, float, float, float]


def region_masks(
    sequence: PoseSequence,
    regions: Sequence[str],
    height: int,
    width: int,
    *,
    thresholds: dict[str, float],
    margin: float = 0.0,
) -> dict[str, Tensor]:
    """Compute the coverage of latent pixels by each region.

    Args:
        sequence: poses in the frames of the latents.
        regions: any of ``hands``, ``face`` and ``person``.
        height, width: of the latents.
        thresholds: minimum score for each region: of all keypoints of a hand or face, of each keypoint that
            counts for a person.
        margin: distance by which a box is enlarged on each side, as a fraction of its longer side in pixels.

    Returns:
        for each region float32 ``F x 1 x h x w`` in [0, 1].

    Raises:
        ValueError: a region is unknown.
    """
    masks = {}
    for region in regions:
        boxes = region_boxes(sequence, region, thresholds[region], margin=margin)
        covered = np.zeros((len(sequence), 1, height, width))
        for frame, of_frame in enumerate(boxes):
            sure = [tuple(float(x) for x in box) for box in of_frame if not np.isnan(box[0])]
            covered[frame, 0] = coverage(sure, height, width)  # type: ignore[arg-type]
        masks[region] = torch.from_numpy(covered.astype(np.float32))
    return masks


def region_boxes(
    sequence: PoseSequence, region: str, threshold: float, *, margin: float = 0.0
) -> NDArray[np.float64]:
    """Compute the bounding boxes of a region.

    Args:
        sequence: the poses.
        region: ``hands``, ``face`` or ``person``.
        threshold, margin: as in `region_masks`.

    Returns:
        ``F x (boxes) x 4``: x0, y0, x1, y1 in fractions of the frame, NaN where scores are too low.

    Raises:
        ValueError: the region is unknown.
    """
    if region == "hands":
        return hand_boxes(sequence, threshold, margin=margin).reshape(len(sequence), -1, 4)
    if region == "face":
        return _face_boxes(sequence, threshold, margin)
    if region == "person":
        return _person_boxes(sequence, threshold, margin)
    raise ValueError(f"there is no region {region!r}; use hands, face or person")


def coverage(boxes: Sequence[Box], height: int, width: int) -> NDArray[np.float64]:
    """Compute the exact share of each pixel that the union of boxes covers, ``height x width`` in [0, 1]."""
    if not boxes:
        return np.zeros((height, width))
    *others, last = boxes
    x0, y0, x1, y1 = last
    overlaps = [
        (max(a0, x0), max(b0, y0), min(a1, x1), min(b1, y1))
        for a0, b0, a1, b1 in others
        if min(a1, x1) > max(a0, x0) and min(b1, y1) > max(b0, y0)
    ]
    alone = _covered(y0, y1, height)[:, None] * _covered(x0, x1, width)
    return coverage(others, height, width) + alone - coverage(overlaps, height, width)


def _covered(start: float, end: float, length: int) -> NDArray[np.float64]:
    """Compute the share of each of `length` equal parts of [0, 1] that an interval covers."""
    edges = np.arange(length + 1) / length
    return np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None) * length


def _face_boxes(sequence: PoseSequence, threshold: float, margin: float) -> NDArray[np.float64]:
    assert sequence.is_present is not None
    points = sequence.points[:, :, FACE]
    is_sure = sequence.is_present & (sequence.scores[:, :, FACE].min(axis=-1) > threshold)
    return _grown(sequence, points.min(axis=2), points.max(axis=2), margin, is_sure)


def _person_boxes(sequence: PoseSequence, threshold: float, margin: float) -> NDArray[np.float64]:
    assert sequence.is_present is not None
    points = sequence.points[:, :, BODY]
    is_sure = (sequence.is_present[..., None] & (sequence.scores[:, :, BODY] > threshold))[..., None]
    lowest = np.where(is_sure, points, np.inf).min(axis=2)
    highest = np.where(is_sure, points, -np.inf).max(axis=2)
    # A single point has no bounding box.
    return _grown(sequence, lowest, highest, margin, is_sure[..., 0].sum(axis=-1) > 1)


def _grown(
    sequence: PoseSequence,
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
    margin: float,
    is_sure: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Enlarge boxes by the margin on each side, ``F x P x 4``; NaN where `is_sure` is false."""
    lowest, highest = (np.where(is_sure[..., None], each, np.nan) for each in (lowest, highest))
    size = np.array([sequence.width, sequence.height], float)
    reach = margin * ((highest - lowest) * size).max(axis=-1, keepdims=True) / size
    return np.concatenate([lowest - reach, highest + reach], axis=-1)
