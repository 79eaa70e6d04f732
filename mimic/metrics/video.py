"""How evenly does a clip move? Changes from frame to frame, flicker against the truth, jumps at seams.

Legend: F frames, H height, W width. Pictures are uint8 RGB or float in [0, 255], all of one size; a clip is
an array ``F x H x W x 3`` or an iterable of frames, of which two are held at a time.
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
    """Compute `changes` frame by frame, holding one frame."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._before: NDArray[np.float32] | None = None

    def add(self, picture: Pictures, truth: Pictures | None = None) -> None:
        """Add the next frame and the truth's."""
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
    """Where a clip passes from one window to another: the steps t (from frame t - 1 to frame t) of each seam.

    Windows are taken as pieces of consecutive frames; one that wraps around the end of the clip has two, one
    at each end of the clip. In the order of their last frames, each piece and the next one make a seam, from
    the step at which the later one begins to the step after the earlier one's last frame: the frames that
    both hold, whatever weights blend them, and the first one after. Where only one of the two steps is
    within the clip, the seam is that step alone. This is so for both pieces of a wrapped window: the piece at
    the start of the clip has its seam where it ends, the piece at the end of the clip where it begins.

    Args:
        windows: frame indices of each window, as `mimic.sampling.windows` gives them. Frame 0 of windows that
            all begin with it (MimicMotion's reference) belongs to no seam.
        first_frame: number of frames at the start that the measured clip does not have: 1 where the
            reference's own frame was dropped. Steps are counted without them.
    """
    has_reference = len(windows) > 1 and all(window[0] == 0 for window in windows)
    start = max(first_frame, int(has_reference))
    pieces = sorted((p for window in windows for p in _pieces(window, start)), key=lambda p: (p[-1], p[0]))
    end = max((piece[-1] for piece in pieces), default=start)
    seams = []
    for earlier, later in pairwise(pieces):
        steps = range(later[0], earlier[-1] + 2)
        if later[0] == start:
            steps = steps[-1:]
        elif earlier[-1] == end:
            steps = steps[:1]
        if len(steps) > 0:
            seams.append(range(steps[0] - first_frame, steps[-1] + 1 - first_frame))
    return seams


def _pieces(window: Sequence[int], start: int) -> list[range]:
    """The frames of a window from `start` on, as stretches of consecutive ones in order."""
    frames = sorted(frame for frame in window if frame >= start)
    breaks = [0, *(i for i in range(1, len(frames)) if frames[i] != frames[i - 1] + 1), len(frames)]
    return [range(frames[i], frames[j - 1] + 1) for i, j in pairwise(breaks) if i < j]


def seam_jump(found: NDArray[np.float64], seams: Sequence[range | int]) -> float | None:
    """Ratio of the largest change within a seam to the largest within as many steps elsewhere; 1 is seamless.

    The largest change of a seam is divided by the mean of the largest changes of all stretches of the same
    length that touch no seam; the result is the mean over the seams. Stretches of equal length are compared
    so that a long seam does not look worse than a short one.

    Args:
        found: `changes` of a clip; entry t - 1 is the step from frame t - 1 to frame t.
        seams: steps of each seam (`seam_steps`), or single steps.

    Returns:
        None where it cannot be measured: no seams, no stretch without one, or a clip that is still elsewhere.

    Raises:
        ValueError: a seam is not within the clip.
    """
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
