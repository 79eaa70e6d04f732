"""Which of the people of each frame is the one that is followed.

Legend: F frames, P people, K points. Points are fractions of the picture, as in a PoseSequence; only figures
are compared in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import BODY
from pose.text import shown
from pose.types import NUM_POINTS, PoseError, PoseSequence

Followed = str | int
CHOICES = ("largest", "center", "all")

MIN_JOINT_SCORE = 0.3
MIN_AFFINITY = 0.05
REACH = 0.15  # of a figure's longer side: how far joints seem to move between two looks at a person at rest
REACH_PER_SECOND = 0.6  # and how much farther they come in a second
CLEAR_AFFINITY = 0.3  # of two figures that surely are one person
PATIENCE_SECONDS = 2.0


def follow_person(sequence: PoseSequence, person: Followed = "largest") -> PoseSequence:
    """Follow one person through the people of every frame.

    Args:
        person: `largest` or `center` (nearest to the middle of the picture) or an index (0 is the person
            furthest left), all as seen in the first frame that shows anybody; or `all`.

    Returns:
        P = 1 and everywhere present. Frames without the person have scores of 0 and the position of the last
        (at the start: the next) frame with them. With `all` everybody is kept, each in the same place along
        P for as long as they can be told apart; padding is not present.

    Raises:
        PoseError: nobody is found in any frame, or there are not as many people as the index asks for.
    """
    person = check_choice(person)
    if person == "all":
        return _keep_places(sequence)
    tracker = PersonTracker(person, sequence.height, sequence.width, sequence.fps)
    chosen = []
    for people, scores in _people_by_frame(sequence):
        index = tracker.choose(people, scores)
        chosen.append(None if index is None else (people[index], scores[index]))
    return sequence_of_one(chosen, like=sequence)


def check_choice(person: Followed) -> Followed:
    """The choice as `follow_person` takes it; digits in a string count as an index.

    Raises:
        PoseError: it is neither `largest`, `center`, `all` nor an index from 0.
    """
    if isinstance(person, str) and person.isdecimal():
        return int(person)
    if person in CHOICES or (isinstance(person, int) and not isinstance(person, bool) and person >= 0):
        return person
    raise PoseError(
        f"person is {shown(person)}; expected largest, center, all or an index from 0 (left to right)"
    )


class PersonTracker:
    """Follows one person by overlap of the boxes and distance of the joints, frame after frame.

    After a frame without them the person may have moved further, so the reach grows with the gap; after two
    seconds the person counts as new and is chosen by the first frame's rule (an index: the nearest to where
    they were last).
    """

    def __init__(self, person: Followed, height: int, width: int, fps: float) -> None:
        self.person = person
        self._centre = np.array([width / 2, height / 2])
        self._size = np.array([width, height], dtype=np.float64)
        self._seconds_a_frame = 1.0 / fps
        self._last: Figure | None = None
        self._has_chosen = False
        self.num_missed = 0

    def choose(self, points_PK2: NDArray[np.float64], scores_PK: NDArray[np.float64]) -> int | None:
        """The index of the followed person among a frame's people (points as fractions), None if absent."""
        index = self.find(points_PK2, scores_PK)
        if index is None:
            self.miss()
        else:
            self.see(points_PK2[index], scores_PK[index])
        return index

    def find(self, points_PK2: NDArray[np.float64], scores_PK: NDArray[np.float64]) -> int | None:
        """As `choose`, without remembering the answer."""
        figures = [figure_of(p * self._size, s) for p, s in zip(points_PK2, scores_PK, strict=True)]
        if not figures:
            return None
        if self._last is None:
            return self._first(figures)
        if self.is_new:
            return self._nearest(figures) if isinstance(self.person, int) else self._first(figures)
        seconds = (self.num_missed + 1) * self._seconds_a_frame
        affinities = [affinity(self._last, figure, seconds) for figure in figures]
        best = int(np.argmax(affinities))
        return best if affinities[best] >= MIN_AFFINITY else None

    def see(self, points_K2: NDArray[np.float64], scores_K: NDArray[np.float64]) -> None:
        """The person is here in this frame (points as fractions)."""
        self._last = figure_of(points_K2 * self._size, scores_K)
        self._has_chosen = True
        self.num_missed = 0

    def miss(self) -> None:
        """The person is not in this frame."""
        self.num_missed += 1

    def forget(self) -> None:
        """The person seen so far was the wrong one: choose anew, by the rule of the first frame."""
        self._last = None
        self.num_missed = 0

    @property
    def is_new(self) -> bool:
        """Whether the next choice goes by the rule of the first frame and wants everybody to choose from."""
        return self._last is None or self.num_missed * self._seconds_a_frame >= PATIENCE_SECONDS

    def _first(self, figures: list[Figure]) -> int:
        if self.person == "largest":
            return int(np.argmax([figure.area for figure in figures]))
        if self.person == "center":
            return int(np.argmin([np.linalg.norm(figure.centre - self._centre) for figure in figures]))
        wanted = int(self.person)
        if wanted >= len(figures) and not self._has_chosen:
            raise PoseError(
                f"person {wanted} was asked for, but the first frame with people shows {len(figures)} "
                f"(0 to {len(figures) - 1}, left to right); choose another index, largest or center"
            )
        order = np.argsort([figure.centre[0] for figure in figures], kind="stable")
        return int(order[min(wanted, len(figures) - 1)])

    def _nearest(self, figures: list[Figure]) -> int:
        assert self._last is not None
        last = self._last.centre
        return int(np.argmin([np.linalg.norm(figure.centre - last) for figure in figures]))


