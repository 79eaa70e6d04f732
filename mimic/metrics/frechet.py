"""How far apart are two sets of features? The Fréchet distance of the Gaussians fitted to them.

Legend: N features, D width of one. Sets are never held: mean and covariance run along.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class RunningGaussian:
    """Mean and covariance of features that come batch by batch, in float64; memory does not grow with them.

    Batches are merged by the update of Chan, Golub and LeVeque (1979), which does not lose digits where the
    mean is large against the spread.
    """

    def __init__(self) -> None:
        self.num = 0
        self._mean: Array | None = None
        self._scatter: Array | None = None

    def add(self, features_ND: NDArray[np.floating]) -> None:
        """Take in a batch ``N x D`` (or one feature, ``D``).

        Raises:
            ValueError: the width is not that of the batches before, or a value is not finite.
        """
        batch = np.atleast_2d(np.asarray(features_ND, np.float64))
        if not np.isfinite(batch).all():
            raise ValueError("a feature network gave values that are not finite; is it loaded correctly?")
        if self._mean is None or self._scatter is None:
            self._mean, self._scatter = np.zeros(batch.shape[1]), np.zeros((batch.shape[1],) * 2)
        if batch.shape[1] != len(self._mean):
            raise ValueError(f"features have {batch.shape[1]} values, those before {len(self._mean)}")
        mean = batch.mean(axis=0)
        centred = batch - mean
        shift = mean - self._mean
        total = self.num + len(batch)
        self._scatter += centred.T @ centred + np.outer(shift, shift) * (self.num * len(batch) / total)
        self._mean += shift * (len(batch) / total)
        self.num = total

    @property
    def mean(self) -> Array:
        """``D``."""
        if self._mean is None:
            raise ValueError("there are no features")
        return self._mean

    @property
    def covariance(self) -> Array:
        """``D x D``, divided by N - 1.

        Raises:
            ValueError: there are fewer than two features.
        """
        if self.num < 2 or self._scatter is None:
            raise ValueError(f"{self.num} feature has no covariance; two are needed at least")
        return self._scatter / (self.num - 1)


def frechet_distance(mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array) -> float:
    """``|m_a - m_b|² + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, at least 0.

    The trace of the root is taken of ``(A C_b A)^(1/2)`` with ``A = C_a^(1/2)``: a symmetric matrix with the
    same eigenvalues, so that a singular covariance (fewer features than their width) needs no repair.

    Raises:
        ValueError: shapes do not fit.
    """
    width = len(mean_a)
    if mean_b.shape != (width,) or {covariance_a.shape, covariance_b.shape} != {(width, width)}:
        raise ValueError("the two Gaussians are of different width")
    root = _root(covariance_a)
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    trace_of_root = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    difference = mean_a - mean_b
    distance = difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * trace_of_root
    return max(0.0, float(distance))


def distance_of(a: RunningGaussian, b: RunningGaussian) -> float:
    """`frechet_distance` of two sets."""
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _root(covariance: Array) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)
