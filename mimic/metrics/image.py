"""Metrics of single pictures against the truth.

Legend: F frames, H height, W width. Pictures are uint8 RGB or float in [0, 255].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8] | NDArray[np.floating]


def mean_squared_error(pictures: Pictures, truth: Pictures, mask: NDArray[np.bool_] | None = None) -> float:
    """Mean over pixels and channels of ``F x H x W x 3``, or over the pixels of the mask ``F x H x W`` alone.

    Raises:
        ValueError: shapes differ, or the mask is empty.
    """
    if pictures.shape != truth.shape:
        raise ValueError(f"pictures have shape {pictures.shape}, the truth {truth.shape}; they must be equal")
    squared = (np.asarray(pictures, np.float64) - np.asarray(truth, np.float64)) ** 2
    if mask is None:
        return float(squared.mean())
    if not mask.any():
        raise ValueError("the mask holds no pixel to compare")
    return float(squared[mask].mean())


def psnr(pictures: Pictures, truth: Pictures, mask: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB, for a peak of 255; infinite for equal pictures."""
    error = mean_squared_error(pictures, truth, mask)
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def intersection_over_union(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Overlap of two masks of one shape, 0 to 1; two empty masks agree entirely."""
    union = np.logical_or(mask, truth).sum()
    return 1.0 if union == 0 else float(np.logical_and(mask, truth).sum() / union)


def silhouette(pictures: Pictures, background: Pictures, *, threshold: float = 20.0) -> NDArray[np.bool_]:
    """Where pictures differ from the empty scene by more than `threshold` grey levels in any channel.

    Args:
        pictures: ``F x H x W x 3``.
        background: ``H x W x 3``, the scene without the figure.
    """
    difference = np.abs(np.asarray(pictures, np.float64) - np.asarray(background, np.float64))
    return np.asarray((difference > threshold).any(axis=-1))