@dataclass(frozen=True)
class Figure:
    """What of a person is compared from frame to frame, in pixels."""

    joints: NDArray[np.float64]  # 18 x 2
    is_seen: NDArray[np.bool_]  # 18
    box: NDArray[np.float64]  # x0, y0, x1, y1

    @property
    def centre(self) -> NDArray[np.float64]:
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def sides(self) -> NDArray[np.float64]:
        return self.box[2:] - self.box[:2]

    @property
    def area(self) -> float:
        return float(np.prod(self.sides))


def figure_of(points_K2: NDArray[np.float64], scores_K: NDArray[np.float64]) -> Figure:
    """The figure of one person; its box spans the joints with a score above 0.3 (all, if fewer than two)."""
    joints, scores = points_K2[BODY], scores_K[BODY]
    is_seen = scores > MIN_JOINT_SCORE
    spanned = joints[is_seen] if is_seen.sum() >= 2 else joints
    return Figure(joints, is_seen, np.concatenate([spanned.min(axis=0), spanned.max(axis=0)]))


def affinity(before: Figure, now: Figure, seconds: float) -> float:
    """Likelihood that two figures, `seconds` apart, are one person: 0 to 1.

    The mean of the boxes' overlap (intersection over union) and of a bell of the joints' mean distance, which
    is the wider the larger the figure is and the more time has gone by.
    """
    shared = np.minimum(before.box[2:], now.box[2:]) - np.maximum(before.box[:2], now.box[:2])
    intersection = float(np.prod(np.maximum(shared, 0.0)))
    union = before.area + now.area - intersection
    overlap = intersection / union if union > 0 else 0.0
    both = before.is_seen & now.is_seen
    if both.sum() >= 3:
        distance = float(np.linalg.norm(before.joints[both] - now.joints[both], axis=1).mean())
    else:
        distance = float(np.linalg.norm(before.centre - now.centre))
    reach = (REACH + REACH_PER_SECOND * seconds) * max(float(before.sides.max()), 1.0)
    return 0.5 * overlap + 0.5 * float(np.exp(-((distance / reach) ** 2)))


def are_one_person(
    before: tuple[NDArray[np.float64], NDArray[np.float64]],
    now: tuple[NDArray[np.float64], NDArray[np.float64]],
    seconds: float,
    *,
    like: PoseSequence,
) -> bool:
    """Whether two people (points as fractions, scores), `seconds` apart, are surely the same."""
    size = np.array([like.width, like.height], dtype=np.float64)
    figures = [figure_of(points * size, scores) for points, scores in (before, now)]
    return affinity(figures[0], figures[1], seconds) >= CLEAR_AFFINITY


