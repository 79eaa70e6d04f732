"""Hands of a drawing: joints as discs of one colour, told apart by the rainbow of the bones between them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.drawings.bodies import Drawn
from pose.drawings.colours import Ink, Palette, angles, chroma_of, luma_of
from pose.skeletons import BODY_LIMBS, LEFT_ELBOW, LEFT_WRIST, RIGHT_ELBOW, RIGHT_WRIST

Points = NDArray[np.float64]

REACH_FOREARM, REACH_SIZE = 1.1, 0.09  # how far from its wrist a hand reaches: of the forearm, of the body
MIN_DISCS = 6
MAX_DISCS = 40
DISCS_APART, MIN_APART = 1.3, 3.0  # radii, pixels
LEAST_AMOUNT = 0.3  # of the densest place
MIN_STRENGTH = 25.0  # of chroma
NEAR_HUE = np.radians(25.0)
BONE_ANGLE = np.radians(28.0)  # of chroma, at which a pixel counts for nothing
MIN_EVIDENCE = 0.3  # mean over a bone
MIN_TOTAL = 0.5  # evidence beyond that, summed over the bones of a hand
SAME_COLOUR = 12  # joint and limb of the colour of the hands' joints: left knee, neck to nose
BODY_WIDTHS = 1.5  # half widths
LONGEST_BONE = 0.6  # of a hand's reach
ROOT_REACH = 0.35  # of a hand's reach: from the body's wrist to the hand's


@dataclass(frozen=True)
class DrawnHand:
    """Points ``21 x 2`` in pixels, the score, and how far its wrist is from the body's."""

    points: Points
    score: float
    distance: float


def find_hands(ink: Ink, palette: Palette, body: Drawn) -> tuple[DrawnHand | None, DrawnHand | None]:
    """Return the left and the right hand of a body; None where none is drawn."""
    left, right = (_find_hand(ink, palette, body, wrist) for wrist in (LEFT_WRIST, RIGHT_WRIST))
    if left is not None and right is not None and (left.points[0] == right.points[0]).all():
        return (left, None) if left.distance <= right.distance else (None, right)
    return left, right


def _find_hand(ink: Ink, palette: Palette, body: Drawn, wrist: int) -> DrawnHand | None:
    if body.scores[wrist] == 0:
        return None
    place, reach, radius = body.joints[wrist], _reach(body), max(body.half_width, 1.0)
    ink = ink[np.abs(ink.places - place).max(axis=1) < reach]
    apart = np.abs(_difference(angles(ink.chroma), angles(chroma_of(palette.knuckle[None]))[0]))
    is_knuckle = (apart < NEAR_HUE) & (ink.strength > MIN_STRENGTH) & ~ink.is_white
    is_knuckle &= ~_is_of_body(ink.places, body)
    if is_knuckle.sum() < MIN_DISCS:
        return None
    discs = _discs(ink[is_knuckle], radius)
    distances = np.linalg.norm(discs - place, axis=1)
    root = int(distances.argmin())
    if len(discs) < MIN_DISCS or distances[root] > ROOT_REACH * reach:
        return None
    fingers, evidence = _fingers(ink, palette, discs, root, radius, LONGEST_BONE * reach)
    if evidence < MIN_TOTAL:
        return None
    points = np.concatenate([discs[root][None], fingers])
    brightness = np.percentile(ink.luma[is_knuckle], 90) / luma_of(palette.knuckle[None])[0]
    return DrawnHand(points, float(min(brightness, 1.0)), float(distances[root]))


def _reach(body: Drawn) -> float:
    """How far from its wrist a hand may reach; by the longer forearm, as one may point at the camera."""
    forearms = [
        float(np.linalg.norm(body.joints[elbow] - body.joints[wrist]))
        for elbow, wrist in ((LEFT_ELBOW, LEFT_WRIST), (RIGHT_ELBOW, RIGHT_WRIST))
        if body.scores[elbow] > 0 and body.scores[wrist] > 0
    ]
    return max([REACH_SIZE * body.size, *(REACH_FOREARM * forearm for forearm in forearms)])


