"""Views that are difficult for pose estimators: portraits, half bodies, sitting, turning, crossing dancers.

Each function changes the camera of a character or tracks of a motion; random choices use the given generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.character import Body, Character
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import Motion, Steps, Track
from pose.types import PoseSequence

SHOULDERS, CHEST, HIPS = 0.71, 0.62, 0.45
"""Lower edges of a picture in body heights, for `framed`."""

HIDDEN_SCORE = 0.1
"""Maximum score of a point that another person hides."""

_TOP = (1.04, 1.14)  # upper edge of a framed picture, body heights


def framed(character: Character, rng: np.random.Generator, lower: float) -> Character:
    """Move the camera so that a square picture shows the body from `lower` to slightly above the head.

    Args:
        character: the character whose camera is moved.
        rng: source of randomness.
        lower: lower edge of the picture in body heights: `SHOULDERS` and `CHEST` give portraits and busts,
            `HIPS` half bodies.
    """
    height = character.body.height
    bottom = lower * height * float(rng.uniform(0.98, 1.02))
    top = height * float(rng.uniform(*_TOP))
    camera = replace(
        character.camera,
        zoom=1.15 / (top - bottom),
        look_at=(float(rng.uniform(-0.1, 0.1)) * (top - bottom), (top + bottom) / 2),
        distance=float(rng.uniform(3.0, 8.0)),
    )
    return replace(character, camera=camera)


def seated(motion: Motion, body: Body, rng: np.random.Generator) -> Motion:
    """Make a motion seated: the pelvis is on a seat or almost on the ground, the feet rest in front of it.

    Returns:
        a motion with unchanged movements of arms, head and trunk.
    """
    seat = float(rng.uniform(0.1, 0.95)) * body.shin  # height of the hips above the ankles
    leg = float(rng.uniform(0.72, 0.9)) * body.leg  # from hip to ankle
    ahead = float(np.sqrt(max(leg**2 - seat**2, 0.01)))
    yaw = float(rng.uniform(-0.7, 0.7))
    feet = []
    for sign in (1.0, -1.0):
        out = float(rng.uniform(0.05, 0.13))
        place = [
            sign * out * np.cos(yaw) + ahead * np.sin(yaw),
            -sign * out * np.sin(yaw) + ahead * np.cos(yaw),
            yaw + sign * 0.2,
        ]
        feet.append(_rest(place))
    return replace(
        motion,
        root=_still([0.0, 0.0, yaw]),
        dip=_still([0.993 * body.leg - seat]),
        bounce=replace(motion.bounce, amplitude=np.zeros_like(motion.bounce.amplitude)),
        feet=(feet[0], feet[1]),
    )


def turning(motion: Motion, *, turns_per_second: float, start_rad: float = 0.0) -> Motion:
    """Make a motion turn on the spot at a constant rate; the feet turn with the body, the head faces
    forward."""
    times = np.arange(0.0, motion.duration_s + 0.05, 0.05)
    yaw = start_rad + 2 * np.pi * turns_per_second * times
    nowhere = np.zeros_like(yaw)
    feet = []
    for sign in (1.0, -1.0):
        out = sign * 0.08
        place = np.stack([out * np.cos(yaw), -out * np.sin(yaw), yaw + sign * 0.2], axis=1)
        feet.append(Steps(Track(times, place), times[:1], np.ones(1), np.zeros(1)))
    return replace(
        motion,
        root=Track(times, np.stack([nowhere, nowhere, yaw], axis=1)),
        head=replace(motion.head, values=motion.head.values * [0.2, 1.0, 1.0]),
        feet=(feet[0], feet[1]),
    )


def crossing(
    behind: RenderedClip, front: RenderedClip, background: NDArray[np.uint8], *, margin: float = 0.2
) -> RenderedClip:
    """Combine two dancers who swap positions: one moves from left to right, the other, in front, to the left.

    Args:
        behind, front: clips of one person each, of equal length and size ``H x W``, not wider than the
            background.
        background: uint8 ``H x wide x 3``.
        margin: initial distance of each clip's centre from the edge, as a fraction of the background's width.

    Returns:
        a clip with P = 2, first the person who starts on the left. Points hidden by the other person have a
        score of at most 0.1.
    """
    num_frames, _, width = behind.frames.shape[:3]
    wide = background.shape[1]
    way = np.linspace(margin, 1 - margin, num_frames) * wide - width / 2
    return together([(behind, way), (front, way[::-1])], background)


def together(
    people: Sequence[tuple[RenderedClip, NDArray[np.float64]]], background: NDArray[np.uint8]
) -> RenderedClip:
    """Combine several dancers in one clip.

    Args:
        people: clips of one person each, of equal length and size ``H x W``, from back to front; and for each
            the left edge of its pictures in every frame, in pixels of the background, ``F``.
        background: uint8 ``H x wide x 3``.

    Returns:
        a clip with P people in the given order. Points hidden by people in front have a score of at most 0.1.
    """
    first = people[0][0]
    num_frames, height, width = first.frames.shape[:3]
    wide = background.shape[1]
    frames = np.broadcast_to(background, (num_frames, *background.shape)).copy()
    part_ids, densepose_ids = (np.zeros((num_frames, height, wide), np.uint8) for _ in range(2))
    points, scores = np.zeros((num_frames, len(people), 134, 2)), np.zeros((num_frames, len(people), 134))
    for person, (clip, way) in enumerate(people):
        for i, left in enumerate(np.rint(way).astype(int)):
            columns = np.arange(max(0, left), min(wide, left + width))
            mask = clip.figure_mask[i][:, columns - left]
            for canvas, picture in (
                (frames, clip.frames),
                (part_ids, clip.part_ids),
                (densepose_ids, clip.densepose_ids),
            ):
                part = canvas[i][:, columns]
                part[mask] = picture[i][:, columns - left][mask]
                canvas[i][:, columns] = part
            points[i, person] = (clip.poses.points[i, 0] * [width, 1] + [left, 0]) / [wide, 1]
            scores[i, person] = np.where(_is_inside(points[i, person]), clip.poses.scores[i, 0], 0.0)
            covered = np.zeros((height, wide), np.bool_)
            covered[:, columns] = mask
            for other in range(person):
                _hide(points[i, other], scores[i, other], covered)
    poses = PoseSequence(points, scores, height, wide, fps=first.poses.fps)
    return RenderedClip(frames, poses, part_ids > 0, part_ids, densepose_ids)


def _hide(points: NDArray[np.float64], scores: NDArray[np.float64], covered: NDArray[np.bool_]) -> None:
    """Lower the scores of points ``K x 2`` (fractions of the frame) that are inside a mask."""
    height, width = covered.shape
    column = np.clip((points[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip((points[:, 1] * height).astype(int), 0, height - 1)
    is_hidden = covered[row, column] & _is_inside(points)
    scores[is_hidden] = np.minimum(scores[is_hidden], HIDDEN_SCORE)


def _is_inside(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points < 1)).all(axis=-1))


def _still(values: list[float]) -> Track:
    return Track(np.array([0.0, 1.0]), np.array([values, values], dtype=np.float64))


def _rest(place: list[float]) -> Steps:
    return Steps(_still(place), np.zeros(1), np.ones(1), np.zeros(1))
