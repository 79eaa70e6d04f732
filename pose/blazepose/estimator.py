"""From pictures and clips to whole-body poses with the bundled networks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.body import (
    Body,
    have_one_head,
    read_body,
    read_hit,
    visible_joints,
    without_duplicates,
)
from pose.blazepose.detection import Hit, find_framed_persons, find_persons
from pose.blazepose.face import find_face
from pose.blazepose.geometry import box_sides
from pose.blazepose.hands import find_hands
from pose.blazepose.layout import Person
from pose.blazepose.networks import Networks
from pose.estimators import Estimator, Progress, checked_frames, checked_picture
from pose.sides import repair_sides
from pose.tracking import (
    Followed,
    PersonTracker,
    are_one_person,
    check_choice,
    follow_person,
    sequence_of_one,
    stack_people,
)
from pose.types import NUM_POINTS, PoseSequence

MAX_PERSONS = 8
LARGE = 0.3  # of the picture's height: larger than anybody whom only windows show
WINDOWS_EVERY = 5  # frames, while the followed person is lost
DETECT_EVERY = 10  # frames between detections while several persons are followed
LOST_EVERY = 2  # frames between detections while one of them is lost
LOOK_EVERY_SECONDS = 2.0  # between looks at how many people there are beside the followed one
CLEAR_FRAMED = 0.75  # of detection score: needs no face where black is put around the picture
CONFIRM_EVERY = 3  # frames between detections while the followed person is in doubt

Picture = NDArray[np.uint8]
Frame = tuple[NDArray[np.float64], NDArray[np.float64]]  # points P x K x 2 as fractions, scores P x K


class BlazePose(Estimator):
    """The bundled whole-body estimator: a few small networks, 17 frames/s of 576x1024 on one
    CPU core (`python benchmarks/pose_speed.py`).

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
        clip: _Everyone | _One | None = None
        for number, picture in enumerate(checked_frames(pictures)):
            if clip is None:
                height, width = picture.shape[:2]
                nobody = stack_people([], height, width, fps)
                clip = _Everyone(self, nobody) if person == "all" else _One(self, nobody, person)
            clip.add(picture)
            if progress is not None:
                progress(number + 1, total)
        assert clip is not None  # there is a frame, or checked_frames has raised
        sequence = clip.sequence()
        return replace(sequence, metadata={**sequence.metadata, "estimator": self.name, "person": person})

    def find_bodies(self, picture: Picture, *, windows: bool = True) -> list[Body]:
        """Return the bodies that pass all checks, the best first, at most eight."""
        hits = find_persons(self.networks.persons, picture, windows=windows)
        bodies = [body for body in self._read(picture, hits) if self.is_person(picture, body)]
        if not bodies and windows:
            hits = find_framed_persons(self.networks.persons, picture)
            bodies = [
                body
                for body in self._read(picture, hits)
                if (body.is_clear and body.detection_score >= CLEAR_FRAMED) or self.has_face(picture, body)
            ]
        return without_duplicates(bodies, *picture.shape[:2])[:MAX_PERSONS]

    def is_person(self, picture: Picture, body: Body) -> bool:
        """Whether a freshly detected body is one: clear by itself, or with a face where its head is."""
        return body.is_clear or self.has_face(picture, body)

    def has_face(self, picture: Picture, body: Body) -> bool:
        """Whether a freshly detected body has a face where its head is."""
        return body.is_there and body.has_nose and find_face(self.networks, picture, body) is not None

    def follow_body(self, picture: Picture, previous: Body) -> Body | None:
        """Find the body of the previous frame in this one; None if it is lost."""
        body = read_body(self.networks.body, picture, previous.next_square)
        if not body.is_tracked:
            return None
        return replace(body, detection_score=previous.detection_score, is_followed=True)

    def read_parts(
        self, picture: Picture, body: Body, previous: Person | None = None, *, number: int = 0
    ) -> Person:
        """The hands and the face of a body, looked for where the person had them in the frame before.

        Args:
            number: of the frame; it decides where hands are looked for that were missing before, too.
        """
        if previous is None:
            hands = find_hands(self.networks, picture, body)
            return Person(body, hands, find_face(self.networks, picture, body))
        hands = find_hands(self.networks, picture, body, previous.hands, previous.body, number=number)
        return Person(body, hands, find_face(self.networks, picture, body, previous.face))

    def _read(self, picture: Picture, hits: list[Hit]) -> list[Body]:
        return [read_hit(self.networks.body, picture, hit) for hit in hits]


