"""Positions of eyes, brows, nose, mouth and the 68 face points on the head.

Head axes: X to the person's left, Y up, Z forward; the origin is the centre of the head, the unit half its
height.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SKULL_CENTRE = np.array([0.0, 0.14, -0.06])
SKULL_RADII = np.array([0.73, 0.86, 0.88])
# The jaw is a sphere swept from below the cheeks to the chin.
JAW_FROM, JAW_TO = np.array([0.0, 0.0, 0.06]), np.array([0.0, -0.66, 0.37])
JAW_RADII = (0.71, 0.31)

EYE_X, EYE_Y = 0.285, 0.0
BROW = np.array([[0.13, 0.235], [0.22, 0.262], [0.31, 0.268], [0.41, 0.245], [0.50, 0.185]])
NOSE_TIP_Y, MOUTH_Y, MOUTH_HALF_WIDTH = -0.24, -0.52, 0.2
EAR = np.array([0.735, -0.02, -0.10])


def front(x: Array | float, y: Array | float) -> Array:
    """Return Z of the head's front surface at (x, y), or at the nearest point if the head is missed."""
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    u = (x - SKULL_CENTRE[0]) / SKULL_RADII[0]
    v = (y - SKULL_CENTRE[1]) / SKULL_RADII[1]
    skull = np.where(u * u + v * v < 1, SKULL_RADII[2] * np.sqrt(np.maximum(1 - u * u - v * v, 0)), -1)
    t = np.linspace(0, 1, 41)
    centre = JAW_FROM + t[:, None] * (JAW_TO - JAW_FROM)
    radius = JAW_RADII[0] + t * (JAW_RADII[1] - JAW_RADII[0])
    squared = radius**2 - (x[..., None] - centre[:, 0]) ** 2 - (y[..., None] - centre[:, 1]) ** 2
    jaw = np.where(squared > 0, centre[:, 2] + np.sqrt(np.maximum(squared, 0)), -1.0).max(axis=-1)
    return np.maximum(np.maximum(skull + SKULL_CENTRE[2], jaw), 0.0)


@cache
def front_at(x: float, y: float) -> float:
    """Return `front` of one point, cached because features are at the same points on every head."""
    return float(front(x, y))


@cache
def face_points() -> Array:
    """Return the 68 iBUG points with closed mouth, ``68 x 3``, on the head's surface at the drawn
    features."""
    points = np.zeros((68, 3))
    turn = np.linspace(0, np.pi, 17)
    points[:17, 0] = -0.72 * np.cos(turn) * (1 - 0.12 * np.sin(2 * np.minimum(turn, np.pi - turn)))
    points[:17, 1] = 0.0 - 0.955 * np.sin(turn)
    points[:17, 2] = -0.02 + 0.56 * np.sin(turn) ** 1.3
    points[17:22, :2] = BROW[::-1] * [-1, 1]
    points[22:27, :2] = BROW
    points[27:31, 1] = [0.06, -0.04, -0.14, NOSE_TIP_Y]
    points[31:36, :2] = [[-0.13, -0.31], [-0.065, -0.335], [0, -0.345], [0.065, -0.335], [0.13, -0.31]]
    eye = np.array(
        [[-0.15, 0.0], [-0.055, 0.075], [0.055, 0.075], [0.15, 0.0], [0.055, -0.06], [-0.055, -0.06]]
    )
    points[36:42, :2] = eye + np.array([-EYE_X, EYE_Y])
    points[42:48, :2] = eye + np.array([EYE_X, EYE_Y])
    w = MOUTH_HALF_WIDTH
    half_lip = np.array([[-w, 0], [-0.6 * w, 0.045], [-0.2 * w, 0.07]])
    points[48:51, :2], points[51, :2], points[52:55, :2] = half_lip, [0, 0.055], half_lip[::-1] * [-1, 1]
    points[55:60, :2] = [
        [0.6 * w, -0.06],
        [0.25 * w, -0.085],
        [0, -0.09],
        [-0.25 * w, -0.085],
        [-0.6 * w, -0.06],
    ]
    points[60:65, :2] = [[-0.85 * w, 0], [-0.3 * w, 0.008], [0, 0.008], [0.3 * w, 0.008], [0.85 * w, 0]]
    points[65:68, :2] = [[0.3 * w, -0.008], [0, -0.008], [-0.3 * w, -0.008]]
    points[48:68, 1] += MOUTH_Y + 0.6 * points[48:68, 0] ** 2  # a slight smile
    points[17:, 2] = front(points[17:, 0], points[17:, 1])
    points[27:31, 2] += [0.0, 0.05, 0.12, 0.19]
    points[31:36, 2] += [0.03, 0.07, 0.09, 0.07, 0.03]
    points.setflags(write=False)
    return points


@cache
def mouth_opening() -> Array:
    """Return how far each of the 68 points moves down, in head units, if the mouth is wide open."""
    drop = np.zeros(68)
    drop[55:60] = [0.11, 0.16, 0.17, 0.16, 0.11]
    drop[65:68] = [0.13, 0.15, 0.13]
    drop[5:12] = [0.02, 0.03, 0.04, 0.04, 0.04, 0.03, 0.02]
    drop.setflags(write=False)
    return drop
