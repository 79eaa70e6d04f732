"""Hands at the wrists of a body: 21 points each, in OpenPose's order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.body import Body
from pose.blazepose.geometry import (
    DOWN,
    UP,
    Points,
    Square,
    Tolerance,
    align,
    box_centre,
    box_sides,
    direction,
)
from pose.blazepose.networks import HAND_SIZE, RECROP_SIZE, Networks

MIN_WRIST_VISIBILITY = 0.1
MIN_PRESENCE = 0.5
MAX_WRIST_DISTANCE = 0.6  # of the hand's longer side
MIN_DISTANCE_APART = 0.3  # of the larger hand

LEFT, RIGHT = 0, 1
# Body points of the left and of the right hand.
_WRIST = (15, 16)
_LITTLE_FINGER = (17, 18)
_INDEX_FINGER = (19, 20)
_PALM = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])

TOLERANCE = Tolerance(rotation=math.radians(40), centre=0.2, side=0.4, inside=0.9)


@dataclass(frozen=True, eq=False)
class Hand:
    """One hand: points ``21 x 2`` in pixels, probabilities that it is one and that it is a right one."""

    square: Square
    points: Points
    score: float
    handedness: float

    @property
    def size(self) -> float:
        return max(float(box_sides(self.points).max()), 1e-9)

    @property
    def next_square(self) -> Square:
        """Where to look for this hand in the next frame."""
        points = self.points
        knuckles = ((points[5] + points[13]) / 2 + points[9]) / 2
        rotation = direction(points[0], knuckles, UP)
        upright = Square(0.0, 0.0, 1.0, rotation)
        turned = upright.from_picture(points[_PALM])
        ((x, y),) = upright.to_picture(box_centre(turned)[None])
        width, height = (float(side) for side in box_sides(turned))
        return Square(float(x), float(y), max(width, height), rotation).grow(2.0, -0.1, height=height)


Pair = tuple[Hand | None, Hand | None]  # left, right


def find_hands(
    networks: Networks, picture: NDArray[np.uint8], body: Body, previous: Pair = (None, None)
) -> Pair:
    """The hands of a body, left and right; None where none is to be seen.

    Args:
        previous: the same person's hands in the frame before, for a steadier square.
    """
    sides = [side for side in (LEFT, RIGHT) if body.visibility[_WRIST[side]] > MIN_WRIST_VISIBILITY]
    if not sides:
        return None, None
    rough = [rough_square(body, side) for side in sides]
    outputs = networks.recrop(np.stack([square.crop(picture, RECROP_SIZE) for square in rough]))
    squares = []
    for square, points, side in zip(rough, outputs["points"], sides):
        middle, rim = square.to_picture(points.astype(np.float64) / RECROP_SIZE)
        current = align(middle, rim, DOWN).grow(1.0, -0.1)
        squares.append(_steadied(current, previous[side]))
    hands: list[Hand | None] = [None, None]
    for side, hand in zip(sides, _read_hands(networks, picture, squares)):
        if hand.score >= MIN_PRESENCE and wrist_distance(hand, body, side) <= MAX_WRIST_DISTANCE:
            hands[side] = hand
    return _told_apart(hands[LEFT], hands[RIGHT], body)


def rough_square(body: Body, side: int) -> Square:
    """The square of a hand as the body's wrist and fingers suggest it."""
    wrist = body.points[_WRIST[side]]
    middle = (2 * body.points[_INDEX_FINGER[side]] + body.points[_LITTLE_FINGER[side]]) / 3
    length = 2 * float(np.linalg.norm(middle - wrist))
    # A hand that points at the camera has no length; a square needs one.
    square = Square(float(middle[0]), float(middle[1]), max(length, 1.0), direction(wrist, middle, UP))
    return square.grow(2.7, -0.1)


def wrist_distance(hand: Hand, body: Body, side: int) -> float:
    """From the hand's own wrist to the body's, in sizes of the hand."""
    return float(np.linalg.norm(hand.points[0] - body.points[_WRIST[side]])) / hand.size


def _read_hands(networks: Networks, picture: NDArray[np.uint8], squares: list[Square]) -> list[Hand]:
    outputs = networks.hand(np.stack([square.crop(picture, HAND_SIZE) for square in squares]))
    return [
        Hand(square, square.to_picture(points[:, :2] / HAND_SIZE), float(score[0]), float(handedness[0]))
        for square, points, score, handedness in zip(
            squares, outputs["landmarks"].astype(np.float64), outputs["presence"], outputs["handedness"]
        )
    ]


def _steadied(current: Square, previous: Hand | None) -> Square:
    if previous is not None and TOLERANCE.keeps(current, previous.next_square, previous.points):
        return previous.next_square
    return _with_side(current)


def _with_side(square: Square) -> Square:
    return square if square.side >= 1.0 else Square(square.x, square.y, 1.0, square.rotation)


def _told_apart(left: Hand | None, right: Hand | None, body: Body) -> Pair:
    """Both hands, unless both are readings of one: then the side that it fits better."""
    if left is None or right is None:
        return left, right
    distance = float(np.linalg.norm(box_centre(left.points) - box_centre(right.points)))
    if distance >= MIN_DISTANCE_APART * max(left.size, right.size):
        return left, right
    misfit_left = wrist_distance(left, body, LEFT) + abs(left.handedness - LEFT)
    misfit_right = wrist_distance(right, body, RIGHT) + abs(right.handedness - RIGHT)
    return (left, None) if misfit_left <= misfit_right else (None, right)