class _One:
    """Follows one person through a clip.

    A person whom the detector was hardly sure of is followed until somebody clear is found. If that is
    somebody else, the frames with the doubtful person are taken back.

    Args:
        nobody: a sequence of no frames, of the clip's size and rate.
    """

    def __init__(self, estimator: BlazePose, nobody: PoseSequence, person: Followed) -> None:
        self._estimator = estimator
        self._nobody = nobody
        self._tracker = PersonTracker(person, nobody.height, nobody.width, nobody.fps)
        self._person: Person | None = None
        self._found: list[tuple[NDArray[np.float64], NDArray[np.float64]] | None] = []
        self._look_every = max(1, round(LOOK_EVERY_SECONDS * nobody.fps))
        self._most_people = 0
        self._doubtful: list[int] = []  # frames whose person nothing clear has confirmed

    def add(self, picture: Picture) -> None:
        number = len(self._found)
        body = None
        if self._person is not None:
            body = self._estimator.follow_body(picture, self._person.body)
        if body is None:
            if self._person is not None and self._person.body.is_weak:
                self._tracker.forget()
            self._person = None
            body = self._detect(picture)
        elif (body.is_weak or not body.is_there) and number % CONFIRM_EVERY == 0:
            body = self._confirm(picture, body)
        elif number % self._look_every == 0:
            self._bodies_of(picture, windows=number == self._look_every)
        if body is None:
            self._tracker.miss()
            self._found.append(None)
            return
        if body.is_weak:
            self._doubtful.append(number)
        elif self._doubtful:
            self._settle(body)
        self._person = self._estimator.read_parts(picture, body, self._person, number=number)
        points, scores = self._person.points(self._nobody.height, self._nobody.width)
        self._tracker.see(points, scores)
        self._found.append((points, scores))

    def sequence(self) -> PoseSequence:
        followed = sequence_of_one(self._found, like=self._nobody)
        return repair_sides(replace(followed, metadata={"most_people": self._most_people}))

    def _confirm(self, picture: Picture, body: Body) -> Body:
        """Check a doubtful followed body: detect it again, or find a clearer person."""
        others = self._bodies_of(picture, windows=False)
        clear = [other for other in others if not other.is_weak]
        same = self._tracker.find(*self._bodies(clear)) if clear else None
        if same is not None and (not body.is_weak or have_one_head(clear[same], body)):
            return clear[same]
        if not body.is_weak or not clear:
            return body
        self._person = None
        self._tracker.forget()
        index = self._tracker.find(*self._bodies(clear))
        assert index is not None
        return clear[index]

    def _settle(self, body: Body) -> None:
        """Take doubtful frames back once a clear person is found, unless they show the same person."""
        last = self._found[self._doubtful[-1]]
        assert last is not None
        points, scores = self._bodies([body])
        seconds = (len(self._found) - self._doubtful[-1]) / self._nobody.fps
        if not are_one_person(last, (points[0], scores[0]), seconds, like=self._nobody):
            for number in self._doubtful:
                self._found[number] = None
        self._doubtful = []

    def _bodies_of(self, picture: Picture, *, windows: bool) -> list[Body]:
        bodies = self._estimator.find_bodies(picture, windows=windows)
        self._most_people = max(self._most_people, len(bodies))
        return bodies

    def _bodies(self, bodies: list[Body]) -> Frame:
        return _frame(
            [Person(body, (None, None), None) for body in bodies], self._nobody.height, self._nobody.width
        )

    def _detect(self, picture: Picture) -> Body | None:
        """The followed person among everybody in the picture; windows, which take long, where they matter."""
        tracker, size = self._tracker, (self._nobody.height, self._nobody.width)
        may_take_long = tracker.num_missed % WINDOWS_EVERY == 0
        needs_everybody = tracker.is_new and tracker.person != "largest"
        rounds = [windows for windows in (False, True) if (may_take_long if windows else not needs_everybody)]
        for windows in rounds:
            bodies = self._bodies_of(picture, windows=windows)
            index = tracker.find(*self._bodies(bodies))
            if index is None:
                continue
            body = bodies[index]
            is_large = box_sides(visible_joints(body, *size))[1] >= LARGE * size[0]
            if windows or is_large or not tracker.is_new:
                return body
        return None


class _Everyone:
    """Collects all people of all frames of a clip."""

    def __init__(self, estimator: BlazePose, nobody: PoseSequence) -> None:
        self._estimator = estimator
        self._nobody = nobody
        self._persons: list[Person] = []
        self._frames: list[Frame] = []
        self._num_people = 0  # at the last detection with windows, or as many as were found since

    def add(self, picture: Picture) -> None:
        estimator, size = self._estimator, (self._nobody.height, self._nobody.width)
        bodies, before = [], {}
        for person in self._persons:
            body = estimator.follow_body(picture, person.body)
            if body is not None:
                bodies.append(body)
                before[id(body)] = person
        number = len(self._frames)
        looks_everywhere = not bodies or number % DETECT_EVERY == 0
        if looks_everywhere:
            bodies += estimator.find_bodies(picture)
        elif len(bodies) < self._num_people and number % LOST_EVERY == 0:
            bodies += estimator.find_bodies(picture, windows=False)
        bodies = without_duplicates(bodies, *size)[:MAX_PERSONS]
        self._num_people = len(bodies) if looks_everywhere else max(self._num_people, len(bodies))
        self._persons = [
            estimator.read_parts(picture, body, before.get(id(body)), number=number) for body in bodies
        ]
        self._frames.append(_frame(self._persons, *size))

    def sequence(self) -> PoseSequence:
        everybody = stack_people(self._frames, self._nobody.height, self._nobody.width, self._nobody.fps)
        return repair_sides(follow_person(everybody, "all"))


def _frame(persons: list[Person], height: int, width: int) -> Frame:
    found = [person.points(height, width) for person in persons]
    points = np.array([points for points, _ in found]).reshape(-1, NUM_POINTS, 2)
    return points, np.array([scores for _, scores in found]).reshape(-1, NUM_POINTS)
