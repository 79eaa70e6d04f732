"""Means that a few values far off do not move."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_HUBER = 1.345  # residuals beyond this number of deviations count less, the usual 95 % efficient choice
_NUM_REWEIGHTINGS = 30


def huber_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis in which what lies far off counts less; some weight must be positive."""
    centre = weighted_median(values, weights)
    for _ in range(_NUM_REWEIGHTINGS):
        residuals = np.abs(values - centre[..., None])
        deviation = 1.4826 * weighted_median(residuals, weights)
        reach = _HUBER * np.maximum(deviation, 1e-9)[..., None]
        bounded = weights * np.minimum(1.0, reach / np.maximum(residuals, 1e-12))
        before, centre = centre, (bounded * values).sum(axis=-1) / bounded.sum(axis=-1)
        if np.allclose(centre, before, rtol=0.0, atol=1e-12):
            break
    return centre


def weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the last axis, of values with weights."""
    order = np.argsort(values, axis=-1)
    values, weights = np.take_along_axis(values, order, -1), np.take_along_axis(weights, order, -1)
    share = weights.cumsum(axis=-1)
    middle = (share >= 0.5 * share[..., -1:]).argmax(axis=-1)
    return np.take_along_axis(values, middle[..., None], -1)[..., 0]
