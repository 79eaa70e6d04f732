"""From pictures and clips to whole-body poses with the bundled networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.body import Body, read_body, read_hit, visible_joints, without_duplicates
from pose.blazepose.detection import find_persons
from pose.blazepose.face import find_face
from pose.blazepose.geometry import box_sides
from pose.blazepose.hands import find_hands
from pose.blazepose.layout import Person
from pose.blazepose.networks import Networks
from pose.estimators import Estimator, Progress, checked_frames, checked_picture
from pose.tracking import (
    Followed,
    PersonTracker,
    check_choice,
    follow_person,
    sequence_of_one,
    stack_people,
)
from pose.types import NUM_POINTS, PoseSequence

MAX_PERSONS = 8
LARGE = 0.5  # of the picture's height: larger than anybody that only windows would show
DETECT_EVERY = 10  # frames between detections while several persons are followed

Picture = NDArray[np.uint8]
Frame = tuple[NDArray[np.float64], NDArray[np.float64]]  # points P x K x 2 as fractions, scores P x K


class BlazePose(Estimator):
    """The bundled whole-body estimator: a few small networks, 20 frames/s and more on one CPU core.

    Less exact than DWPose, above all for several overlapping, small or turned-away people; it has no small
    toes, and hands and faces that it is not sure of are absent (score 0) rather than guessed.

    Args:
        device, num_threads: see `pose.blazepose.networks.Networks.load`.
    """

    name = "blazepose"

    def __init__(self, *, device: str = "auto", num_threads: int | None = None) -> None:
        self.networks = Networks.load(device=device, num_threads=num_threads)

    def image(self, picture: Picture) -> PoseSequence:
        picture = checked_picture(picture)
        height, width = picture.shape[:2]
        persons = [self.read_parts(picture, body) for body in self.find_bodies(picture)]
        sequence = stack_people([_frame(persons, height, width)], height, width)
        return replace(sequence, metadata={"estimator": self.name})

    def frames(
        self,
        pictures: Iterable[Picture],
        *,
        fps: float,
        person: Followed = "largest",
        total: int | None = None,
        progress: Progress | None = None,
    ) -> PoseSequence:
        person = check_choice(person)
        clip: _Everyone | _One = _Everyone(self) if person == "all" else _One(self, person, fps)
        height = width = 0
        for number, picture in enumerate(checked_frames(pictures)):
            height, width = picture.shape[:2]
            clip.add(picture)
            if progress is not None:
                progress(number + 1, total)
        return replace(clip.sequence(height, width, fps), metadata={"estimator": self.name, "person": person})

    def find_bodies(self, picture: Picture, *, windows: bool = True) -> list[Body]:
        """Every sure body of a picture, best first, at most eight."""
        hits = find_persons(self.networks.persons, picture, windows=windows)
        bodies = [read_hit(self.networks.body, picture, hit) for hit in hits]
        kept = without_duplicates([body for body in bodies if body.is_sure], *picture.shape[:2])
        return kept[:MAX_PERSONS]

    def follow_body(self, picture: Picture, previous: Body) -> Body | None:
        """The body of the frame before in this frame, None when it is lost."""
        body = read_body(self.networks.body, picture, previous.next_square)
        return body if body.is_tracked else None

    def read_parts(self, picture: Picture, body: Body, previous: Person | None = None) -> Person:
        """The hands and the face of a body, steadied by the same person in the frame before."""
        hands = previous.hands if previous is not None else (None, None)
        face = previous.face if previous is not None else None
        return Person(
            body,
            find_hands(self.networks, picture, body, hands),
            find_face(self.networks, picture, body, face),
        )


class _One:
    """One person, followed through a clip."""

    def __init__(self, estimator: BlazePose, person: Followed, fps: float) -> None:
        self._estimator = estimator
        self._choice = (person, fps)
        self._tracker: PersonTracker | None = None
        self._person: Person | None = None
        self._found: list[Frame | None] = []

    def add(self, picture: Picture) -> None:
        height, width = picture.shape[:2]
        if self._tracker is None:
            person, fps = self._choice
            self._tracker = PersonTracker(person, height, width, fps)
        body = None
        if self._person is not None:
            body = self._estimator.follow_body(picture, self._person.body)
        if body is None:
            self._person = None
            body = self._detect(picture, self._tracker)
        if body is None:
            self._tracker.miss()
            self._found.append(None)
            return
        self._person = self._estimator.read_parts(picture, body, self._person)
        points, scores = self._person.points(height, width)
        self._tracker.see(points, scores)
        self._found.append((points, scores))

    def sequence(self, height: int, width: int, fps: float) -> PoseSequence:
        nobody = stack_people([], height, width, fps)
        return sequence_of_one(self._found, like=nobody)

    def _detect(self, picture: Picture, tracker: PersonTracker) -> Body | None:
        """The followed person among everybody in the picture; windows, which take long, where they matter."""
        height, width = picture.shape[:2]
        wants_everybody = tracker.is_new and tracker.person != "largest"
        for windows in (True,) if wants_everybody else (False, True):
            bodies = self._estimator.find_bodies(picture, windows=windows)
            index = tracker.find(
                *_frame([Person(body, (None, None), None) for body in bodies], height, width)
            )
            if index is None:
                continue
            body = bodies[index]
            is_large = box_sides(visible_joints(body, height, width))[1] >= LARGE * height
            if windows or is_large or not tracker.is_new:
                return body
        return None


class _Everyone:
    """Everybody in every frame of a clip."""

    def __init__(self, estimator: BlazePose) -> None:
        self._estimator = estimator
        self._persons: list[Person] = []
        self._frames: list[Frame] = []

    def add(self, picture: Picture) -> None:
        estimator, shape = self._estimator, picture.shape[:2]
        followed = [(estimator.follow_body(picture, person.body), person) for person in self._persons]
        before = {id(body): person for body, person in followed if body is not None}
        bodies = [body for body, _ in followed if body is not None]
        if not bodies or len(self._frames) % DETECT_EVERY == 0:
            # A followed body comes before a detection of the same person: it sorts first and is kept.
            bodies = [replace(body, detection_score=2.0) for body in bodies]
            before = {id(new): person for new, person in zip(bodies, before.values())}
            bodies += estimator.find_bodies(picture)
        bodies = without_duplicates(bodies, *shape)[:MAX_PERSONS]
        self._persons = [estimator.read_parts(picture, body, before.get(id(body))) for body in bodies]
        self._frames.append(_frame(self._persons, *shape))

    def sequence(self, height: int, width: int, fps: float) -> PoseSequence:
        return follow_person(stack_people(self._frames, height, width, fps), "all")


def _frame(persons: list[Person], height: int, width: int) -> Frame:
    found = [person.points(height, width) for person in persons]
    points = np.array([points for points, _ in found]).reshape(-1, NUM_POINTS, 2)
    return points, np.array([scores for _, scores in found]).reshape(-1, NUM_POINTS)
