"""The 134 keypoints of a rendered figure, with the scores that an estimator could reach.

Keypoints are projections of the joints from which the solids are built. Scores are high for visible points,
medium for points hidden by another part of the body, close to 0 for a face that looks away, and 0 outside the
frame. As with real estimators, all points of a hand share one score, and all points of the face another.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from mimic.dancers import face
from mimic.dancers.character import Body
from mimic.dancers.skeleton import Figure
from mimic.dancers.solids import (
    HAIR,
    HEAD,
    LEFT_FOREARM,
    LEFT_HAND,
    LEFT_THIGH,
    LEFT_UPPER_ARM,
    PART_NAMES,
    RIGHT_FOREARM,
    RIGHT_HAND,
    RIGHT_THIGH,
    RIGHT_UPPER_ARM,
)
from pose import skeletons as layout
from pose.types import NUM_POINTS

Array = NDArray[np.float64]

SEEN, HIDDEN, AWAY = 0.96, 0.4, 0.04
"""Scores of a visible joint, of one hidden by another part, and of a face that looks away."""

# Depth of each joint below the surface in body heights; surfaces closer than this do not hide it.
_DEPTH_BODY = np.array(
    [0.03, 0.06, 0.045, 0.032, 0.025, 0.045, 0.032, 0.025, 0.075, 0.045, 0.035, 0.075, 0.045, 0.035,
     0.02, 0.02, 0.03, 0.03]
)  # fmt: skip


def stage_points(body: Body, figure: Figure) -> Array:
    """Compute the 134 keypoints on the stage, ``F x 134 x 3``."""
    points = np.empty((len(figure.pelvis), NUM_POINTS, 3))
    unit = body.head * body.height

    def on_head(offsets: Array) -> Array:
        return figure.head[:, None] + unit * (offsets @ np.swapaxes(figure.head_frame, -1, -2))

    shape = face.face_points()
    dropped = np.zeros((len(points), 68, 3))
    dropped[:, :, 1] = -figure.mouth[:, None] * face.mouth_opening()
    points[:, layout.FACE] = on_head(shape + dropped)
    # Joints are where estimators detect them: ankles and knees slightly above the hinge, ears at the edge of
    # the cheek, eyes and nose somewhat high (measured with the bundled estimator on these figures).
    points[:, layout.NOSE] = points[:, layout.FACE.start + 29]
    eyes = np.array([[-face.EYE_X, face.EYE_Y + 0.09, 0.0], [face.EYE_X, face.EYE_Y + 0.09, 0.0]])
    eyes[:, 2] = face.front(eyes[:, 0], eyes[:, 1])
    points[:, [layout.RIGHT_EYE, layout.LEFT_EYE]] = on_head(eyes)
    ears = np.array([[-0.6, -0.05, 0.08], [0.6, -0.05, 0.08]])
    points[:, [layout.RIGHT_EAR, layout.LEFT_EAR]] = on_head(ears)
    joints = ((layout.LEFT_SHOULDER, layout.LEFT_HIP), (layout.RIGHT_SHOULDER, layout.RIGHT_HIP))
    for side, (shoulder, hip) in enumerate(joints):
        hinge = figure.shoulders[side]
        points[:, shoulder] = hinge + 0.05 * (figure.neck - hinge) + 0.004 * figure.chest_frame[:, :, 1]
        points[:, shoulder + 1] = figure.elbows[side] + 0.03 * (hinge - figure.elbows[side])
        points[:, shoulder + 2] = figure.wrists[side]
        points[:, hip] = figure.hips[side]
        points[:, hip + 1] = figure.knees[side] + 0.05 * (figure.hips[side] - figure.knees[side])
        points[:, hip + 2] = figure.ankles[side] + 0.075 * (figure.knees[side] - figure.ankles[side])
        foot = layout.FEET.start + 3 * side
        points[:, foot : foot + 3] = _foot_points(body, figure, side)
    points[:, layout.NECK] = 0.5 * (points[:, layout.LEFT_SHOULDER] + points[:, layout.RIGHT_SHOULDER])
    points[:, layout.LEFT_HAND] = figure.hands[0]
    points[:, layout.RIGHT_HAND] = figure.hands[1]
    return points


def _foot_points(body: Body, figure: Figure, side: int) -> Array:
    """Compute big toe, small toe and heel, ``F x 3 x 3``."""
    outward = 1.0 if side == 0 else -1.0
    length, low = body.foot, -body.ankle_height + 0.018
    big, small, heel = (
        (0.003, low, 0.7 * length),
        (outward * 0.022, low, 0.6 * length),
        (0.0, low, -0.32 * length),
    )
    offsets = np.array([big, small, heel])
    return figure.ankles[side][:, None] + body.height * (
        offsets @ np.swapaxes(figure.foot_frames[side], -1, -2)
    )


@cache
def _own_parts() -> NDArray[np.bool_]:
    """Return whether each part belongs to the limb of each joint of body and feet, ``24 x parts``."""
    own = np.zeros((layout.FEET.stop, len(PART_NAMES)), bool)
    for first, part in ((layout.LEFT_SHOULDER, LEFT_UPPER_ARM), (layout.RIGHT_SHOULDER, RIGHT_UPPER_ARM)):
        own[first : first + 3, part : part + 3] = True
    for first, part in ((layout.LEFT_HIP, LEFT_THIGH), (layout.RIGHT_HIP, RIGHT_THIGH)):
        own[first : first + 3, part : part + 3] = True
    own[layout.FEET.start : layout.FEET.start + 3, LEFT_THIGH : LEFT_THIGH + 3] = True
    own[layout.FEET.start + 3 : layout.FEET.stop, RIGHT_THIGH : RIGHT_THIGH + 3] = True
    return own


def _rise(value: Array, low: float, high: float) -> Array:
    u = np.clip((value - low) / (high - low), 0, 1)
    return u * u * (3 - 2 * u)


def visibility(
    pixels: Array,
    depths: Array,
    unit: float,
    to_camera: Array,
    figure: Figure,
    seen_depth: NDArray[np.float32],
    seen_part: NDArray[np.uint8],
) -> Array:
    """Compute the scores of the keypoints.

    Args:
        pixels, depths: keypoints on the screen, ``F x 134 x 2`` in samples and ``F x 134``.
        unit: samples per body height.
        to_camera: direction from the stage to the camera, ``3``.
        figure: the posed figure.
        seen_depth, seen_part: depth and part at every sample, ``F x H x W``.

    Returns:
        scores in [0, 1], ``F x 134``.
    """
    num_frames, height, width = seen_depth.shape
    column, row = np.floor(pixels[..., 0]).astype(int), np.floor(pixels[..., 1]).astype(int)
    is_inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    at = (np.arange(num_frames)[:, None], np.clip(row, 0, height - 1), np.clip(column, 0, width - 1))
    with np.errstate(invalid="ignore"):
        cover = (
            np.maximum(depths - seen_depth[at], 0) / unit
        )  # distance from the visible surface to the point, in body heights
    part = seen_part[at]
    scores = np.empty((num_frames, NUM_POINTS))
    limbs = slice(layout.BODY.start, layout.FEET.stop)
    depth_below = np.concatenate([_DEPTH_BODY, np.full(6, 0.06)])
    hidden = _rise(cover[:, limbs] / depth_below, 1.3, 2.4)
    # A limb that points at the camera covers its own joints; estimators still find them.
    is_own = _own_parts()[np.arange(limbs.stop), part[:, limbs]]
    scores[:, limbs] = SEEN + (HIDDEN - SEEN) * np.where(is_own, 0.2 * hidden, hidden)
    scores[:, layout.FEET] -= 0.06
    ahead = figure.head_frame[:, :, 2] @ to_camera
    aside = figure.head_frame[:, :, 0] @ to_camera
    is_head = (part == HEAD) | (part == HAIR)
    free = 1 - _rise(cover[:, layout.FACE] / 0.03, 1.0, 2.0) * ~is_head[:, layout.FACE]
    in_view = free.mean(axis=1) * _rise(ahead, -0.05, 0.45)
    scores[:, layout.FACE] = (AWAY + (SEEN - AWAY) * _rise(in_view, 0.2, 0.9))[:, None]
    for joint, sign in ((layout.NOSE, 0.0), (layout.RIGHT_EYE, -1.0), (layout.LEFT_EYE, 1.0)):
        turned = _rise(ahead + 0.45 * sign * aside, -0.2, 0.25)
        scores[:, joint] = AWAY + (scores[:, joint] - AWAY) * turned
    for joint, sign in ((layout.RIGHT_EAR, -1.0), (layout.LEFT_EAR, 1.0)):
        scores[:, joint] *= 0.4 + 0.6 * _rise(sign * aside, -0.55, 0.1)
    for points, own in (
        (layout.LEFT_HAND, (LEFT_HAND, LEFT_FOREARM)),
        (layout.RIGHT_HAND, (RIGHT_HAND, RIGHT_FOREARM)),
    ):
        is_own = (part[:, points] == own[0]) | (part[:, points] == own[1])
        free = np.where(is_own, 1.0, 1 - _rise(cover[:, points] / 0.012, 1.0, 2.5))
        share = free.mean(axis=1)
        scores[:, points] = (0.08 + (SEEN - 0.02 - 0.08) * _rise(share, 0.25, 0.8))[:, None]
    scores[:, layout.NECK] = np.minimum(scores[:, layout.LEFT_SHOULDER], scores[:, layout.RIGHT_SHOULDER])
    return np.where(is_inside, scores, 0.0)
