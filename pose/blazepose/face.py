"""The face of a body: a mesh of 468 points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.body import Body
from pose.blazepose.detection import FACE_STRIDES, decode
from pose.blazepose.geometry import Points, Square, Tolerance, around
from pose.blazepose.networks import FACE_SIZE, MESH_SIZE, Networks

MIN_PRESENCE = 0.5
_HEAD = slice(0, 11)  # body points
_BODY_RIGHT_EYE, _BODY_LEFT_EYE = 5, 2
_HIT_RIGHT_EYE, _HIT_LEFT_EYE = 0, 1
_MESH_RIGHT_EYE, _MESH_LEFT_EYE = 33, 263  # outer corners

TOLERANCE = Tolerance(rotation=math.radians(15), centre=0.1, side=0.3, inside=0.8)


@dataclass(frozen=True, eq=False)
class Face:
    """One face: points ``468 x 2`` in pixels and the probability that it is one."""

    square: Square
    points: Points
    score: float

    @property
    def next_square(self) -> Square:
        """Where to look for this face in the next frame."""
        square, height = around(self.points, _MESH_RIGHT_EYE, _MESH_LEFT_EYE)
        return square.grow(1.5, height=height)


def find_face(
    networks: Networks, picture: NDArray[np.uint8], body: Body, previous: Face | None = None
) -> Face | None:
    """Find the face of a body; None if none is visible.

    Args:
        previous: the same person's face in the frame before, for a steadier square.
    """
    square = face_square(networks, picture, body)
    if square is None:
        return None
    if previous is not None and TOLERANCE.keeps(square, previous.next_square, previous.points):
        square = previous.next_square
    outputs = networks.mesh(square.crop(picture, MESH_SIZE)[None])
    score = float(outputs["presence"][0, 0])
    points = outputs["landmarks"][0, :, :2].astype(np.float64) / MESH_SIZE
    return Face(square, square.to_picture(points), score) if score >= MIN_PRESENCE else None


def face_square(networks: Networks, picture: NDArray[np.uint8], body: Body) -> Square | None:
    """Return the square of the face that the detector finds around the body's head."""
    head, height = around(body.points[_HEAD], _BODY_RIGHT_EYE, _BODY_LEFT_EYE)
    head = head.grow(3.0, height=height)
    if head.side < 1.0:
        return None
    outputs = networks.face(head.crop(picture, FACE_SIZE, replicate=False)[None])
    points, scores = decode(outputs["boxes"][0], outputs["scores"][0], FACE_SIZE, FACE_STRIDES)
    if len(scores) == 0:
        return None
    square, height = around(head.to_picture(points[0]), _HIT_RIGHT_EYE, _HIT_LEFT_EYE)
    square = square.grow(2.0, -0.1, height=height)
    return square if square.side >= 1.0 else None
