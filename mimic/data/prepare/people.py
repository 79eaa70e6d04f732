"""Find the ranges of a part that show the followed person throughout, and detect other people.

Legend: F frames, K points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose import PoseSequence
from pose.hands import hand_confidence
from pose.skeletons import BODY
from pose.tracking import MIN_JOINT_SCORE, Figure, figure_of

MIN_JOINTS = 4
"""Minimum number of found joints, of 18, for a person to count as seen."""
MIN_OTHER_JOINTS = 8
"""Minimum number of found joints, of 18, for another person to count; fewer are often false detections."""
SAME_OVERLAP = 0.4
"""Two detections whose intersection is more than this share of the smaller box are the same person."""


@dataclass(frozen=True)
class Confidence:
    """Fraction of frames that show a person, and mean confidences of body and hand keypoints."""

    coverage: float
    body: float
    hands: float


def is_seen(poses: PoseSequence) -> NDArray[np.bool_]:
    """Return whether each frame shows the person, ``F``, for a sequence of one person."""
    return np.asarray((poses.scores[:, 0, BODY] > MIN_JOINT_SCORE).sum(axis=1) >= MIN_JOINTS)


def stretches(seen_F: NDArray[np.bool_], max_gap: int) -> list[tuple[int, int]]:
    """Find the frame ranges (first, end) that show the person with no gap of more than `max_gap` frames."""
    frames = np.flatnonzero(seen_F)
    if len(frames) == 0:
        return []
    breaks = np.flatnonzero(np.diff(frames) > max_gap + 1)
    firsts = [frames[0], *frames[breaks + 1]]
    lasts = [*frames[breaks], frames[-1]]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts)]


def between(stretches_: list[tuple[int, int]], num_frames: int) -> list[tuple[int, int]]:
    """Return the frame ranges of [0, num_frames) outside the given ranges."""
    edges = [0, *(edge for stretch in stretches_ for edge in stretch), num_frames]
    return [(first, end) for first, end in zip(edges[::2], edges[1::2]) if end > first]


def confidence(poses: PoseSequence) -> Confidence:
    """Compute the confidence of a sequence of one person; means are over the frames that show the person."""
    seen = is_seen(poses)
    if not seen.any():
        return Confidence(0.0, 0.0, 0.0)
    return Confidence(
        coverage=float(seen.mean()),
        body=float(poses.scores[seen, 0][:, BODY].mean()),
        hands=float(hand_confidence(poses)[seen].mean()),
    )


def has_others(followed: PoseSequence, everybody: PoseSequence, other_size: float) -> bool:
    """Return whether a frame shows another person than the followed one.

    Args:
        followed: one frame with the followed person.
        everybody: the same frame with all detected persons.
        other_size: persons whose longer side is below this share of the followed person's are ignored.
    """
    size = np.array([followed.width, followed.height], dtype=np.float64)
    own = figure_of(followed.points[0, 0] * size, followed.scores[0, 0])
    assert everybody.is_present is not None
    present = everybody.is_present[0]
    for points_K2, scores_K in zip(everybody.points[0, present], everybody.scores[0, present]):
        other = figure_of(points_K2 * size, scores_K)
        if int(other.is_seen.sum()) < MIN_OTHER_JOINTS:
            continue
        is_large = other.sides.max() >= other_size * own.sides.max()
        if is_large and _shared(own, other) <= SAME_OVERLAP:
            return True
    return False


def _shared(one: Figure, other: Figure) -> float:
    """Compute the intersection of two boxes as a share of the smaller box."""
    sides = np.minimum(one.box[2:], other.box[2:]) - np.maximum(one.box[:2], other.box[:2])
    smaller = min(one.area, other.area)
    return float(np.prod(np.maximum(sides, 0.0))) / smaller if smaller > 0 else 0.0
