"""Metrics of single pictures against the truth.

Legend: F frames, H height, W width. Pictures are uint8 RGB or float in [0, 255].
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.uint8] | NDArray[np.floating]

EQUAL_PSNR = 100.0
"""What equal pictures count in a mean of PSNRs, dB; their own is infinite. The value of DisCo's script."""

_SSIM_WINDOW = 7


def mean_squared_error(pictures: Pictures, truth: Pictures, mask: NDArray[np.bool_] | None = None) -> float:
    """Mean over pixels and channels of ``F x H x W x 3``, or over the pixels of the mask ``F x H x W`` alone.

    Raises:
        ValueError: shapes differ, or the mask is empty.
    """
    _check_shapes(pictures, truth)
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


def l1(pictures: Pictures, truth: Pictures) -> float:
    """Mean absolute difference as a share of the range, 0 to 1.

    Raises:
        ValueError: shapes differ.
    """
    return _mean_absolute(pictures, truth) / 255.0


def l1_disco_divided_by_area(pictures: Pictures, truth: Pictures) -> float:
    """L1 as DisCo's script has it: mean absolute difference in grey levels, divided by height times width.

    It falls with the resolution for one and the same error, so that only values at one size compare. The
    published tables of that lineage are at 256 x 256.

    Args:
        pictures, truth: ``… x H x W x 3``.

    Raises:
        ValueError: shapes differ.
    """
    height, width = pictures.shape[-3:-1]
    return _mean_absolute(pictures, truth) / (height * width)


def psnr_disco_uint8_overflow(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """The number that DisCo's first script calls PSNR, dB: differences and squares wrap around at 256.

    Subtracting and squaring bytes in bytes keeps only the last eight bits, so that large errors count as
    little as small ones and the result is about 10 dB too high for usual pictures. It is here to be compared
    with the published tables that were made with it, and for nothing else; `psnr` is right.

    Raises:
        ValueError: the pictures are not uint8, or shapes differ.
    """
    if picture.dtype != np.uint8 or truth.dtype != np.uint8:
        raise ValueError(f"pictures are {picture.dtype} and {truth.dtype}; the overflow is of uint8")
    _check_shapes(picture, truth)
    wrapped = picture - truth
    error = float(np.mean(wrapped * wrapped, dtype=np.float64))
    return EQUAL_PSNR if error == 0 else float(10 * np.log10(255.0**2 / error))


def grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB ``H x W x 3`` as brightness ``H x W`` (BT.601 weights), rounded to bytes as OpenCV does it."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY), np.uint8)


def ssim(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Structural similarity of two pictures' brightness, at most 1.

    Wang et al. 2004 with scikit-image's defaults, which DisCo's script takes: uniform 7 x 7 windows that lie
    wholly inside the picture, sample covariance, K1 = 0.01, K2 = 0.03, a range of 255.

    Args:
        picture, truth: uint8 ``H x W x 3``, or ``H x W`` of brightness.

    Raises:
        ValueError: shapes differ, or the pictures are smaller than the window.
    """
    _check_shapes(picture, truth)
    if min(picture.shape[:2]) < _SSIM_WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {_SSIM_WINDOW} x {_SSIM_WINDOW} pixels")
    x, y = (np.asarray(grey(p) if p.ndim == 3 else p, np.float64) for p in (picture, truth))
    num_pixels = _SSIM_WINDOW**2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    unbiased = num_pixels / (num_pixels - 1)
    variance_x = unbiased * (_window_mean(x * x) - mean_x**2)
    variance_y = unbiased * (_window_mean(y * y) - mean_y**2)
    covariance = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())


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


def _mean_absolute(pictures: Pictures, truth: Pictures) -> float:
    _check_shapes(pictures, truth)
    return float(np.abs(np.asarray(pictures, np.float64) - np.asarray(truth, np.float64)).mean())


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over all windows that lie inside the picture."""
    margin = _SSIM_WINDOW // 2
    means = cv2.blur(values, (_SSIM_WINDOW, _SSIM_WINDOW))
    return np.asarray(means[margin:-margin, margin:-margin], np.float64)


def _check_shapes(pictures: Pictures, truth: Pictures) -> None:
    if pictures.shape != truth.shape:
        raise ValueError(f"pictures have shape {pictures.shape}, the truth {truth.shape}; they must be equal")