def _is_of_body(places: Points, body: Drawn) -> NDArray[np.bool_]:
    """Whether pixels ``N x 2`` belong to the limb or the joint that are drawn in the colour of hands."""
    reach = BODY_WIDTHS * body.half_width + 1
    is_of_body = np.zeros(len(places), dtype=np.bool_)
    if body.scores[SAME_COLOUR] > 0:
        is_of_body |= np.linalg.norm(places - body.joints[SAME_COLOUR], axis=1) < reach
    if SAME_COLOUR in body.limbs:
        start, end = body.joints[list(BODY_LIMBS[SAME_COLOUR])]
        along = (places - start) @ (end - start) / max(float((end - start) @ (end - start)), 1e-6)
        nearest = start + np.clip(along, 0, 1)[:, None] * (end - start)
        is_of_body |= np.linalg.norm(places - nearest, axis=1) < reach
    return is_of_body


def _discs(ink: Ink, radius: float) -> Points:
    """Centres of the discs that cover some pixels, the densest first."""
    corner = np.floor(ink.places.min(axis=0)) - 2
    columns, rows = (ink.places - corner).astype(np.int64).T
    amount = np.zeros((rows.max() + 3, columns.max() + 3), np.float32)
    amount[rows, columns] = np.minimum(ink.strength / 127, 1)
    amount = cv2.GaussianBlur(amount, (0, 0), max(0.6 * radius, 0.7))
    left = amount[rows, columns]
    lowest, places = LEAST_AMOUNT * float(left.max()), ink.places
    discs: list[Points] = []
    while len(discs) < MAX_DISCS and len(left) and left.max() > lowest:
        discs.append(places[left.argmax()])
        is_free = np.linalg.norm(places - discs[-1], axis=1) > max(DISCS_APART * radius, MIN_APART)
        places, left = places[is_free], left[is_free]
    return np.array(discs).reshape(-1, 2)


def _fingers(
    ink: Ink, palette: Palette, discs: Points, root: int, radius: float, longest: float
) -> tuple[Points, float]:
    """The 20 joints of the fingers, the chains of discs whose bones fit best; and the evidence summed."""
    evidence = _evidence(ink, palette, discs, radius, longest)  # 20 x D x D
    joints, sum_of_evidence = np.zeros((20, 2)), 0.0
    for finger in range(5):
        bones = evidence[4 * finger : 4 * finger + 4]
        total, came_from = bones[0][root], []
        for bone in bones[1:]:
            both = total[:, None] + bone
            came_from.append(both.argmax(axis=0))
            total = both.max(axis=0)
        chain = [int(total.argmax())]
        sum_of_evidence += float(total.max())
        for before in came_from[::-1]:
            chain.insert(0, int(before[chain[0]]))
        joints[4 * finger : 4 * finger + 4] = discs[chain]
    return joints, sum_of_evidence


def _evidence(ink: Ink, palette: Palette, discs: Points, radius: float, longest: float) -> Points:
    """How well each bone's colour is seen between each two discs, ``20 x D x D``; 0 where they touch."""
    corner = np.floor(np.minimum(ink.places.min(axis=0), discs.min(axis=0))) - 2
    size = (np.ceil(np.maximum(ink.places.max(axis=0), discs.max(axis=0))) - corner + 3).astype(int)
    likeness = np.zeros((20, size[1], size[0]), np.float32)
    columns, rows = (ink.places - corner).astype(np.int64).T
    apart = np.abs(_difference(angles(ink.chroma)[:, None], angles(chroma_of(palette.bones))))
    shade = np.minimum(ink.strength / 40, 1)[:, None] * ~ink.is_white[:, None]
    likeness[:, rows, columns] = (np.maximum(1 - apart / BONE_ANGLE, 0) * shade).T
    if radius < 2.5:  # thin lines are interrupted, and colour is stored at half the resolution
        likeness = np.stack([cv2.dilate(one, np.ones((2, 2), np.uint8)) for one in likeness])
    start, end = discs[:, None], discs[None]
    length = np.linalg.norm(end - start, axis=-1)
    steps = np.linspace(0.0, 1.0, 15)[:, None, None]
    inside = np.clip(radius / np.maximum(length, 1e-6), 0.0, 0.5)
    part = inside + (1 - 2 * inside) * steps  # 15 x D x D
    places = np.rint(start + part[..., None] * (end - start) - corner).astype(int)
    means = likeness[:, places[..., 1], places[..., 0]].mean(axis=1) - MIN_EVIDENCE
    means = np.where(length < 2.2 * radius, np.where(length == 0, -0.05, 0.0), means)
    return np.where(length > longest, -1.0, means)


def _difference(a: Points, b: Points) -> Points:
    return np.asarray((a - b + np.pi) % (2 * np.pi) - np.pi)
