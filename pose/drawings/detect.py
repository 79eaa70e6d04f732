"""Is a picture a drawn skeleton, as OpenPose and DWPose draw them, and not one of people?"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BLACK_BELOW = 24  # of 255, the brightest channel
MIN_BLACK = 0.7  # share of the picture
MIN_DRAWN = 0.0005
SATURATED_ABOVE = 0.6
MIN_SATURATED = 0.55  # share of what is drawn; points of the face are white
NUM_HUES = 12
MIN_HUES = 6  # the rainbow of the limbs has them all
MIN_SHARE = 0.01  # of the saturated pixels, for a hue to count


def is_skeleton_drawing(picture: NDArray[np.uint8]) -> bool:
    """Whether a picture shows strokes in the colours of the rainbow on black.

    Args:
        picture: RGB uint8 ``H x W x 3``.
    """
    brightest = picture.max(axis=2)
    is_drawn = brightest >= BLACK_BELOW
    share = float(is_drawn.mean())
    if not MIN_DRAWN <= share <= 1 - MIN_BLACK:
        return False
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV_FULL)[is_drawn]
    is_saturated = hsv[:, 1] >= 255 * SATURATED_ABOVE
    if is_saturated.mean() < MIN_SATURATED:
        return False
    hues = np.bincount(hsv[is_saturated, 0].astype(np.int64) * NUM_HUES // 256, minlength=NUM_HUES)
    return bool((hues >= MIN_SHARE * hues.sum()).sum() >= MIN_HUES)
