"""The face of a body: a mesh of 468 points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.body import NOSE, Body
from pose.blazepose.detection import FACE_STRIDES, decode
from pose.blazepose.geometry import Points, Square, Tolerance, around
from pose.blazepose.networks import FACE_SIZE, MESH_SIZE, Networks

MIN_PRESENCE = 0.5
MIN_STILL_PRESENCE = 0.8  # of a face that is read without detecting it again
MAX_NOSE_DISTANCE = 0.15  # of the face's square, between its nose and the body's
_HEAD = slice(0, 11)  # body points
_BODY_RIGHT_EYE, _BODY_LEFT_EYE = 5, 2
_HIT_RIGHT_EYE, _HIT_LEFT_EYE = 0, 1
_MESH_NOSE = 4
_MESH_RIGHT_EYE, _MESH_LEFT_EYE = 33, 263  # outer corners

TOLERANCE = Tolerance(rotation=math.radians(15), centre=0.1, side=0.3, inside=0.8)
STILL = Tolerance(rotation=math.radians(8), centre=0.06, side=0.2, inside=0.8)


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

    A face that hardly moved since the frame before is read where it was; any other is detected first.

    Args:
        previous: the same person's face in the frame before, for a steadier square.
    """
    followed = _follow_face(networks, picture, body, previous) if previous is not None else None
    if followed is not None and _hardly_moved(followed):
        return followed
    square = face_square(networks, picture, body)
    if square is None:
        return None
    if previous is not None and TOLERANCE.keeps(square, previous.next_square, previous.points):
        square = previous.next_square
    is_read = followed is not None and followed.square == square
    face = followed if followed is not None and is_read else _read_face(networks, picture, square)
    return face if face.score >= MIN_PRESENCE else None


def _follow_face(networks: Networks, picture: NDArray[np.uint8], body: Body, previous: Face) -> Face | None:
    """Read a face in the square of the frame before; None if the head is elsewhere now."""
    square = previous.next_square
    distance = float(np.linalg.norm(previous.points[_MESH_NOSE] - body.points[NOSE]))
    return _read_face(networks, picture, square) if distance <= MAX_NOSE_DISTANCE * square.side else None


def _hardly_moved(face: Face) -> bool:
    """Whether a face that was read without being detected is surely one and in the middle of its square."""
    return face.score >= MIN_STILL_PRESENCE and STILL.keeps(face.next_square, face.square, face.points)


def _read_face(networks: Networks, picture: NDArray[np.uint8], square: Square) -> Face:
    outputs = networks.mesh(square.crop(picture, MESH_SIZE)[None])
    points = outputs["landmarks"][0, :, :2].astype(np.float64) / MESH_SIZE
    return Face(square, square.to_picture(points), float(outputs["presence"][0, 0]))


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
