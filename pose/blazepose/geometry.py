"""Rotated squares: what a network sees of the picture, and the way back.

Pixels of the whole picture throughout, y down; angles in radians, clockwise positive in the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

UP = math.pi / 2
DOWN = -math.pi / 2
RIGHT = 0.0

Points = NDArray[np.float64]  # N x 2


@dataclass(frozen=True)
class Square:
    """A rotated square: centre, side and rotation."""

    x: float
    y: float
    side: float
    rotation: float = 0.0

    def crop(self, picture: NDArray[np.uint8], size: int, *, replicate: bool = True) -> NDArray[np.uint8]:
        """The square as ``size x size x 3``; outside the picture its border is repeated, or black."""
        scale = size / self.side
        cos, sin = scale * math.cos(self.rotation), scale * math.sin(self.rotation)
        matrix = np.array(
            [
                [cos, sin, size / 2 - cos * self.x - sin * self.y],
                [-sin, cos, size / 2 + sin * self.x - cos * self.y],
            ]
        )
        border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
        cut = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
        return np.asarray(cut)

    def to_picture(self, fractions: Points) -> Points:
        """Points of the square (0 to 1 along each side) in the picture."""
        return (fractions - 0.5) @ _axes(self.rotation) * self.side + (self.x, self.y)

    def from_picture(self, points: Points) -> Points:
        """Points of the picture as fractions of the square; the inverse of `to_picture`."""
        return (points - (self.x, self.y)) @ _axes(self.rotation).T / self.side + 0.5

    def moved(self, step: Points) -> Square:
        """The same square, moved by ``2`` pixels."""
        return replace(self, x=self.x + float(step[0]), y=self.y + float(step[1]))

    def grow(self, scale: float, shift: float = 0.0, *, height: float | None = None) -> Square:
        """Scaled, and first moved down along its own axis by `shift` of a height (its side, unless given)."""
        step = (self.side if height is None else height) * shift
        return replace(
            self,
            x=self.x - step * math.sin(self.rotation),
            y=self.y + step * math.cos(self.rotation),
            side=self.side * scale,
        )


def direction(start: Points, end: Points, target: float) -> float:
    """The rotation that turns the way from one point to another into the direction `target`."""
    angle = target - math.atan2(-(end[1] - start[1]), end[0] - start[0])
    return normalised(angle)


def normalised(angle: float) -> float:
    """The same angle in [-pi, pi)."""
    return angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))


def align(centre: Points, rim: Points, target: float) -> Square:
    """The square around `centre` that reaches to `rim`, which then lies in the direction `target`."""
    x, y = centre
    return Square(float(x), float(y), 2 * _distance(centre, rim), direction(centre, rim, target))


def around(points: Points, start: int, end: int) -> tuple[Square, float]:
    """The square around points, with the way from one of them to another turned to the right.

    Returns the square over the longer side of their upright bounding box, and that box's height.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    (x, y), (width, height) = (low + high) / 2, high - low
    rotation = direction(points[start], points[end], RIGHT)
    return Square(float(x), float(y), float(max(width, height)), rotation), float(height)


def box_sides(points: Points) -> Points:
    """Width and height of the upright bounding box."""
    sides: Points = points.max(axis=0) - points.min(axis=0)
    return sides


def box_centre(points: Points) -> Points:
    """Middle of the upright bounding box."""
    centre: Points = (points.max(axis=0) + points.min(axis=0)) / 2
    return centre


@dataclass(frozen=True)
class Tolerance:
    """How far the square of a part may be from where the part was in the last frame."""

    rotation: float  # radians
    centre: float  # fractions of the side
    side: float
    inside: float  # the last frame's points lie within this much of the square

    def keeps(self, current: Square, previous: Square, points: Points) -> bool:
        """Whether the square of the previous frame's points may be used in place of the current one."""
        offset = current.from_picture(np.array([[previous.x, previous.y]]))[0] - 0.5
        reach = np.abs(current.from_picture(points) - 0.5)
        return bool(
            abs(normalised(current.rotation - previous.rotation)) <= self.rotation
            and np.abs(offset).max() <= self.centre
            and abs(current.side - previous.side) <= self.side * current.side
            and reach.max() <= self.inside / 2
        )


def _distance(a: Points, b: Points) -> float:
    return float(np.linalg.norm(b - a))


def _axes(rotation: float) -> NDArray[np.float64]:
    """Rows: the square's own x and y axes in the picture."""
    cos, sin = math.cos(rotation), math.sin(rotation)
    return np.array([[cos, sin], [-sin, cos]])
