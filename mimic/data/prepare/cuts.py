"""Detect the cuts of a video, where one shot ends and another begins.

At every frame, the three frames before it are compared with the three frames from it on. At a cut, all pairs
differ, and by far more than neighbouring frames of one shot. Fast movement is therefore not detected as a cut
(neighbouring frames differ as much), nor is a flash (the frames after it resemble those before). Fades are
not detected either, because they have no abrupt change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

REACH = 3
"""Number of frames on either side that all have to differ; a flash of fewer frames is not a cut."""
NEIGHBOURS = 6
"""Number of frames on either side that are used to estimate how much the frames of one shot differ."""
MIN_DIFFERENCE = 0.25
"""Minimum difference of a cut, of at most 1. Frames of one shot rarely reach it; frames of two shots in the
same room do."""
MIN_RATIO = 2.5
"""Minimum ratio of the difference at a cut to the differences in its neighbourhood."""
NUM_OTHER_CUTS = 2
"""Number of other cuts in the neighbourhood with which a cut is still detected."""

_GRID = 16  # blocks along each side of the picture, compared by their mean colours
_BINS = 6  # histogram bins per colour channel
_FULL_STEP = 48.0  # of 255: change of a block's colour from which on its difference is 1


@dataclass(frozen=True)
class Look:
    """Features of a frame that are compared."""

    blocks: NDArray[np.float32]
    """Mean colours of blocks, ``16 x 16 x 3``, 0 to 255."""
    colours: NDArray[np.float32]
    """Colour histogram with sum 1."""


def look_at(frame: NDArray[np.uint8]) -> Look:
    """Compute the features of a frame, uint8 ``H x W x 3``."""
    small = np.asarray(cv2.resize(frame, (4 * _GRID, 4 * _GRID), interpolation=cv2.INTER_AREA))
    blocks = np.asarray(cv2.resize(small, (_GRID, _GRID), interpolation=cv2.INTER_AREA))
    # A soft histogram, so that a slight change of light does not move all pixels to another bin.
    steps = small.reshape(-1, 3).astype(np.float32) * ((_BINS - 1) / 255)
    return Look(blocks.astype(np.float32), _soft_histogram(steps))


def difference(one: Look, other: Look) -> float:
    """Compute the difference of two frames, 0 to 1: the mean of their block and histogram differences."""
    change = np.abs(one.blocks - other.blocks).max(axis=2)
    by_place = float(np.minimum(change / _FULL_STEP, 1.0).mean())
    by_colour = 0.5 * float(np.abs(one.colours - other.colours).sum())
    return 0.5 * by_place + 0.5 * by_colour


def find_cuts(frames: Iterable[NDArray[np.uint8]]) -> Iterator[int]:
    """Yield the indices of frames that begin a new shot, ascending, without 0.

    Args:
        frames: uint8 ``H x W x 3`` RGB, consumed lazily; only features of a few frames are kept in memory.
    """
    # looks[i] belongs to frame first + i; steps[i] is its difference from the frame before.
    looks: deque[Look] = deque(maxlen=2 * NEIGHBOURS)
    steps: deque[float] = deque(maxlen=2 * NEIGHBOURS)
    num_seen = 0
    for frame in frames:
        look = look_at(frame)
        steps.append(difference(looks[-1], look) if looks else 0.0)
        looks.append(look)
        num_seen += 1
        here = len(looks) - NEIGHBOURS
        if here > 0 and _is_cut(looks, steps, here):
            yield num_seen - NEIGHBOURS
    for here in range(max(1, len(looks) - NEIGHBOURS + 1), len(looks)):
        if _is_cut(looks, steps, here):
            yield num_seen - len(looks) + here


def _is_cut(looks: deque[Look], steps: deque[float], here: int) -> bool:
    """Return whether the frame at index ``here`` of the buffers begins a new shot."""
    if steps[here] < MIN_DIFFERENCE:
        return False
    others = sorted((steps[i] for i in range(1, len(steps)) if i != here), reverse=True)
    usual = others[NUM_OTHER_CUTS] if len(others) > NUM_OTHER_CUTS else 0.0
    least = min(
        difference(looks[i], looks[j])
        for i in range(max(0, here - REACH), here)
        for j in range(here, min(len(looks), here + REACH))
    )
    return least >= MIN_DIFFERENCE and least >= MIN_RATIO * usual


def _soft_histogram(steps_N3: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute a colour histogram in which each colour is distributed linearly over the eight nearest bins."""
    low = np.minimum(steps_N3.astype(np.int64), _BINS - 2)
    rest = steps_N3 - low
    counts = np.zeros(_BINS**3, dtype=np.float64)
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(np.array(corner, dtype=bool), rest, 1 - rest).prod(axis=1)
        place = ((low + corner) * np.array([_BINS * _BINS, _BINS, 1])).sum(axis=1)
        counts += np.bincount(place, weights=weight, minlength=_BINS**3)
    return (counts / len(steps_N3)).astype(np.float32)
