"""How sure is a mean over a few clips? Percentile bootstrap of means and of paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1_000


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float | None
    """None for a single value."""
    high: float | None
    num: int
    confidence: float


def bootstrap_mean(
    values: Sequence[float] | NDArray[np.floating],
    *,
    groups: Sequence[object] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean with its percentile bootstrap interval (Efron 1979).

    Args:
        values: one a clip (frames of a clip are no independent values; average them first).
        groups: which values belong together, such as the seeds of one clip: their means are what is drawn.
        confidence: 0 to 1.
        seed: of the drawing; the result is the same for the same seed.

    Raises:
        ValueError: there is no value, one is not finite, or groups and values differ in number.
    """
    data = np.asarray(values, np.float64)
    if data.ndim != 1 or len(data) == 0 or not np.isfinite(data).all():
        raise ValueError("an interval needs a list of finite values, one at least")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; expected between 0 and 1")
    if groups is not None:
        if len(groups) != len(data):
            raise ValueError(f"there are {len(groups)} groups for {len(data)} values")
        places: dict[object, list[int]] = {}
        for place, group in enumerate(groups):
            places.setdefault(group, []).append(place)
        data = np.array([data[members].mean() for members in places.values()])
    mean = float(data.mean())
    if len(data) < 2:
        return Interval(mean, None, None, len(data), confidence)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            data[rng.integers(0, len(data), (min(_CHUNK, num_resamples - start), len(data)))].mean(axis=1)
            for start in range(0, num_resamples, _CHUNK)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), len(data), confidence)


def bootstrap_difference(
    values: Sequence[float] | NDArray[np.floating],
    others: Sequence[float] | NDArray[np.floating],
    *,
    groups: Sequence[object] | None = None,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """The mean of ``values - others``, pair by pair: both were measured on the same clips.

    What makes a clip hard for both then drops out, and an interval without 0 tells which is better.

    Raises:
        ValueError: the two differ in number; or as `bootstrap_mean`.
    """
    if len(values) != len(others):
        raise ValueError(f"pairs are needed; there are {len(values)} values and {len(others)} others")
    differences = np.asarray(values, np.float64) - np.asarray(others, np.float64)
    return bootstrap_mean(
        differences, groups=groups, confidence=confidence, num_resamples=num_resamples, seed=seed
    )
