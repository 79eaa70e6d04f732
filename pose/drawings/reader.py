"""Drawn skeletons read back as poses: an estimator for pictures and videos of drawings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from pose.draw import LIMB_BRIGHTNESS
from pose.drawings.bodies import Drawn, assemble, centre_joints, nearest_head, place_head
from pose.drawings.colours import Ink, Palette, ink_of
from pose.drawings.faces import fit_face
from pose.drawings.hands import find_hands
from pose.drawings.limbs import find_limbs
from pose.estimators import Estimator, Progress, checked_frames, checked_picture
from pose.skeletons import BODY, FACE, HANDS, NECK, VISIBLE_ABOVE
from pose.tracking import Followed, check_choice, stack_people
from pose.types import NUM_POINTS, PoseError, PoseSequence

Picture = NDArray[np.uint8]
Frame = tuple[NDArray[np.float64], NDArray[np.float64]]  # points P x K x 2 as fractions, scores P x K

LOOKED_AT = 5  # frames that decide which of the two palettes a clip is drawn in
MIN_SCORE = VISIBLE_ABOVE + 0.01  # of what is drawn

UNREADABLE = (
    "the picture shows drawn skeletons whose joints cannot be read; they need a neck with limbs in the "
    "colours of OpenPose or DWPose. Give the clip that they were drawn of, or its poses (.npz, or .json of "
    "OpenPose or COCO-WholeBody)"
)


class DrawnSkeletons(Estimator):
    """Reads the poses from drawings on black in the colours of OpenPose, DWPose or `pose.draw`.

    Red and blue may be exchanged, as MimicMotion draws them; strokes may have any width, and videos may be
    compressed. Joints come from the limbs' colours, hands from their joints and the rainbow of their bones,
    the 68 points of a face from a mean face that is bent onto the white points. Feet are not drawn and are
    absent.
    """

    name = "drawing"

    def image(self, picture: Picture) -> PoseSequence:
        picture = checked_picture(picture)
        frame = read_drawing(picture, choose_palette([picture]))
        return replace(stack_people([frame], *picture.shape[:2]), metadata={"estimator": self.name})

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
        frames: Iterator[Picture] = checked_frames(pictures)
        first = list(islice(frames, LOOKED_AT))
        palette = choose_palette(first)
        height, width = first[0].shape[:2]
        found = []
        for picture in chain(first, frames):
            found.append(read_drawing(picture, palette))
            if progress is not None:
                progress(len(found), total)
        if not any(len(points) for points, _ in found):
            raise PoseError(UNREADABLE)
        return self.follow(stack_people(found, height, width, fps), person)


def choose_palette(pictures: list[Picture]) -> Palette:
    """Return the palette in which the limbs of some drawings meet at their joints."""

    def gain(palette: Palette) -> float:
        return sum(max((body.gain for body in _bodies(ink, palette)[0]), default=0.0) for ink in inks)

    inks = [ink_of(picture) for picture in pictures]
    return max((Palette.of(is_exchanged=is_exchanged) for is_exchanged in (False, True)), key=gain)


def read_drawing(picture: Picture, palette: Palette) -> Frame:
    """Return everybody in a drawing: points ``P x 134 x 2`` as fractions, scores ``P x 134``."""
    ink = ink_of(picture)
    bodies, colour = _bodies(ink, palette)
    white = ink[ink.is_white]
    owner = nearest_head(white, bodies)
    points, scores = np.zeros((len(bodies), NUM_POINTS, 2)), np.zeros((len(bodies), NUM_POINTS))
    for i, body in enumerate(bodies):
        centre_joints(body, ink, colour, palette.body)
        face = fit_face(white.places[owner == i], body.joints[NECK] if body.scores[NECK] > 0 else None)
        if face is not None:
            place_head(body, face, ink, colour)
            points[i, FACE] = face.points
            scores[i, FACE] = np.clip(np.median(white.luma[owner == i]) / 255, MIN_SCORE, 1.0)
        points[i, BODY], scores[i, BODY] = body.joints, body.scores
        for part, hand in zip(HANDS, find_hands(ink, palette, body)):
            if hand is not None:
                points[i, part], scores[i, part] = hand.points, max(hand.score, MIN_SCORE)
    height, width = picture.shape[:2]
    return (points + 0.5 * (scores > 0)[..., None]) / (width, height), scores


def _bodies(ink: Ink, palette: Palette) -> tuple[list[Drawn], NDArray[np.int64]]:
    """The bodies of a drawing, and the number of each pixel's colour."""
    colour = ink.nearest(palette.body)
    return assemble(find_limbs(ink, colour, palette.body, LIMB_BRIGHTNESS)), colour
