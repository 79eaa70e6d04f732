"""Top-down key points with SimCC heads: the crop around a person, and the peaks back in the picture.

SimCC (Li et al., ECCV 2022, arXiv 2107.03332) classifies x and y apart, in bins finer than a pixel.
Everything here is a pure function; the numbers are those of RTMPose and DWPose.
Legend: N people, K points, C channels, H height, W width.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BOX_PADDING = 1.25
BINS_PER_PIXEL = 2.0
MEAN = np.array([123.675, 116.28, 103.53], dtype=np.float32)
STD = np.array([58.395, 57.12, 57.375], dtype=np.float32)


def crop_region(
    box: NDArray[np.float64], size_HW: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and size (x, y; pixels) of what is cut out for a box (x0, y0, x1, y1).

    The box grows by a quarter and is then widened or heightened to the aspect of the crop.
    """
    x0, y0, x1, y1 = np.asarray(box, dtype=np.float64)[:4]
    width, height = (x1 - x0) * BOX_PADDING, (y1 - y0) * BOX_PADDING
    aspect = size_HW[1] / size_HW[0]
    if width > height * aspect:
        height = width / aspect
    else:
        width = height * aspect
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2]), np.array([width, height])


def crop(
    picture: NDArray[np.uint8],
    centre: NDArray[np.float64],
    size: NDArray[np.float64],
    size_HW: tuple[int, int],
) -> NDArray[np.uint8]:
    """Cut out a region of `crop_region`, scaled to ``H x W x 3``; black outside the picture."""
    height, width = size_HW
    scale = width / size[0]
    matrix = np.array(
        [
            [scale, 0.0, width / 2 - scale * centre[0]],
            [0.0, scale, height / 2 - scale * centre[1]],
        ]
    )
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR))


def normalise(crops_NHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Crops as the network wants them: standardised by channel, float32 ``N x 3 x H x W``."""
    standardised = (crops_NHW3.astype(np.float32) - MEAN) / STD
    return np.ascontiguousarray(standardised.transpose(0, 3, 1, 2))


def decode(
    simcc_x: NDArray[np.float32],
    simcc_y: NDArray[np.float32],
    centres: NDArray[np.float64],
    sizes: NDArray[np.float64],
    size_HW: tuple[int, int],
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Peaks of both axes as points of the picture.

    Args:
        simcc_x, simcc_y: ``N x K x (bins of that axis)``.
        centres, sizes: ``N x 2``, what `crop_region` gave.

    Returns:
        points ``N x K x 2`` in pixels of the picture and scores ``N x K``, the smaller of the two peaks. A
        point whose score is not positive lies half a crop pixel outside the crop's top left corner.
    """
    bins = np.stack([simcc_x.argmax(axis=2), simcc_y.argmax(axis=2)], axis=-1).astype(np.float64)
    scores = np.minimum(simcc_x.max(axis=2), simcc_y.max(axis=2))
    bins[scores <= 0] = -1
    fractions = bins / BINS_PER_PIXEL / np.array([size_HW[1], size_HW[0]], dtype=np.float64)
    points = fractions * sizes[:, None] + centres[:, None] - sizes[:, None] / 2
    return points, scores
