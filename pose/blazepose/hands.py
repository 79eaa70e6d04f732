"""Hands at the wrists of a body: 21 points each, in OpenPose's order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.body import Body
from pose.blazepose.geometry import (
    DOWN,
    UP,
    Points,
    Square,
    align,
    box_centre,
    box_sides,
    direction,
)
from pose.blazepose.networks import HAND_SIZE, RECROP_SIZE, Networks

MIN_WRIST_VISIBILITY = 0.1
SURE_WRIST_VISIBILITY = 0.9
MIN_PRESENCE = 0.5
MAX_WRIST_DISTANCE = 0.6  # of the hand's longer side
MIN_DISTANCE_APART = 0.3  # of the larger hand

LEFT, RIGHT = 0, 1
# Body points of the left and of the right hand.
_WRIST = (15, 16)
_ELBOW = (13, 14)
_LITTLE_FINGER = (17, 18)
_INDEX_FINGER = (19, 20)
_PALM = np.array([0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18])

CENTRE_FROM_WRIST = 0.24  # of the square's side
MAX_DISAGREEMENT = 0.3  # of the hand's longer side, between two readings of a guessed square

# Two readings that agree closely prove a hand of which the network is not sure, as a fist.
CLOSE_AGREEMENT = 0.15  # of the hand's longer side
MIN_AGREEING_PRESENCE = 0.3
MIN_MEAN_PRESENCE = 0.4

MIN_OWN_SIDE = 0.05  # probability that a left hand is a left one; below: mirrored, or the other hand


@dataclass(frozen=True)
class Try:
    """A square to look for a hand in: its direction from the wrist, and its side in lengths of the trunk."""

    along_hand: bool
    """Along the hand as the body network has it; otherwise along the forearm."""
    side: float
    turn: float
    """Radians by which the square is turned away from that direction."""


# The most fruitful first: of the rendered hands that a network's suggestion misses, the first finds every
# second one and all four find nine of ten.
TRIES = (
    Try(True, 0.75, 0.0),
    Try(False, 0.5, 0.7),
    Try(True, 0.4, -0.7),
    Try(True, 0.5, 0.7),
)


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
    networks: Networks,
    picture: NDArray[np.uint8],
    body: Body,
    previous: Pair = (None, None),
    previous_body: Body | None = None,
    *,
    number: int | None = None,
) -> Pair:
    """Find the hands of a body, left and right; None for a hand that is not visible.

    Each is looked for where it was in the frame before, moved with the wrist; then in the square that a
    network suggests; then in squares of several scales and turns at the wrist.

    Args:
        previous, previous_body: the same person's hands and body in the frame before.
        number: of the frame of a clip, where a missing hand is looked for in one of `TRIES` in turn, so that
            hidden hands cost little, or in two if it was there before or its wrist is clearly seen. None
            looks at all of them.
    """
    hands: list[Hand | None] = [None, None]
    for side in (LEFT, RIGHT):
        if body.visibility[_WRIST[side]] <= MIN_WRIST_VISIBILITY:
            continue
        followed = previous[side]
        if followed is not None and previous_body is not None:
            step = body.points[_WRIST[side]] - previous_body.points[_WRIST[side]]
            square = _with_side(followed.next_square.moved(step))
            hands[side] = _accepted(_read_hand(networks, picture, square), body, side)
        if hands[side] is None:
            square = suggested_square(networks, picture, body, side)
            hands[side] = _accepted(_read_hand(networks, picture, square), body, side)
        if hands[side] is None and _is_inside(body.points[_WRIST[side]], picture):
            is_likely = followed is not None or body.visibility[_WRIST[side]] >= SURE_WRIST_VISIBILITY
            for attempt in _tries(number, is_likely=is_likely):
                hands[side] = _confirmed(networks, picture, tried_square(body, side, attempt), body, side)
                if hands[side] is not None:
                    break
    return _told_apart(hands[LEFT], hands[RIGHT], body)


def _tries(number: int | None, *, is_likely: bool) -> Sequence[Try]:
    if number is None:
        return TRIES
    others = TRIES[1:]
    return [TRIES[0], others[number % len(others)]] if is_likely else [TRIES[number % len(TRIES)]]


def _is_inside(point: Points, picture: NDArray[np.uint8]) -> bool:
    height, width = picture.shape[:2]
    return bool(0 <= point[0] < width and 0 <= point[1] < height)


def suggested_square(networks: Networks, picture: NDArray[np.uint8], body: Body, side: int) -> Square:
    """The square of a hand that a network finds around the body's wrist and fingers."""
    rough = rough_square(body, side)
    points = networks.recrop(rough.crop(picture, RECROP_SIZE)[None])["points"][0]
    middle, rim = rough.to_picture(points.astype(np.float64) / RECROP_SIZE)
    return _with_side(align(middle, rim, DOWN).grow(1.0, -0.1))


