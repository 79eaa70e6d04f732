"""Where a video cuts from one shot to another.

Around every frame three frames before are compared with three from it on. At a cut all pairs differ, and by
far more than the frames of one shot differ from each other nearby. So neither fast movement (its neighbours
differ as much) nor a flash (what comes after looks like what was before) is taken for a cut. Fades are no
cuts: nothing jumps in them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

REACH = 3
"""Frames on either side that all have to differ; a flash of fewer frames is no cut."""
NEIGHBOURS = 6
"""Frames on either side that tell how much frames of one shot differ."""
MIN_DIFFERENCE = 0.25
"""Of 1: less is never a cut. Two frames of one shot seldom reach it, of two shots in one room they do."""
MIN_RATIO = 2.5
"""How much more than its neighbours a cut differs."""
NUM_OTHER_CUTS = 2
"""Cuts that may lie among the neighbours without hiding the one looked at."""

_GRID = 16  # the picture is compared block by block, of so many by so many
_BINS = 6  # and by its colours, in so many steps a channel
_FULL_STEP = 48.0  # of 255: a block whose colour changes so much, or more, has changed wholly


@dataclass(frozen=True)
class Look:
    """What of a frame is compared."""

    blocks: NDArray[np.float32]
    """16 x 16 x 3, mean colours, 0 to 255."""
    colours: NDArray[np.float32]
    """Shares of the picture by colour, together 1."""


def look_at(frame: NDArray[np.uint8]) -> Look:
    """Reduce uint8 ``H x W x 3`` to what is compared."""
    small = np.asarray(cv2.resize(frame, (4 * _GRID, 4 * _GRID), interpolation=cv2.INTER_AREA))
    blocks = np.asarray(cv2.resize(small, (_GRID, _GRID), interpolation=cv2.INTER_AREA))
    # Counted in softened steps, so that a slight change of light does not move all pixels to another step.
    steps = small.reshape(-1, 3).astype(np.float32) * ((_BINS - 1) / 255)
    return Look(blocks.astype(np.float32), _soft_histogram(steps))


def difference(one: Look, other: Look) -> float:
    """How much two frames differ, 0 to 1: half by place, half by colour whatever the place."""
    change = np.abs(one.blocks - other.blocks).max(axis=2)
    by_place = float(np.minimum(change / _FULL_STEP, 1.0).mean())
    by_colour = 0.5 * float(np.abs(one.colours - other.colours).sum())
    return 0.5 * by_place + 0.5 * by_colour


def find_cuts(frames: Iterable[NDArray[np.uint8]]) -> Iterator[int]:
    """The numbers of the frames that begin a new shot, ascending; 0 is not among them.

    Args:
        frames: uint8 ``H x W x 3`` RGB, drawn from lazily; a few small ones are held in memory.
    """
    # looks[i] belongs to frame first + i; steps[i] is how much it differs from the one before.
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
    """Whether the frame at ``here`` of those held begins a new shot."""
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
    """Each colour counts for the eight steps around it, the more the nearer they are."""
    low = np.minimum(steps_N3.astype(np.int64), _BINS - 2)
    rest = steps_N3 - low
    counts = np.zeros(_BINS**3, dtype=np.float64)
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(np.array(corner, dtype=bool), rest, 1 - rest).prod(axis=1)
        place = ((low + corner) * np.array([_BINS * _BINS, _BINS, 1])).sum(axis=1)
        counts += np.bincount(place, weights=weight, minlength=_BINS**3)
    return (counts / len(steps_N3)).astype(np.float32)
