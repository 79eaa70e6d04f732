"""Is a picture a drawn skeleton, as OpenPose and DWPose draw them, and not one of people?"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

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
FRAMES_LOOKED_AT = 3
MOST_BLACK_FRAMES = 60  # before anything is drawn
SHOWN_ABOVE = 40  # of 255
MIN_SHARE = 0.01  # of the saturated pixels, for a hue to count


def are_skeleton_drawings(frames: Iterable[NDArray[np.uint8]]) -> bool:
    """Whether a clip shows drawn skeletons: the first frames that are not black do.

    Args:
        frames: the first frames of the clip, RGB uint8; those that follow are not read.
    """
    shown = (frame for frame in islice(frames, MOST_BLACK_FRAMES) if frame.max() > SHOWN_ABOVE)
    first = list(islice(shown, FRAMES_LOOKED_AT))
    return bool(first) and all(is_skeleton_drawing(frame) for frame in first)


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
