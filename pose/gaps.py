"""Short gaps in estimated poses: bridged from both sides with falling confidence.

Legend: F frames, P people, K = 134 points.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import BODY, FACE, LEFT_HAND, LEFT_WRIST, NOSE, RIGHT_HAND, RIGHT_WRIST, VISIBLE_ABOVE
from pose.types import NUM_POINTS, PoseError, PoseSequence

Array = NDArray[np.float64]

LARGEST_JUMP = 0.5  # of the body's longer side, between the two ends of a gap of a whole person
FADE = 0.5  # of the score is left in the middle of the longest gap

# The joint that each point of a hand or the face moves with; itself for all others.
_CARRIER = np.arange(NUM_POINTS)
_CARRIER[LEFT_HAND], _CARRIER[RIGHT_HAND], _CARRIER[FACE] = LEFT_WRIST, RIGHT_WRIST, NOSE


def bridge_gaps(sequence: PoseSequence, seconds: float = 0.3) -> PoseSequence:
    """Fill short gaps of points between two frames that show them.

    A gap is a stretch of frames in which a point has no score (0, or its person is not present) after and
    before a frame in which its score is above 0.3. Gaps up to `seconds` get positions in between; hands and
    face move with the wrist and the nose where these are seen throughout. Scores fall from both ends towards
    the middle, so that a hand fades in place of blinking. Longer gaps and both ends of the clip stay as they
    are, and so does a gap across which the person jumps.

    Args:
        sequence: the poses; each place along P holds one person, as `follow_person` sees to.
        seconds: the longest gap; 0 changes nothing.

    Returns:
        The sequence with the bridged points; the sequence itself where there is nothing to bridge.

    Raises:
        PoseError: `seconds` is negative or not finite.
    """
    if not 0 <= seconds < np.inf:
        raise PoseError(f"gaps of {seconds} seconds cannot be bridged; give 0 (off) or more, such as 0.3")
    assert sequence.is_present is not None
    longest = int(np.floor(seconds * sequence.fps + 1e-6))
    shown = np.where(sequence.is_present[..., None], sequence.scores, 0.0)
    gaps = [
        (person, *gap)
        for person in range(sequence.num_people)
        for gap in _gaps(shown[:, person], longest)
        if not _jumps(sequence, person, *gap[:2])
    ]
    if not gaps:
        return sequence
    points, scores, is_present = sequence.points.copy(), shown, sequence.is_present.copy()
    for person, start, stop, which in gaps:
        is_present[start + 1 : stop, person] = True
        ends = points[[start, stop], person], scores[[start, stop], person]
        for frame in range(start + 1, stop):
            share = (frame - start) / (stop - start)
            fade = 1 - FADE * min(frame - start, stop - frame) / (0.5 * (longest + 1))
            place = _between(ends[0], sequence, person, (start, frame, stop), share)
            points[frame, person, which] = place[which]
            scores[frame, person, which] = fade * ((1 - share) * ends[1][0] + share * ends[1][1])[which]
    return replace(sequence, points=points, scores=scores, is_present=is_present)


def _gaps(scores: Array, longest: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Last frame before and first frame after each gap of a person, and its points; scores ``F x K``."""
    found: dict[tuple[int, int], list[int]] = {}
    for point in range(scores.shape[1]):
        shown = np.flatnonzero(scores[:, point] > 0)
        for start, stop in pairwise(shown):
            is_sure = scores[[start, stop], point].min() > VISIBLE_ABOVE
            if 1 < stop - start <= longest + 1 and is_sure:
                found.setdefault((int(start), int(stop)), []).append(point)
    return [(start, stop, np.array(which)) for (start, stop), which in sorted(found.items())]


def _between(
    ends: Array, sequence: PoseSequence, person: int, frames: tuple[int, int, int], share: float
) -> Array:
    """All points ``K x 2`` of a person part of the way between two ends ``2 x K x 2``."""
    start, frame, stop = frames
    place = (1 - share) * ends[0] + share * ends[1]
    own = sequence.scores[start : stop + 1, person]
    is_carried = (own[:, _CARRIER] > VISIBLE_ABOVE).all(axis=0) & (np.arange(NUM_POINTS) != _CARRIER)
    offset = sequence.points[frame, person] - place  # where the carriers are, against where they would be
    moved: Array = np.where(is_carried[:, None], place + offset[_CARRIER], place)
    return moved


def _jumps(sequence: PoseSequence, person: int, start: int, stop: int) -> bool:
    """Whether the two ends of a gap are too far apart for one person's movement."""
    size = [sequence.width, sequence.height]
    body = sequence.points[[start, stop], person, BODY] * size
    is_seen = (sequence.scores[[start, stop], person, BODY] > VISIBLE_ABOVE).all(axis=0)
    if not is_seen.any():
        return False
    extent = np.ptp(body[:, is_seen], axis=1).max()
    return bool(
        np.median(np.linalg.norm(body[1] - body[0], axis=-1)[is_seen]) > LARGEST_JUMP * max(extent, 1.0)
    )
