"""How evenly does a clip move? Frame-to-frame changes, flicker against the truth, jumps at segments' seams.

Legend: F frames, H height, W width. Pictures are uint8 RGB or float in [0, 255], all of one size; a clip is
an array ``F x H x W x 3`` or anything that gives frames one by one, of which two are held at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise, repeat

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from mimic.metrics.image import Pictures


def changes(pictures: Iterable[Pictures], truth: Iterable[Pictures] | None = None) -> NDArray[np.float64]:
    """Mean absolute change from each frame to the next, grey levels: ``F - 1`` values.

    With the truth, of the change that is not the truth's: ``|(g_t - g_{t-1}) - (x_t - x_{t-1})|``. Movement
    that belongs to the clip, and an error that stays as it is, then count nothing.

    Raises:
        ValueError: frames differ in size, or the two clips in length.
    """
    meter = ChangeMeter()
    others: Iterable[Pictures | None] = repeat(None) if truth is None else truth
    for picture, other in zip(pictures, others, strict=truth is not None):
        meter.add(picture, other)
    return np.array(meter.found, np.float64)


class ChangeMeter:
    """`changes` of a clip that comes frame by frame; one frame is held."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._before: NDArray[np.float32] | None = None

    def add(self, picture: Pictures, truth: Pictures | None = None) -> None:
        """Take in the next frame, and the truth's."""
        now = np.asarray(picture, np.float32)
        if truth is not None:
            if np.shape(truth) != now.shape:
                raise ValueError(f"a frame has shape {now.shape}, the truth's {np.shape(truth)}")
            now = now - np.asarray(truth, np.float32)
        if self._before is not None:
            if self._before.shape != now.shape:
                raise ValueError(f"frames of one clip differ in shape: {self._before.shape} and {now.shape}")
            self.found.append(float(np.abs(now - self._before).mean(dtype=np.float64)))
        self._before = now


def flicker(pictures: Iterable[Pictures], truth: Iterable[Pictures] | None = None) -> float:
    """Mean of `changes`, grey levels. Without the truth it is for still scenes; 0 is perfect in both cases.

    Raises:
        ValueError: the clip has fewer than two frames; or as `changes`.
    """
    found = changes(pictures, truth)
    if len(found) == 0:
        raise ValueError("flicker needs a clip of two frames or more")
    return float(found.mean())


def seam_steps(windows: Sequence[Sequence[int]], *, first_frame: int = 0) -> list[range]:
    """Where a clip passes from one window to the next: for each seam, the steps t (frame t - 1 to t) of it.

    Neighbouring windows share frames; the passage is from the first frame that both hold to the first that
    the earlier one has no more, whatever weights blend them, so that all ways of fusing are measured at the
    same steps. Windows without an overlap meet in one step.

    Args:
        windows: frame indices of each window, as `mimic.sampling.windows` gives them. Frame 0 of windows that
            all hold it (the reference of MimicMotion) is at no seam.
        first_frame: how many frames at the start are not part of the clip that is measured: 1 where the
            reference's own frame has been dropped. Steps are counted without them.
    """
    ordered = sorted((sorted(window) for window in windows), key=lambda window: window[-1])
    is_shared = len(ordered) > 1 and all(window[0] == 0 for window in ordered)
    if is_shared and any(len(window) > 1 for window in ordered):
        ordered = [window[1:] for window in ordered if len(window) > 1]
    seams = []
    for earlier, later in pairwise(ordered):
        start, stop = later[0] - first_frame, earlier[-1] + 2 - first_frame
        if start < stop:
            seams.append(range(max(start, 1), stop))
    return seams


def seam_jump(
    pictures: Iterable[Pictures],
    seams: Sequence[range | int],
    truth: Iterable[Pictures] | None = None,
) -> float | None:
    """How much larger the largest change within a seam is than within as many steps elsewhere; 1 is seamless.

    For each seam its largest step (of `changes`) is divided by the mean of the largest steps of all stretches
    of the same length that touch no seam; the result is the mean over the seams. Comparing largest with
    largest keeps a long passage from looking worse than a short one.

    Args:
        seams: steps of each seam (`seam_steps`), or a single step t: from frame t - 1 to frame t.
        truth: measures the changes that the truth does not have.

    Returns:
        None where it cannot be told: no seams, no stretch without one, or a clip that stands still elsewhere.

    Raises:
        ValueError: a seam is not within the clip; or as `changes`.
    """
    return seam_jump_of(changes(pictures, truth), seams)


def seam_jump_of(found: NDArray[np.float64], seams: Sequence[range | int]) -> float | None:
    """`seam_jump` of changes that are known already; entry t - 1 is the step from frame t - 1 to frame t."""
    zones = [seam if isinstance(seam, range) else range(seam, seam + 1) for seam in seams]
    is_seam = np.zeros(len(found) + 1, bool)
    for zone in zones:
        if len(zone) == 0 or zone[0] < 1 or zone[-1] > len(found):
            raise ValueError(f"seam {zone} is not within a clip of {len(found) + 1} frames (steps from 1)")
        is_seam[list(zone)] = True
    elsewhere = {length: _largest_elsewhere(found, is_seam, length) for length in {len(z) for z in zones}}
    ratios = []
    for zone in zones:
        usual = elsewhere[len(zone)]
        if usual is None:
            return None
        ratios.append(found[zone[0] - 1 : zone[-1]].max() / usual)
    return float(np.mean(ratios)) if ratios else None


def _largest_elsewhere(found: NDArray[np.float64], is_seam: NDArray[np.bool_], length: int) -> float | None:
    """Mean of the largest steps of all stretches of `length` that touch no seam."""
    if length > len(found):
        return None
    largest = sliding_window_view(found, length).max(axis=1)
    is_free = ~sliding_window_view(is_seam[1:], length).any(axis=1)
    usual = float(largest[is_free].mean()) if is_free.any() else 0.0
    return usual if usual > 0 else None