def sequence_of_one(
    chosen: list[tuple[NDArray[np.float64], NDArray[np.float64]] | None], *, like: PoseSequence
) -> PoseSequence:
    """One person's frames (points and scores, None where absent) as a sequence with positions carried.

    Size, rate and metadata are those of `like`.

    Raises:
        PoseError: the person is in no frame.
    """
    first = next((found for found in chosen if found is not None), None)
    if first is None:
        raise _nobody(len(chosen))
    points = np.zeros((len(chosen), 1, NUM_POINTS, 2))
    scores = np.zeros((len(chosen), 1, NUM_POINTS))
    position = first[0]
    for i, found in enumerate(chosen):
        if found is not None:
            position = found[0]
            scores[i, 0] = found[1]
        points[i, 0] = position
    return replace(like, points=points, scores=scores, is_present=np.ones((len(chosen), 1), dtype=np.bool_))


def stack_people(
    frames: list[tuple[NDArray[np.float64], NDArray[np.float64]]], height: int, width: int, fps: float = 25.0
) -> PoseSequence:
    """Each frame's people (points ``P x K x 2`` as fractions, scores ``P x K``) as one padded sequence."""
    num_people = max((len(points) for points, _ in frames), default=0)
    points = np.zeros((len(frames), num_people, NUM_POINTS, 2))
    scores = np.zeros((len(frames), num_people, NUM_POINTS))
    is_present = np.zeros((len(frames), num_people), dtype=np.bool_)
    for i, (frame_points, frame_scores) in enumerate(frames):
        points[i, : len(frame_points)] = frame_points
        scores[i, : len(frame_points)] = frame_scores
        is_present[i, : len(frame_points)] = True
    return PoseSequence(points, scores, height, width, fps, is_present)


def _nobody(num_frames: int) -> PoseError:
    where = "the picture" if num_frames == 1 else f"any of the {num_frames} frames"
    return PoseError(f"nobody was found in {where}; use one that shows a person, whole and large enough")


def _people_by_frame(
    sequence: PoseSequence,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    assert sequence.is_present is not None
    return [
        (points[present], scores[present])
        for points, scores, present in zip(sequence.points, sequence.scores, sequence.is_present, strict=True)
    ]


@dataclass
class _Place:
    """A place along P and who had it last."""

    figure: Figure
    last_seen: float  # seconds


def _keep_places(sequence: PoseSequence) -> PoseSequence:
    """Reorder every frame's people so that each keeps one place; a place is free again after two seconds."""
    size = np.array([sequence.width, sequence.height], dtype=np.float64)
    places: list[_Place] = []
    frames = _people_by_frame(sequence)
    seats: list[list[int]] = []
    for number, (people, scores) in enumerate(frames):
        figures = [figure_of(p * size, s) for p, s in zip(people, scores, strict=True)]
        seats.append(_take_places(figures, places, number / sequence.fps))
    if not places:
        raise _nobody(len(frames))
    shape = (sequence.num_frames, len(places))
    points, all_scores = np.zeros((*shape, NUM_POINTS, 2)), np.zeros((*shape, NUM_POINTS))
    is_present = np.zeros(shape, dtype=np.bool_)
    for number, ((people, scores), seat) in enumerate(zip(frames, seats, strict=True)):
        if number:
            points[number] = points[number - 1]  # absent: the position is carried
        points[number, seat] = people
        all_scores[number, seat] = scores
        is_present[number, seat] = True
    return replace(sequence, points=points, scores=all_scores, is_present=is_present)


def _take_places(figures: list[Figure], places: list[_Place], now: float) -> list[int]:
    """The place of every figure of a frame: best affinity first, then free places, then new ones."""
    seats: dict[int, int] = {}
    pairs = sorted(
        (
            (affinity(place.figure, figure, now - place.last_seen), i, j)
            for i, figure in enumerate(figures)
            for j, place in enumerate(places)
            if now - place.last_seen < PATIENCE_SECONDS
        ),
        reverse=True,
    )
    for value, i, j in pairs:
        if value >= MIN_AFFINITY and i not in seats and j not in seats.values():
            seats[i] = j
    for i, figure in enumerate(figures):
        if i not in seats:
            free = (j for j, place in enumerate(places) if now - place.last_seen >= PATIENCE_SECONDS)
            seats[i] = next((j for j in free if j not in seats.values()), len(places))
        if seats[i] == len(places):
            places.append(_Place(figure, now))
        else:
            places[seats[i]] = _Place(figure, now)
    return [seats[i] for i in range(len(figures))]
