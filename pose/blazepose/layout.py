"""The estimator's own points in the order of our 134, with one confidence each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.blazepose.body import Body
from pose.blazepose.face import Face
from pose.blazepose.hands import Pair
from pose.skeletons import BODY, FACE, FEET, HANDS, LEFT_EYE, NECK, NOSE, RIGHT_EYE
from pose.types import NUM_POINTS

LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 11, 12, 23, 24

# Body point of each of our 18 joints; the neck (second) is put in afterwards.
BODY_POINTS = np.array([0, 0, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7])
FOOT_POINTS = np.array([31, 29, 32, 30])  # left toes and heel, right toes and heel: small toes there are none
_FEET_FOUND = np.array([0, 2, 3, 5])  # where these go among our six

# Mesh vertex of each of the 68 iBUG points.
FACE_POINTS = np.array([
    127, 234, 93, 132, 172, 136, 149, 176, 152, 400, 378, 365, 397, 361, 323, 454, 356,  # jaw
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # lips outside
    78, 82, 13, 312, 308, 317, 14, 87,  # lips inside
])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Person:
    """Everything found of one person."""

    body: Body
    hands: Pair
    face: Face | None

    def points(self, height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points ``134 x 2`` as fractions of the picture and confidences ``134`` in [0, 1].

        Small toes, absent hands and an absent face lie at (0, 0) with confidence 0.
        """
        points, scores = np.zeros((NUM_POINTS, 2)), np.zeros(NUM_POINTS)
        confidence = self.body.confidence * self.body.score
        points[BODY], scores[BODY] = self.body.points[BODY_POINTS], confidence[BODY_POINTS]
        shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
        points[NECK], scores[NECK] = self.body.points[shoulders].mean(axis=0), confidence[shoulders].min()

        feet = FEET.start + _FEET_FOUND
        points[feet], scores[feet] = self.body.points[FOOT_POINTS], confidence[FOOT_POINTS]
        for part, hand in zip(HANDS, self.hands, strict=True):
            if hand is not None:
                points[part], scores[part] = hand.points, hand.score
        if self.face is not None:
            points[FACE], scores[FACE] = self.face.points[FACE_POINTS], self.face.score
        elif faces_away(self.body):
            # The body network is sure of a nose and eyes even on the back of a head.
            scores[[NOSE, RIGHT_EYE, LEFT_EYE]] = 0.0
        return points / (width, height), np.clip(scores, 0.0, 1.0)


def faces_away(body: Body) -> bool:
    """Whether the body shows its back: seen from there the left shoulder is on the left."""
    across = body.points[LEFT_SHOULDER] - body.points[RIGHT_SHOULDER]
    up = body.points[[LEFT_SHOULDER, RIGHT_SHOULDER]].mean(axis=0) - body.points[[LEFT_HIP, RIGHT_HIP]].mean(
        axis=0
    )
    return bool(across[0] * up[1] - across[1] * up[0] > 0)
