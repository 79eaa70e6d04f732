"""Poses of one person in frames as they come, each found from this frame and earlier ones alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose import PoseError, PoseSequence
from pose.adjust import Adjustment, adjust_pose
from pose.align import Fit, fit_limbs, fit_robust
from pose.anchor import Anchor
from pose.blazepose import BlazePose
from pose.blazepose.layout import Person
from pose.estimators import Estimator
from pose.tracking import Followed, PersonTracker, check_choice, stack_people
from pose.types import concatenate

Picture = NDArray[np.uint8]

NOMINAL_FPS = 10.0
"""Rate by which the tracker judges how far a person can have moved between two frames."""
WINDOWS_EVERY = 10
"""Frames without the person between searches for small people, which take several times as long."""
FITTED_AT = (1, 2, 4, 8, 16, 32)
"""Numbers of seen poses at which the fit is computed again; after the last it stays as it is."""


class PoseStream:
    """Follows one person through frames of one size.

    Args:
        estimator: finds the poses. BlazePose follows the body of the frame before; others look at every frame
            anew.
        person: as in `pose.tracking.follow_person`, but not `all`.
    """

    def __init__(self, estimator: Estimator, *, person: Followed = "largest") -> None:
        self._estimator, self._choice = estimator, check_choice(person)
        if self._choice == "all":
            raise PoseError("person is all; one person drives a live character: largest, center or an index")
        self._tracker: PersonTracker | None = None
        self._person: Person | None = None
        self._size = (0, 0)
        self._number = 0

    def __call__(self, picture: Picture) -> PoseSequence | None:
        """Return the person's pose in the next frame, F = P = 1; None if they are not seen.

        Args:
            picture: RGB uint8 ``H x W x 3``. A frame of another size starts anew.
        """
        height, width = picture.shape[:2]
        if self._tracker is None or self._size != (height, width):
            self._tracker = PersonTracker(self._choice, height, width, NOMINAL_FPS)
            self._person, self._size = None, (height, width)
        self._number += 1
        find = self._followed if isinstance(self._estimator, BlazePose) else self._chosen
        found = find(picture, self._tracker)
        if found is None:
            self._tracker.miss()
            return None
        points, scores = found
        self._tracker.see(points, scores)
        return stack_people([(points[None], scores[None])], height, width, NOMINAL_FPS)

    def _chosen(
        self, picture: Picture, tracker: PersonTracker
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        everybody = self._estimator.image(picture)
        index = tracker.find(everybody.points[0], everybody.scores[0])
        return None if index is None else (everybody.points[0, index], everybody.scores[0, index])

    def _followed(
        self, picture: Picture, tracker: PersonTracker
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        estimator = self._estimator
        assert isinstance(estimator, BlazePose)
        body = None if self._person is None else estimator.follow_body(picture, self._person.body)
        if body is None:
            self._person = None
            windows = tracker.num_missed % WINDOWS_EVERY == WINDOWS_EVERY - 1
            bodies = estimator.find_bodies(picture, windows=windows)
            people = [Person(each, (None, None), None).points(*self._size) for each in bodies]
            if not people:
                return None
            index = tracker.find(*(np.stack(part) for part in zip(*people)))
            if index is None:
                return None
            body = bodies[index]
        self._person = estimator.read_parts(picture, body, self._person, number=self._number)
        return self._person.points(*self._size)


class FitStream:
    """Fits poses to a reference as they come.

    The fit is computed from the poses seen so far, at `FITTED_AT`: the first poses decide the place, more of
    them refine sizes, and after the last the character no longer shifts.

    Args:
        reference: pose of the reference picture, F = 1.
        align: ``limbs``, ``robust`` or ``none``.
        anchor: as in `pose.align.align_pose`.
        adjust: corrections, as the setting `adjust` holds them.

    Raises:
        PoseError: another `align`.
    """

    def __init__(
        self,
        reference: PoseSequence,
        *,
        align: str = "limbs",
        anchor: Anchor | None = None,
        adjust: dict[str, object] | None = None,
    ) -> None:
        if align not in ("limbs", "robust", "none"):
            raise PoseError(f"align is {align}; a live character is fitted with limbs, robust or none")
        self._reference, self._align, self._anchor = reference, align, anchor or "ground"
        self._adjustment = None if adjust is None else Adjustment.from_dict(adjust)
        self._seen: list[PoseSequence] = []
        self._fit = Fit((1.0, 1.0), (0.0, 0.0), "nothing")

    def __call__(self, pose: PoseSequence) -> PoseSequence:
        """Return a pose, F = P = 1, in fractions of the reference's frame."""
        reference = self._reference
        if self._seen and (pose.height, pose.width) != (self._seen[0].height, self._seen[0].width):
            self._seen = []
        if len(self._seen) < FITTED_AT[-1]:
            self._seen.append(pose)
            if self._align != "none" and len(self._seen) in FITTED_AT:
                fit = fit_limbs if self._align == "limbs" else fit_robust
                self._fit = fit(concatenate(self._seen), reference, anchor=self._anchor)
        fitted = replace(
            pose,
            points=self._fit.apply(pose, reference),
            height=reference.height,
            width=reference.width,
        )
        return fitted if self._adjustment is None else adjust_pose(fitted, self._adjustment)
