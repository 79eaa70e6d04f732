"""Kinematics: from joint angles and foot positions to joint positions and coordinate frames, batched in time.

Body axes: X to the person's left, Y up, Z forward; the camera looks along -Z, so a person at yaw 0 faces it,
and the person's left is on the right of the picture. Lengths are in body heights; side 0 is the person's
left, 1 the right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.character import Body

Array = NDArray[np.float64]

# Hand keypoints in hand lengths: (towards the thumb, along the fingers, out of the palm).
_ROOTS = np.array(
    [[0.20, 0.18, 0.06], [0.20, 0.52, 0.0], [0.065, 0.545, 0.0], [-0.07, 0.52, 0.0], [-0.19, 0.47, 0.0]]
)
_SEGMENTS = np.array(
    [
        [0.215, 0.18, 0.15],
        [0.22, 0.135, 0.115],
        [0.245, 0.15, 0.12],
        [0.225, 0.14, 0.12],
        [0.175, 0.11, 0.105],
    ]
)
_SPREAD_RAD = np.radians([0.0, 10.0, 0.0, -9.0, -20.0])
_CURL_RAD = np.radians([[22.0, 62.0, 120.0], [78.0, 175.0, 230.0], [80.0, 180.0, 238.0], [80.0, 180.0, 238.0],
                        [80.0, 176.0, 232.0]])  # fmt: skip
_THUMB_BASE = np.array([0.66, 0.74, 0.14]) / np.linalg.norm([0.66, 0.74, 0.14])
_THUMB_CURL = np.array([-0.62, 0.42, 0.66]) - _THUMB_BASE * (_THUMB_BASE @ [-0.62, 0.42, 0.66])
_THUMB_CURL /= np.linalg.norm(_THUMB_CURL)

ARM_ANGLES = ("azimuth", "abduction", "twist", "elbow", "pronation", "wrist")
# Degrees. Azimuth rotates the raised arm from sideways (0) to the front (90); abduction raises it; twist
# rotates
# the bent forearm from forward to outward and up; pronation 90 turns the palm of a hanging hand backwards.
ARM_LIMITS_DEG = np.array([[-35, 115], [6, 170], [-70, 100], [2, 145], [-80, 85], [-55, 60]], float)
SPINE_LIMITS_DEG = np.array(
    [[-20, 35], [-22, 22], [-28, 28]], float
)  # pitch, side, twist; lumbar and chest each
HEAD_LIMITS_DEG = np.array([[-60, 60], [-28, 30], [-25, 25]], float)  # yaw, pitch, roll


@dataclass(frozen=True)
class BodyState:
    """Angles (radians) and positions (body heights) at ``F`` times.

    Args:
        root: ``F x 3``, sideways position, position towards the camera, yaw of the pelvis.
        dip: ``F``, distance by which the pelvis is lowered.
        spine: ``F x 6``, pitch, side, twist of the lumbar spine and of the chest.
        head: ``F x 3``, yaw, pitch, roll relative to the chest.
        arms: ``F x 2 x 6``, see ARM_ANGLES.
        fingers: ``F x 2 x 6``, curl of the five fingers from thumb to little finger (0 to 1), and spread.
        feet: ``F x 2 x 4``, sideways position, position towards the camera, yaw, height above the ground.
        mouth: ``F``, 0 closed, 1 open.
    """

    root: Array
    dip: Array
    spine: Array
    head: Array
    arms: Array
    fingers: Array
    feet: Array
    mouth: Array


@dataclass(frozen=True)
class Figure:
    """Joint positions ``F x 3`` and coordinate frames ``F x 3 x 3`` (columns are axes) of one person; paired
    ones have a leading dimension for the side."""

    pelvis: Array
    pelvis_frame: Array
    waist: Array
    chest: Array
    chest_frame: Array
    neck: Array
    head: Array
    head_frame: Array
    shoulders: Array
    elbows: Array
    wrists: Array
    hands: Array
    """Hand keypoints in OpenPose order, ``2 x F x 21 x 3``."""
    hand_frames: Array
    """Coordinate frames of the hands; columns: towards the thumb, along the fingers, out of the palm."""
    hips: Array
    knees: Array
    ankles: Array
    foot_frames: Array
    mouth: Array


def rotation_x(angle: Array) -> Array:
    return _rotation(angle, 1, 2)


def rotation_y(angle: Array) -> Array:
    return _rotation(angle, 2, 0)


def rotation_z(angle: Array) -> Array:
    return _rotation(angle, 0, 1)


def _rotation(angle: Array, first: int, second: int) -> Array:
    """Return the rotation of axis `first` towards axis `second`, ``... x 3 x 3``."""
    matrix = np.zeros((*np.shape(angle), 3, 3))
    cosine, sine = np.cos(angle), np.sin(angle)
    matrix[..., first, first] = matrix[..., second, second] = cosine
    matrix[..., second, first] = sine
    matrix[..., first, second] = -sine
    matrix[..., 3 - first - second, 3 - first - second] = 1
    return matrix


def _turn(frame: Array, vector: Array | tuple[float, float, float]) -> Array:
    return (frame @ np.asarray(vector, float)[..., None])[..., 0]


def _unit(vector: Array) -> Array:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)


def arm_directions(angles: Array, side: int) -> tuple[Array, Array, Array]:
    """Compute directions in the chest's frame from arm angles ``... x 6`` in radians.

    Returns:
        upper arm ``... x 3``, forearm ``... x 3``, and the hand's coordinate frame ``... x 3 x 3`` with the
        columns towards the thumb, along the fingers, out of the palm.
    """
    sine, cosine = np.sin(angles), np.cos(angles)
    azimuth, abduction, twist, elbow, pronation, wrist = range(6)
    sin_a, cos_a, sin_b, cos_b = (v[..., i] for i in (azimuth, abduction) for v in (sine, cosine))

    def mix(angle: int, first: Array, second: Array) -> Array:
        return cosine[..., angle, None] * first + sine[..., angle, None] * second

    upper = np.stack([sin_b * cos_a, -cos_b, sin_b * sin_a], axis=-1)
    forward = np.stack([-sin_a, np.zeros_like(sin_a), cos_a], axis=-1)
    outward = np.stack([cos_b * cos_a, sin_b, cos_b * sin_a], axis=-1)
    bend = mix(twist, forward, outward)
    palm = -mix(twist, outward, -forward)
    forearm = mix(elbow, upper, bend)
    thumb = mix(elbow, bend, -upper)
    thumb, palm = mix(pronation, thumb, palm), mix(pronation, palm, -thumb)
    fingers, palm = mix(wrist, forearm, palm), mix(wrist, palm, -forearm)
    if side == 1:
        mirror = np.array([-1.0, 1.0, 1.0])
        upper, forearm, thumb, fingers, palm = (v * mirror for v in (upper, forearm, thumb, fingers, palm))
    return upper, forearm, np.stack([thumb, fingers, palm], axis=-1)


def hand_points(wrist: Array, frame: Array, fingers: Array, length: float) -> Array:
    """Compute the 21 keypoints of a hand in OpenPose order, ``... x 21 x 3``."""
    points = np.empty((*wrist.shape[:-1], 21, 3))
    points[..., 0, :] = 0
    curl, spread = fingers[..., :5], 0.35 + fingers[..., 5:6]
    sideways = spread * _SPREAD_RAD  # ... x 5
    base = np.stack([np.sin(sideways), np.cos(sideways), np.zeros_like(sideways)], axis=-1)
    base[..., 0, :] = _THUMB_BASE
    across = np.zeros_like(base)
    across[..., 2] = 1
    across[..., 0, :] = _THUMB_CURL
    angle = curl[..., None] * _CURL_RAD  # ... x 5 x 3 segments
    steps = np.cos(angle)[..., None] * base[..., None, :] + np.sin(angle)[..., None] * across[..., None, :]
    joints = np.cumsum(steps * _SEGMENTS[:, :, None], axis=-2) + _ROOTS[:, None, :]
    points[..., 1:, :].reshape(*wrist.shape[:-1], 5, 4, 3)[..., 1:, :] = joints
    points[..., 1:, :].reshape(*wrist.shape[:-1], 5, 4, 3)[..., 0, :] = _ROOTS
    return wrist[..., None, :] + length * (points @ np.swapaxes(frame, -1, -2))


def pose_body(body: Body, state: BodyState) -> Figure:
    """Pose a body: forward kinematics of trunk, head and arms, two-bone inverse kinematics of the legs."""
    scale = body.height
    yaw = state.root[:, 2]
    sway = rotation_z(0.35 * state.spine[:, 1]) @ rotation_x(0.25 * state.spine[:, 0])
    pelvis_frame = rotation_y(yaw) @ sway
    feet = state.feet * np.array([scale, scale, 1.0, scale])
    pelvis = _pelvis(body, state, feet, pelvis_frame)
    lumbar = pelvis_frame @ _spine_rotation(state.spine[:, :3])
    chest_frame = lumbar @ _spine_rotation(state.spine[:, 3:])
    waist = pelvis + scale * _turn(pelvis_frame, (0, body.pelvis_to_waist, 0))
    chest = waist + scale * _turn(lumbar, (0, body.waist_to_chest, 0))
    neck = chest + scale * _turn(chest_frame, (0, body.chest_to_neck, -0.004))
    head_frame = (
        chest_frame
        @ rotation_y(state.head[:, 0])
        @ rotation_x(state.head[:, 1])
        @ rotation_z(state.head[:, 2])
    )
    neck_frame = chest_frame @ rotation_x(0.5 * state.head[:, 1])
    head = neck + scale * (
        _turn(neck_frame, (0, body.neck, 0.006)) + _turn(head_frame, (0, body.head, 0.008))
    )
    arms = [_arm(body, state, side, neck, chest_frame) for side in (0, 1)]
    legs = [_leg(body, feet[:, side], side, pelvis, pelvis_frame) for side in (0, 1)]
    shoulders, elbows, wrists, hands, hand_frames = (np.stack(parts) for parts in zip(*arms))
    hips, knees, ankles, foot_frames = (np.stack(parts) for parts in zip(*legs))
    return Figure(
        pelvis, pelvis_frame, waist, chest, chest_frame, neck, head, head_frame,
        shoulders, elbows, wrists, hands, hand_frames, hips, knees, ankles, foot_frames, state.mouth,
    )  # fmt: skip


def _spine_rotation(angles: Array) -> Array:
    return rotation_y(angles[:, 2]) @ rotation_z(angles[:, 1]) @ rotation_x(angles[:, 0])


def _arm(body: Body, state: BodyState, side: int, neck: Array, chest_frame: Array) -> tuple[Array, ...]:
    scale = body.height
    sign = 1.0 if side == 0 else -1.0
    angles = state.arms[:, side]
    # The shoulder blade moves the joint up as the arm is raised, and forward as the arm reaches forward.
    rise = np.clip((angles[:, 1] - np.radians(50)) / np.radians(110), 0, 1)
    reach = np.clip(np.sin(angles[:, 0]) * np.sin(angles[:, 1]), -0.4, 1)
    offset = np.stack(
        [sign * (body.shoulder_width - 0.014 * rise), -0.016 + 0.034 * rise, 0.016 * reach - 0.004], axis=-1
    )
    shoulder = neck + scale * _turn(chest_frame, offset)
    upper, forearm, hand = arm_directions(angles, side)
    elbow = shoulder + scale * body.upper_arm * _turn(chest_frame, upper)
    wrist = elbow + scale * body.forearm * _turn(chest_frame, forearm)
    frame = chest_frame @ hand
    points = hand_points(wrist, frame, state.fingers[:, side], scale * body.hand)
    return shoulder, elbow, wrist, points, frame


def _pelvis(body: Body, state: BodyState, feet: Array, pelvis_frame: Array) -> Array:
    """Compute the position of the pelvis, lowered if a foot would otherwise not reach the ground."""
    scale = body.height
    pelvis = np.stack([scale * state.root[:, 0], np.zeros(len(feet)), scale * state.root[:, 1]], axis=-1)
    height = scale * (body.ankle_height + 0.993 * body.leg - state.dip)
    for side, sign in ((0, 1.0), (1, -1.0)):
        hip = pelvis + scale * _turn(pelvis_frame, (sign * body.hip_width, 0, 0))
        far = (hip[:, 0] - feet[:, side, 0]) ** 2 + (hip[:, 2] - feet[:, side, 1]) ** 2
        leg = 0.996 * scale * body.leg
        limit = (
            feet[:, side, 3] + scale * body.ankle_height + np.sqrt(np.maximum(leg**2 - far, 0.04)) - hip[:, 1]
        )
        height = 0.5 * (height + limit - np.sqrt((height - limit) ** 2 + 1e-5))  # smooth minimum
    pelvis[:, 1] = height
    return pelvis


def _leg(body: Body, foot: Array, side: int, pelvis: Array, pelvis_frame: Array) -> tuple[Array, ...]:
    scale = body.height
    sign = 1.0 if side == 0 else -1.0
    thigh, shin = scale * body.thigh, scale * body.shin
    hip = pelvis + scale * _turn(pelvis_frame, (sign * body.hip_width, 0, 0))
    ankle = np.stack([foot[:, 0], scale * body.ankle_height + foot[:, 3], foot[:, 1]], axis=-1)
    foot_yaw = rotation_y(foot[:, 2])
    reach = ankle - hip
    length = np.linalg.norm(reach, axis=-1, keepdims=True)
    along = reach / np.maximum(length, 1e-9)
    length = np.clip(length, abs(thigh - shin) + 1e-3, thigh + shin - 1e-6)
    ahead = _unit(foot_yaw[:, :, 2] + pelvis_frame[:, :, 2]) + 0.2 * sign * pelvis_frame[:, :, 0]
    ahead = _unit(ahead - (ahead * along).sum(-1, keepdims=True) * along)
    cosine = np.clip((thigh**2 + length**2 - shin**2) / (2 * thigh * length), -1, 1)
    knee = hip + thigh * (cosine * along + np.sqrt(1 - cosine**2) * ahead)
    ankle = hip + length * along
    droop = np.clip(foot[:, 3] / (0.2 * scale), 0, 1) * np.radians(38)
    return hip, knee, ankle, foot_yaw @ rotation_x(droop)
