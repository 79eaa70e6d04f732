"""The area of the picture that a body takes, drawn from its pose.

Legend: K = 134 points, P people, H height, W width.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.lengths import BONES
from pose.skeletons import (
    FACE,
    HANDS,
    LEFT_ANKLE,
    LEFT_EAR,
    LEFT_HIP,
    LEFT_SHOULDER,
    NECK,
    NOSE,
    RIGHT_ANKLE,
    RIGHT_EAR,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    VISIBLE_ABOVE,
)

Array = NDArray[np.float64]

# Half the breadth of each limb, in body heights.
_LIMBS = (
    (2, 3, 0.033), (3, 4, 0.026), (5, 6, 0.033), (6, 7, 0.026),
    (8, 9, 0.05), (9, 10, 0.037), (11, 12, 0.05), (12, 13, 0.037),
)  # fmt: skip
_TRUNK = (RIGHT_SHOULDER, LEFT_SHOULDER, LEFT_HIP, RIGHT_HIP)
_TRUNK_MARGIN = 0.035
_NECK = 0.03
_HEAD = 0.068
_HAND = 0.02
_FOOT = 0.025


def figure_mask(
    points: Array,
    scores: Array,
    height: int,
    width: int,
    *,
    margin: float = 0.0,
    parts: tuple[str, ...] = ("trunk", "head", "limbs"),
) -> NDArray[np.bool_]:
    """Draw the area of one person: trunk, head, limbs, hands and feet, as broad as is usual.

    Args:
        points: ``K x 2``, as fractions of the picture.
        scores: ``K``; joints up to a score of 0.3 are not drawn.
        height, width: size of the mask in pixels.
        margin: added on all sides, in body heights, such as for clothes and hair.
        parts: what to draw.

    Returns:
        bool ``H x W``.
    """
    pixels = points * [width, height]
    is_seen = scores > VISIBLE_ABOVE
    unit = body_height(pixels, scores)
    mask = np.zeros((height, width), np.uint8)
    if unit <= 0:
        return mask > 0

    def thick(breadth: float) -> int:
        return max(1, round(2 * (breadth + margin) * unit))

    def line(first: Array, second: Array, breadth: float) -> None:
        cv2.line(mask, _pixel(first), _pixel(second), 1, thickness=thick(breadth))

    if "trunk" in parts:
        corners = [joint for joint in _TRUNK if is_seen[joint]]
        if len(corners) > 1:
            outline = np.array([_pixel(pixels[joint]) for joint in corners], np.int32)
            cv2.fillPoly(mask, [outline], 1)
            cv2.polylines(mask, [outline], True, 1, thickness=thick(_TRUNK_MARGIN))
    if "head" in parts:
        _draw_head(mask, pixels, is_seen, unit, thick(_HEAD), thick(_NECK))
    if "limbs" in parts:
        for first, second, breadth in _LIMBS:
            if is_seen[first] and is_seen[second]:
                line(pixels[first], pixels[second], breadth)
        for hand in HANDS:
            for point in pixels[hand][is_seen[hand]]:
                cv2.circle(mask, _pixel(point), thick(_HAND) // 2, 1, thickness=-1)
        for ankle, toes in ((LEFT_ANKLE, range(18, 21)), (RIGHT_ANKLE, range(21, 24))):
            for toe in toes:
                if is_seen[ankle] and is_seen[toe]:
                    line(pixels[ankle], pixels[toe], _FOOT)
    return mask > 0


def people_mask(
    points: Array, scores: Array, height: int, width: int, *, order: list[int] | None = None
) -> NDArray[np.uint8]:
    """Say who is where: uint8 ``H x W``, 0 for nobody, person p as p + 1; later ones in `order` are in front.

    Args:
        points, scores: ``P x K x 2`` and ``P x K``.
        height, width: size of the mask in pixels.
        order: people from back to front; None takes them as they come.
    """
    mask = np.zeros((height, width), np.uint8)
    for person in range(len(points)) if order is None else order:
        mask[figure_mask(points[person], scores[person], height, width)] = person + 1
    return mask


def body_height(pixels: Array, scores: Array) -> float:
    """Estimate the height of a body from what is seen of it, in pixels; 0 where no bone is seen."""
    heights = []
    is_seen = scores > VISIBLE_ABOVE
    for bone in BONES.values():
        for first, second in bone.ends:
            if is_seen[[*first, *second]].all():
                ends = pixels[list(first)].mean(axis=0), pixels[list(second)].mean(axis=0)
                heights.append((float(np.linalg.norm(ends[0] - ends[1])) / bone.usual, 1 / bone.hiding))
    if not heights:
        return 0.0
    values, weights = np.array(sorted(heights)).T
    # Bones look short, never long: above the middle, and those that are hardly foreshortened count more.
    return float(values[(weights.cumsum() >= 0.6 * weights.sum()).argmax()])


def _draw_head(
    mask: NDArray[np.uint8], pixels: Array, is_seen: NDArray[np.bool_], unit: float, head: int, neck: int
) -> None:
    """An ellipse around the face, upright on the neck, and the neck."""
    known = [joint for joint in (NOSE, 14, 15, RIGHT_EAR, LEFT_EAR) if is_seen[joint]]
    if not known:
        return
    middle = pixels[known].mean(axis=0)
    radius = head / 2
    if is_seen[FACE].mean() > 0.5:
        face = pixels[FACE][is_seen[FACE]]
        radius = max(radius, 0.7 * float(np.ptp(face, axis=0).max()))
        middle = 0.5 * (middle + face.mean(axis=0))
    up = np.array([0.0, -1.0])
    if is_seen[NECK]:
        way = middle - pixels[NECK]
        up = way / max(float(np.linalg.norm(way)), 1e-9)
        cv2.line(mask, _pixel(pixels[NECK]), _pixel(middle), 1, thickness=neck)
    angle = float(np.degrees(np.arctan2(up[1], up[0])))
    centre = middle + 0.15 * radius * up
    cv2.ellipse(mask, _pixel(centre), (round(1.25 * radius), round(radius)), angle, 0, 360, 1, thickness=-1)


def _pixel(point: Array) -> tuple[int, int]:
    x, y = np.clip(point, -30_000, 30_000).astype(int).tolist()
    return x, y
