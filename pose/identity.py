"""Keep several people apart while they cross: each is where their own movement leads, at their own size.

Legend: F frames, P people, 18 body joints. Positions are in frame heights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from pose.figure import body_height
from pose.skeletons import BODY, VISIBLE_ABOVE
from pose.types import PoseSequence

Array = NDArray[np.float64]

_REACH = 0.35  # body heights that a person may be from where they are expected
_REACH_PER_SECOND = 0.6  # and how much farther for each second that they were not seen
_LONGEST_REACH = 1.5
_SIZE_WEIGHT = 0.7  # of a difference of sizes (logarithms) against a distance in body heights
_SAME_SIZE = 1.5  # logarithms: somebody of a wholly different size does not come back as this one
_INERTIA = 0.6  # share of the former velocity in the new one
_LOOK_AHEAD_SECONDS = 0.6  # for longer, nobody keeps the velocity that they were last seen with
_MOST_PERMUTED = 5


@dataclass
class _Person:
    """Where a person was last seen, how fast, and how large they are."""

    joints: Array
    is_seen: NDArray[np.bool_]
    velocity: Array
    size: float
    last: int
    """The frame of the last sight."""

    def expected(self, frame: int, fps: float) -> Array:
        return self.joints + self.velocity * min((frame - self.last) / fps, _LOOK_AHEAD_SECONDS)

    def cost(self, joints: Array, is_seen: NDArray[np.bool_], size: float, frame: int, fps: float) -> float:
        """Distance from what is expected, 1 at the farthest that is plausible."""
        both = self.is_seen & is_seen
        expected = self.expected(frame, fps)
        if both.sum() >= 3:
            distance = float(np.linalg.norm(expected[both] - joints[both], axis=-1).mean())
        else:
            middles = expected[self.is_seen].mean(axis=0) - joints[is_seen].mean(axis=0)
            distance = float(np.linalg.norm(middles))
        seconds = (frame - self.last - 1) / fps
        reach = min(_REACH + _REACH_PER_SECOND * seconds, _LONGEST_REACH)
        unlike = abs(float(np.log(size / self.size)))
        return (distance / self.size + _SIZE_WEIGHT * unlike) / reach

    def see(self, joints: Array, is_seen: NDArray[np.bool_], size: float, frame: int, fps: float) -> None:
        both = self.is_seen & is_seen
        if both.any():
            step = (joints[both] - self.joints[both]).mean(axis=0) / ((frame - self.last) / fps)
            self.velocity = _INERTIA * self.velocity + (1 - _INERTIA) * step
        self.joints, self.is_seen, self.last = joints, is_seen, frame
        self.size = float(np.exp(0.9 * np.log(self.size) + 0.1 * np.log(size)))


def keep_identities(sequence: PoseSequence) -> PoseSequence:
    """Assign the people of every frame to places along P by their movement and size.

    Somebody who appears where nobody is expected takes the place of the person nearest in size who is not
    seen elsewhere, or else a new place.

    Returns:
        the sequence with people in other places; frames without a person are not present there, and hold the
        position of the last sight.
    """
    people: list[_Person] = []
    seats: list[dict[int, int]] = []  # of each frame: place in the sequence to new place
    heights = np.array([sequence.width / sequence.height, 1.0])
    for frame in range(len(sequence)):
        sights = {}
        for place in np.flatnonzero(sequence.is_seen[frame]).tolist():
            joints, scores = sequence.points[frame, place] * heights, sequence.scores[frame, place]
            size = body_height(joints, scores)
            is_seen = scores[BODY] > VISIBLE_ABOVE
            if size > 0 and is_seen.any():
                sights[place] = (joints[BODY], is_seen, size)
        seat = _assign(people, sights, frame, sequence.fps)
        for at, number in seat.items():
            joints, is_seen, size = sights[at]
            if number == len(people):
                people.append(_Person(joints, is_seen, np.zeros(2), size, frame))
            else:
                people[number].see(joints, is_seen, size, frame, sequence.fps)
        seats.append(seat)
    return _in_seats(sequence, seats, len(people))


def _assign(
    people: list[_Person],
    sights: dict[int, tuple[Array, NDArray[np.bool_], float]],
    frame: int,
    fps: float,
) -> dict[int, int]:
    """The person of each sight: who is expected there, else who is not seen elsewhere, else a new one."""
    places = list(sights)
    costs = np.array([[person.cost(*sights[place], frame, fps) for person in people] for place in places])
    seat = _cheapest(costs.reshape(len(places), len(people)))
    taken = set(seat.values())
    count = len(people)
    for row, place in enumerate(places):
        if row in seat:
            continue
        size = sights[place][2]
        lost = {
            number: abs(float(np.log(size / person.size)))
            for number, person in enumerate(people)
            if number not in taken
        }
        best = min(lost, key=lambda number: lost[number], default=None)
        if best is None or lost[best] > _SAME_SIZE:
            best, count = count, count + 1
        seat[row] = best
        taken.add(best)
    return {places[row]: number for row, number in sorted(seat.items(), key=lambda item: item[1])}


def _cheapest(costs: Array) -> dict[int, int]:
    """Rows to columns with the least total cost; pairs that cost more than 1 are not made."""
    rows, columns = costs.shape
    if max(rows, columns) > _MOST_PERMUTED:
        seat: dict[int, int] = {}
        for place in np.argsort(costs, axis=None):
            row, column = divmod(int(place), columns)
            if costs[row, column] <= 1 and row not in seat and column not in seat.values():
                seat[row] = column
        return seat
    bounded = np.minimum(costs, 1.0)
    if rows <= columns:
        best = min(permutations(range(columns), rows), key=lambda order: bounded[range(rows), order].sum())
        pairs = list(zip(range(rows), best))
    else:
        best = min(permutations(range(rows), columns), key=lambda order: bounded[order, range(columns)].sum())
        pairs = list(zip(best, range(columns)))
    return {row: column for row, column in pairs if costs[row, column] <= 1}


def _in_seats(sequence: PoseSequence, seats: list[dict[int, int]], num_people: int) -> PoseSequence:
    shape = len(sequence), num_people
    points = np.zeros((*shape, *sequence.points.shape[2:]))
    scores = np.zeros((*shape, sequence.scores.shape[2]))
    is_present = np.zeros(shape, np.bool_)
    for frame, seat in enumerate(seats):
        if frame:
            points[frame] = points[frame - 1]
        for place, number in seat.items():
            points[frame, number] = sequence.points[frame, place]
            scores[frame, number] = sequence.scores[frame, place]
            is_present[frame, number] = True
    return replace(sequence, points=points, scores=scores, is_present=is_present)
