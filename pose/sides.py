"""Left and right through a turn: where an estimator exchanged them, and the repair.

Legend: F frames, P people, K = 134 points, J paired joints of the body.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.presence import stretches
from pose.skeletons import (
    BODY,
    FACE,
    LEFT_ANKLE,
    LEFT_ELBOW,
    LEFT_EYE,
    LEFT_HIP,
    LEFT_KNEE,
    LEFT_SHOULDER,
    LEFT_WRIST,
    MIRROR,
    NOSE,
    RIGHT_EYE,
    RIGHT_HIP,
    RIGHT_SHOULDER,
    VISIBLE_ABOVE,
)
from pose.types import NUM_POINTS, PoseSequence

Array = NDArray[np.float64]

_LEFT = np.array([LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST, LEFT_HIP, LEFT_KNEE, LEFT_ANKLE])
_PAIRED = np.concatenate([_LEFT, MIRROR[_LEFT]])
_JAW_START, _JAW_END, _NOSE_TIP = 0, 16, 30  # of the face's 68 points
# The face keeps its points: where they lie follows from the picture, not from the sides of the body.
_EXCHANGED = np.where(
    np.isin(np.arange(NUM_POINTS), np.arange(NUM_POINTS)[FACE]), np.arange(NUM_POINTS), MIRROR
)

MIN_GAIN = 0.05  # body sizes by which the exchanged sides have to fit better
MAX_SHARE = 0.6  # of the distance that is left when the sides are exchanged
LONGEST_FLIP = 0.5  # seconds: what lasts longer is left as the estimator has it
_USUAL_GAIN = 0.2  # body sizes that the joints of a body seen from the front move when sides are exchanged
_WRONG_FACE = 0.2  # cost of a frame that shows a face from the front on a body that looks away
_NO_FACE = 0.06  # cost of a frame that shows no face on a body that looks at the camera
_USUAL_FACES = 0.25  # share of a stretch's frames with a face for one that is missing to tell anything
_FRONTAL = (0.3, 0.7)  # where the tip of the nose lies between the ends of the jaw
_CLEARLY = 0.25  # breadth of the shoulders in lengths of the trunk: neither a profile nor nearly one
_FAR = 0.3  # body sizes: distances beyond say no more


def repair_sides(sequence: PoseSequence) -> PoseSequence:
    """Give every joint the side that it has in the frames around it.

    In each unbroken stretch of a person the cheapest assignment of sides is chosen: movement from frame to
    frame costs its distance, an exchanged frame costs a little, and so does a body that looks away though its
    face is seen from the front, or that looks at the camera without a face. An exchange that lasts for at
    most about half a second is so undone; a person who really turns passes through the profile, where both
    assignments fit.

    Returns:
        The sequence, its own arrays where nothing was exchanged. Nose and eyes of a body that now looks away
        and shows no face have scores of 0.
    """
    straight, crossed = side_distances(sequence)
    is_here = sequence.is_seen
    is_exchanged = np.zeros(is_here.shape, np.bool_)
    for person in range(sequence.num_people):
        for start, stop in stretches(is_here[:, person]):
            if stop - start < 2:
                continue
            run = slice(start, stop)
            steps = slice(start, stop - 1)
            costs = _frame_costs(sequence[run], person)
            is_exchanged[run, person] = _cheapest(straight[steps, person], crossed[steps, person], costs)
    if not is_exchanged.any():
        return sequence
    points, scores = sequence.points.copy(), sequence.scores.copy()
    points[is_exchanged] = points[is_exchanged][:, _EXCHANGED]
    scores[is_exchanged] = scores[is_exchanged][:, _EXCHANGED]
    repaired = replace(sequence, points=points, scores=scores)
    is_back = is_exchanged & (_facing(repaired) < -_CLEARLY) & ~_has_face(repaired)
    for joint in (NOSE, RIGHT_EYE, LEFT_EYE):
        scores[is_back, joint] = 0.0
    return replace(sequence, points=points, scores=scores)


def is_flip(sequence: PoseSequence) -> NDArray[np.bool_]:
    """``F - 1 x P``: whether the sides of a person are exchanged from one frame to the next."""
    straight, crossed = side_distances(sequence)
    return (straight - crossed > MIN_GAIN) & (crossed < MAX_SHARE * straight)


def side_distances(sequence: PoseSequence) -> tuple[Array, Array]:
    """How far the paired joints move from each frame to the next, in sizes of the body.

    Returns:
        two arrays ``F - 1 x P``: with the sides as they are, and with those of the later frame exchanged. 0
        where fewer than two pairs of joints are seen in both frames.
    """
    pixels = sequence.points[:, :, _PAIRED] * [sequence.width, sequence.height]  # F x P x J x 2
    is_seen = sequence.scores[:, :, _PAIRED] > VISIBLE_ABOVE
    is_seen &= np.roll(is_seen, len(_LEFT), axis=-1) & sequence.is_seen[..., None]  # both of a pair
    is_common = is_seen[1:] & is_seen[:-1]
    enough = is_common.sum(axis=-1) >= 4
    size = np.maximum(_sizes(sequence)[1:], _sizes(sequence)[:-1])

    def distance(later: Array) -> Array:
        moved = np.minimum(np.linalg.norm(later - pixels[:-1], axis=-1) / size[..., None], _FAR)
        mean = np.where(is_common, moved, 0.0).sum(axis=-1) / np.maximum(is_common.sum(axis=-1), 1)
        return np.where(enough, mean, 0.0)

    return distance(pixels[1:]), distance(np.roll(pixels, len(_LEFT), axis=2)[1:])


def _sizes(sequence: PoseSequence) -> Array:
    """F x P: the longer side of the box around the seen joints, pixels; at least 1."""
    body = sequence.points[:, :, BODY] * [sequence.width, sequence.height]
    is_seen = (sequence.scores[:, :, BODY] > VISIBLE_ABOVE)[..., None]
    extent = np.where(is_seen, body, -np.inf).max(axis=2) - np.where(is_seen, body, np.inf).min(axis=2)
    return np.maximum(extent.max(axis=-1), 1.0)


def _frame_costs(run: PoseSequence, person: int) -> Array:
    """``F x 2``: what the sides of each frame cost as they are, and exchanged."""
    costs = np.zeros((len(run), 2))
    costs[:, 1] = 2 * _USUAL_GAIN / max(LONGEST_FLIP * run.fps, 1.0)
    has_face, is_frontal = _has_face(run)[:, person], _is_frontal(run)[:, person]
    facing = _facing(run)[:, person]
    costs[is_frontal & (facing < -_CLEARLY), 0] += _WRONG_FACE
    costs[is_frontal & (facing > _CLEARLY), 1] += _WRONG_FACE
    if has_face.mean() >= _USUAL_FACES:
        costs[~has_face & (facing > _CLEARLY), 0] += _NO_FACE
        costs[~has_face & (facing < -_CLEARLY), 1] += _NO_FACE
    return costs


def _cheapest(straight: Array, crossed: Array, costs: Array) -> NDArray[np.bool_]:
    """Whether each of F frames is exchanged in the cheapest assignment (Viterbi); ``F - 1``, ``F x 2``."""
    total = costs[0].copy()
    came_from = np.zeros((len(costs), 2), np.int64)
    for i in range(1, len(costs)):
        stays, changes = total + straight[i - 1], total[::-1] + crossed[i - 1]
        came_from[i] = np.where(changes < stays, [1, 0], [0, 1])
        total = np.minimum(stays, changes) + costs[i]
    states = np.zeros(len(costs), np.int64)
    states[-1] = int(np.argmin(total))
    for i in range(len(costs) - 1, 0, -1):
        states[i - 1] = came_from[i, states[i]]
    return states.astype(np.bool_)


def _has_face(sequence: PoseSequence) -> NDArray[np.bool_]:
    return np.asarray((sequence.scores[:, :, FACE] > 0.5).any(axis=-1))


def _is_frontal(sequence: PoseSequence) -> NDArray[np.bool_]:
    """F x P: a face is seen, and from the front: the tip of the nose is between the ends of the jaw."""
    across = sequence.points[:, :, FACE, 0]
    first, last, tip = (across[..., i] for i in (_JAW_START, _JAW_END, _NOSE_TIP))
    width = np.where(np.abs(last - first) > 0, last - first, np.inf)
    place = (tip - first) / width
    return _has_face(sequence) & (place > _FRONTAL[0]) & (place < _FRONTAL[1])


def _facing(sequence: PoseSequence) -> Array:
    """F x P: breadth of the shoulders in lengths of the trunk, negative for a body seen from behind.

    0 where the shoulders are not seen. From behind the left shoulder is on the left of the upright body.
    """
    pixels = sequence.points * [sequence.width, sequence.height]
    shoulders = pixels[:, :, [LEFT_SHOULDER, RIGHT_SHOULDER]]
    across = shoulders[:, :, 0] - shoulders[:, :, 1]
    up = shoulders.mean(axis=2) - pixels[:, :, [LEFT_HIP, RIGHT_HIP]].mean(axis=2)
    area = across[..., 1] * up[..., 0] - across[..., 0] * up[..., 1]
    length = np.maximum(np.linalg.norm(up, axis=-1), 1.0)
    is_seen = (sequence.scores[:, :, [LEFT_SHOULDER, RIGHT_SHOULDER]] > VISIBLE_ABOVE).all(axis=-1)
    return np.where(is_seen, area / length**2, 0.0)