def tried_square(body: Body, side: int, attempt: Try) -> Square:
    """A square at the wrist, along the forearm or the body's own hand."""
    wrist = body.points[_WRIST[side]]
    fingers = (2 * body.points[_INDEX_FINGER[side]] + body.points[_LITTLE_FINGER[side]]) / 3
    start, end = (wrist, fingers) if attempt.along_hand else (body.points[_ELBOW[side]], wrist)
    length = max(float(np.linalg.norm(end - start)), 1e-6)
    cos, sin = math.cos(attempt.turn), math.sin(attempt.turn)
    along = (end - start) / length @ np.array([[cos, sin], [-sin, cos]])
    side_length = max(attempt.side * body.trunk, 1.0)
    x, y = wrist + CENTRE_FROM_WRIST * side_length * along
    return Square(float(x), float(y), side_length, direction(wrist, wrist + along, UP))


def rough_square(body: Body, side: int) -> Square:
    """The square of a hand as the body's wrist and fingers suggest it."""
    wrist = body.points[_WRIST[side]]
    middle = (2 * body.points[_INDEX_FINGER[side]] + body.points[_LITTLE_FINGER[side]]) / 3
    length = 2 * float(np.linalg.norm(middle - wrist))
    # A hand that points at the camera has no length; a square needs one.
    square = Square(float(middle[0]), float(middle[1]), max(length, 1.0), direction(wrist, middle, UP))
    return square.grow(2.7, -0.1)


def wrist_distance(hand: Hand, body: Body, side: int) -> float:
    """Distance from the hand's own wrist to the body's, in sizes of the hand."""
    return float(np.linalg.norm(hand.points[0] - body.points[_WRIST[side]])) / hand.size


def _read_hand(networks: Networks, picture: NDArray[np.uint8], square: Square) -> Hand:
    outputs = networks.hand(square.crop(picture, HAND_SIZE)[None])
    points = square.to_picture(outputs["landmarks"][0, :, :2].astype(np.float64) / HAND_SIZE)
    return Hand(square, points, float(outputs["presence"][0, 0]), float(outputs["handedness"][0, 0]))


def _accepted(hand: Hand, body: Body, side: int) -> Hand | None:
    return hand if hand.score >= MIN_PRESENCE and _belongs(hand, body, side) else None


def _belongs(hand: Hand, body: Body, side: int) -> bool:
    """Whether a hand, if it is one, can be that of the body's wrist."""
    own_side = hand.handedness if side == RIGHT else 1 - hand.handedness
    return own_side >= MIN_OWN_SIDE and wrist_distance(hand, body, side) <= MAX_WRIST_DISTANCE


def _confirmed(
    networks: Networks, picture: NDArray[np.uint8], square: Square, body: Body, side: int
) -> Hand | None:
    """Read a hand in a guessed square; keep it if a second reading, from its own square, agrees."""
    first = _read_hand(networks, picture, square)
    if first.score < MIN_AGREEING_PRESENCE or not _belongs(first, body, side):
        return None
    second = _read_hand(networks, picture, _with_side(first.next_square))
    return second if _agree(first, second) and _belongs(second, body, side) else None


def _agree(first: Hand, second: Hand) -> bool:
    """Whether two readings show one hand; the closer they are, the less sure each may be."""
    distance = float(np.linalg.norm(second.points - first.points, axis=1).mean()) / second.size
    low, mean = min(first.score, second.score), (first.score + second.score) / 2
    is_sure = low >= MIN_PRESENCE and distance <= MAX_DISAGREEMENT
    is_close = distance <= CLOSE_AGREEMENT and mean >= MIN_MEAN_PRESENCE
    return is_sure or (is_close and low > MIN_AGREEING_PRESENCE)


def _with_side(square: Square) -> Square:
    return square if square.side >= 1.0 else Square(square.x, square.y, 1.0, square.rotation)


def _told_apart(left: Hand | None, right: Hand | None, body: Body) -> Pair:
    """Return both hands; if both are readings of one hand, only the side that it fits better."""
    if left is None or right is None:
        return left, right
    distance = float(np.linalg.norm(box_centre(left.points) - box_centre(right.points)))
    if distance >= MIN_DISTANCE_APART * max(left.size, right.size):
        return left, right
    misfit_left = wrist_distance(left, body, LEFT) + abs(left.handedness - LEFT)
    misfit_right = wrist_distance(right, body, RIGHT) + abs(right.handedness - RIGHT)
    return (left, None) if misfit_left <= misfit_right else (None, right)
