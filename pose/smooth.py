"""Calm the jitter of estimated poses without delaying the motion.

Legend: F frames, P people, K = 134 points.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.sides import is_flip
from pose.skeletons import BODY
from pose.types import PoseError, PoseSequence


def smooth_pose(sequence: PoseSequence, *, window: int = 5, jump: float = 0.5) -> PoseSequence:
    """Smooth every point along time.

    Through the positions in a window around each frame a line is fitted, weighted by the points' scores and
    by nearness in time (raised cosine); its value at the frame is the new position. The window is
    symmetric, so nothing is delayed, and a line keeps steady motion as it is, at the ends of the clip too.

    A window ends where the person is absent (not present, or all scores 0), where they jump and where left
    and right are exchanged. Scores stay as they are; a point whose score is 0 stays where it is and moves no
    other.

    Args:
        sequence: the poses. Each place along P must hold the same person throughout, as `follow_person`
            sees to; where it does not, that is a jump.
        window: odd number of frames; 1 changes nothing.
        jump: what counts as a jump between two frames: the median distance that the body's joints move, as a
            fraction of the larger side of the body.

    Raises:
        PoseError: the window is not odd and positive, or `jump` is not positive.
    """
    if window < 1 or window % 2 == 0:
        raise PoseError(f"window is {window}; it must be an odd number of frames: 1, 3, 5, …")
    if not jump > 0:
        raise PoseError(f"jump is {jump}; it must be positive, in body sizes")
    if window == 1 or len(sequence) < 2:
        return sequence

    is_here = sequence.is_seen
    stretches = _stretches(sequence, is_here, jump)
    weights = np.where(is_here[..., None], np.clip(sequence.scores, 0.0, 1.0), 0.0)
    # Weighted moments of time and position around each frame: w, w t, w t², w x, w t x.
    w0, w1, w2 = (np.zeros_like(weights) for _ in range(3))
    x0, x1 = np.zeros_like(sequence.points), np.zeros_like(sequence.points)
    half = window // 2
    reach = min(half, len(sequence) - 1)
    for step in range(-reach, reach + 1):
        here, there = _overlap(len(sequence), step)
        nearness = np.cos(0.5 * np.pi * step / (half + 1)) ** 2
        is_same = (stretches[here] == stretches[there])[..., None]
        weight = nearness * np.where(is_same, weights[there], 0.0)
        # Positions relative to the frame's own: a resting point then stays exactly where it is.
        change = weight[..., None] * (sequence.points[there] - sequence.points[here])
        w0[here] += weight
        w1[here] += weight * step
        w2[here] += weight * step**2
        x0[here] += change
        x1[here] += change * step
    spread = w0 * w2 - w1**2
    is_line = spread > 1e-9 * np.maximum(w0 * w2, 1e-12)
    slope_form = (w2[..., None] * x0 - w1[..., None] * x1) / np.where(is_line, spread, 1.0)[..., None]
    mean_form = x0 / np.where(w0 > 0, w0, 1.0)[..., None]
    moved = np.where(is_line[..., None], slope_form, mean_form)
    moved = np.where((weights > 0)[..., None], moved, 0.0)
    return replace(sequence, points=sequence.points + moved)


def _overlap(num_frames: int, step: int) -> tuple[slice, slice]:
    """Frames that have a frame `step` later (or earlier), and those frames."""
    return (
        slice(max(0, -step), num_frames - max(0, step)),
        slice(max(0, step), num_frames + min(0, step)),
    )


def _stretches(sequence: PoseSequence, is_here: NDArray[np.bool_], jump: float) -> NDArray[np.int64]:
    """F x P: numbers, equal within an unbroken stretch of one person, different between stretches."""
    body = sequence.points[:, :, BODY] * [sequence.width, sequence.height]  # pixels
    is_seen = (sequence.scores[:, :, BODY] > 0) & is_here[..., None]
    sizes = _sizes(body, is_seen)  # F x P
    is_common = is_seen[1:] & is_seen[:-1]
    distances = np.where(is_common, np.linalg.norm(body[1:] - body[:-1], axis=-1), np.nan)
    distances[~is_common.any(axis=-1)] = 0.0  # nothing to compare: no sign of a jump
    is_jump = np.nanmedian(distances, axis=-1) > jump * np.maximum(sizes[1:], sizes[:-1])
    is_break = is_jump | (is_here[1:] != is_here[:-1]) | is_flip(sequence)
    return np.concatenate([np.zeros((1, sequence.num_people), np.int64), is_break.cumsum(axis=0)])


def _sizes(body: NDArray[np.float64], is_seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F x P: the larger side of the box around the joints that are seen; 0 if none is."""
    highest = np.where(is_seen[..., None], body, -np.inf).max(axis=2)
    lowest = np.where(is_seen[..., None], body, np.inf).min(axis=2)
    return np.maximum(highest - lowest, 0.0).max(axis=-1)
