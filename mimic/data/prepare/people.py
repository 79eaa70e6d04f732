"""Which stretches of a part show the one person all along, and whether others are there.

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
"""Of the 18 joints of a body, so many have to be found for the person to count as seen."""
MIN_OTHER_JOINTS = 8
"""And so many for another person to count: half a body in the background may be a coat on a hook."""
SAME_OVERLAP = 0.4
"""Figures whose boxes share more than this of the smaller one are one person found twice."""


@dataclass(frozen=True)
class Confidence:
    """How much of a person is seen, and how surely."""

    coverage: float
    body: float
    hands: float


def is_seen(poses: PoseSequence) -> NDArray[np.bool_]:
    """Whether each frame shows the person, ``F``, of a sequence of one person."""
    return np.asarray((poses.scores[:, 0, BODY] > MIN_JOINT_SCORE).sum(axis=1) >= MIN_JOINTS)


def stretches(seen_F: NDArray[np.bool_], max_gap: int) -> list[tuple[int, int]]:
    """Where the person is there with no gap of more than `max_gap` frames: first frame and one after last."""
    frames = np.flatnonzero(seen_F)
    if len(frames) == 0:
        return []
    breaks = np.flatnonzero(np.diff(frames) > max_gap + 1)
    firsts = [frames[0], *frames[breaks + 1]]
    lasts = [*frames[breaks], frames[-1]]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts)]


def between(stretches_: list[tuple[int, int]], num_frames: int) -> list[tuple[int, int]]:
    """What stretches leave of 0 … num_frames."""
    edges = [0, *(edge for stretch in stretches_ for edge in stretch), num_frames]
    return [(first, end) for first, end in zip(edges[::2], edges[1::2]) if end > first]


def confidence(poses: PoseSequence) -> Confidence:
    """Of a sequence of one person; the means are over the frames that show them."""
    seen = is_seen(poses)
    if not seen.any():
        return Confidence(0.0, 0.0, 0.0)
    return Confidence(
        coverage=float(seen.mean()),
        body=float(poses.scores[seen, 0][:, BODY].mean()),
        hands=float(hand_confidence(poses)[seen].mean()),
    )


def has_others(followed: PoseSequence, everybody: PoseSequence, other_size: float) -> bool:
    """Whether a frame shows somebody besides the one followed.

    Args:
        followed: one frame with one person.
        everybody: the same frame with all who are found in it.
        other_size: people below this share of the followed one's longer side do not count.
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
    """The boxes' intersection as a share of the smaller one."""
    sides = np.minimum(one.box[2:], other.box[2:]) - np.maximum(one.box[:2], other.box[:2])
    smaller = min(one.area, other.area)
    return float(np.prod(np.maximum(sides, 0.0))) / smaller if smaller > 0 else 0.0
