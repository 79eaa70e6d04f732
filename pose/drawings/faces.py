"""Faces of a drawing: the 68 points fitted to its white points.

White points do not say which is which. A mean face is laid over them: first by an affine map, which follows
size, tilt and most of a turned head, then bent smoothly until the points lie on white.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

MIN_PIXELS = 20
MAX_PIXELS = 300
STRAY = 2.5  # usual distances from the middle: what is farther is not of this face
STARTS = (-0.4, 0.0, 0.4)  # radians of tilt
AFFINE_STEPS = 12
BENDS = (0.6, 0.45, 0.35, 0.25, 0.18, 0.12)  # reach of the smoothing, in units of the mean face
MAX_MISFIT = 0.6  # of the face's size, both ways

RIGHT_EYE_POINTS, LEFT_EYE_POINTS, NOSE_TIP = slice(36, 42), slice(42, 48), 30

# Mean of faces that look at the camera, iBUG-68 order; mean 0, mean square 1, y down.
_HALF_JAW = (
    (-1.3, -0.69), (-1.28, -0.34), (-1.25, -0.02), (-1.2, 0.33), (-1.01, 0.72), (-0.88, 0.98), (-0.58, 1.25),
    (-0.39, 1.35),
)  # fmt: skip
_RIGHT_BROW = ((-0.99, -1.01), (-0.82, -1.12), (-0.63, -1.17), (-0.45, -1.19), (-0.25, -1.16))
_NOSE = (
    (0, -0.74), (0, -0.51), (0, -0.31), (0, -0.11), (-0.24, 0.09), (-0.14, 0.14), (0, 0.15), (0.14, 0.14),
    (0.24, 0.09),
)  # fmt: skip
_RIGHT_EYE = ((-0.82, -0.69), (-0.66, -0.75), (-0.48, -0.76), (-0.32, -0.68), (-0.47, -0.62), (-0.65, -0.62))
_LEFT_EYE = ((0.32, -0.68), (0.48, -0.76), (0.66, -0.75), (0.82, -0.69), (0.65, -0.62), (0.47, -0.62))
_MOUTH = (
    (-0.53, 0.58), (-0.3, 0.46), (-0.15, 0.41), (0, 0.4), (0.15, 0.41), (0.3, 0.46), (0.53, 0.58),
    (0.3, 0.74), (0.16, 0.81), (0, 0.85), (-0.16, 0.81), (-0.3, 0.74), (-0.46, 0.58), (-0.16, 0.53),
    (0, 0.51), (0.16, 0.53), (0.46, 0.58), (0.17, 0.66), (0, 0.69), (-0.17, 0.66),
)  # fmt: skip
_EARS = ((-1.24, -0.32), (1.24, -0.32))  # right, left


def _mirrored(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    return tuple((-x, y) for x, y in points[::-1])


MEAN_FACE: Points = np.array(
    [*_HALF_JAW, (0, 1.43), *_mirrored(_HALF_JAW), *_RIGHT_BROW, *_mirrored(_RIGHT_BROW), *_NOSE, *_RIGHT_EYE,
     *_LEFT_EYE, *_MOUTH], dtype=np.float64,
)  # fmt: skip


@dataclass(frozen=True)
class DrawnFace:
    """Points ``68 x 2`` in pixels and where the ears are expected, ``2 x 2``: right, left."""

    points: Points
    ears: Points

    @property
    def size(self) -> float:
        return float(np.ptp(self.points, axis=0).max())


def fit_face(white: Points, neck: Points | None) -> DrawnFace | None:
    """Fit the 68 points to white pixels ``N x 2`` of one head; None where these are no face.

    Args:
        neck: of the body, which tells what is up; None: up in the picture.
    """
    if len(white) < MIN_PIXELS:
        return None
    off = np.linalg.norm(white - np.median(white, axis=0), axis=1)
    white = white[off < STRAY * np.median(off)]
    white = white[:: -(-len(white) // MAX_PIXELS)]
    centre = white.mean(axis=0)
    radius = float(np.sqrt(((white - centre) ** 2).sum(axis=1).mean()))
    up = np.array([0.0, -1.0]) if neck is None else centre - neck
    upright = float(np.arctan2(up[0], -up[1]))
    fits = [_affine(white, _turn(upright + tilt, radius, centre)) for tilt in STARTS]
    misfit, matrix = min(fits, key=lambda fit: fit[0])
    if misfit > MAX_MISFIT * radius:
        return None
    points = _bent(white, _mapped(MEAN_FACE, matrix), radius)
    return DrawnFace(points, _mapped(np.array(_EARS), matrix))


def _turn(angle: float, radius: float, centre: Points) -> Points:
    """The affine map ``3 x 2`` that turns, scales and moves the mean face."""
    cos, sin = np.cos(angle) * radius, np.sin(angle) * radius
    return np.array([[cos, sin], [-sin, cos], centre])


def _mapped(points: Points, matrix: Points) -> Points:
    return np.asarray(points @ matrix[:2] + matrix[2])


def _affine(white: Points, matrix: Points) -> tuple[float, Points]:
    """Refine an affine map so that mean face and white pixels are close to each other; misfit and map."""
    misfit = np.inf
    source = np.concatenate([MEAN_FACE, np.zeros((len(white), 2))])
    for _ in range(AFFINE_STEPS):
        distance = _distances(_mapped(MEAN_FACE, matrix), white)
        source[len(MEAN_FACE) :] = MEAN_FACE[distance.argmin(axis=0)]
        target = np.concatenate([white[distance.argmin(axis=1)], white])
        weight = np.sqrt(
            np.concatenate([np.full(len(MEAN_FACE), 1 / len(MEAN_FACE)), np.full(len(white), 1 / len(white))])
        )[:, None]
        rows = np.concatenate([source, np.ones((len(source), 1))], axis=1)
        matrix = np.linalg.lstsq(rows * weight, target * weight, rcond=None)[0]
        misfit = float(distance.min(axis=1).mean() + distance.min(axis=0).mean())
    return misfit, matrix


def _bent(white: Points, points: Points, radius: float) -> Points:
    """Move points to the white pixels near them, less and less smoothly."""
    apart = ((MEAN_FACE[:, None] - MEAN_FACE) ** 2).sum(axis=-1)
    for reach in BENDS:
        distance = _distances(points, white)
        target = white[distance.argmin(axis=1)]
        owner = distance.argmin(axis=0)
        count = np.bincount(owner, minlength=len(points))
        sums = np.stack([np.bincount(owner, white[:, i], minlength=len(points)) for i in (0, 1)], axis=1)
        own = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], target)
        step = (target + own) / 2 - points
        kernel = np.exp(-apart / (2 * reach**2))
        points = points + kernel @ step / kernel.sum(axis=1, keepdims=True)
    return points


def _distances(a: Points, b: Points) -> Points:
    return np.asarray(np.sqrt(((a[:, None] - b) ** 2).sum(axis=-1)))
