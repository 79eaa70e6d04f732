"""Detector noise: give exact poses the errors of an estimator, with scores that reflect them.

Well-detected points have small errors: a constant bias, a slow drift and an independent error in every frame.
Occasionally, for several frames, both hands or two limbs are swapped, a hand is detected where there is none,
or hands, the face and joints are missed. Points with larger errors have scores of at most `WRONG_AT_MOST`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose import skeletons as layout
from pose.types import NUM_POINTS, PoseSequence

Array = NDArray[np.float64]

WRONG_AT_MOST = 0.5
"""Maximum score of a point that is clearly wrong."""

# Small errors in body heights (bias, drift, independent), of single points and of whole hands or faces.
_BODY_TREMBLE = (0.0028, 0.002, 0.002)
_HAND_TREMBLE = (0.0015, 0.0015, 0.0015)
_HAND_SHIFT = (0.002, 0.0025, 0.0025)
_FACE_TREMBLE = (0.0008, 0.0004, 0.0003)
_FACE_SHIFT = (0.0013, 0.0008, 0.0006)

# Fraction of frames with each failure at strength 1, and its mean duration in frames.
_SPELLS = {
    "hands_swapped": (0.02, 3),
    "arms_swapped": (0.012, 2),
    "legs_swapped": (0.01, 2),
    "false_hand": (0.03, 3),
    "missing_hand": (0.05, 4),
    "missing_face": (0.015, 4),
    "missing_joints": (0.03, 3),
    "blurred": (0.03, 2),
}
_HIDDEN_HAND_LOST = 0.6  # fraction of the frames with a hidden hand in which the hand is missed

_ARMS = ([layout.LEFT_ELBOW, layout.LEFT_WRIST], [layout.RIGHT_ELBOW, layout.RIGHT_WRIST])
_LEGS = (
    [layout.LEFT_KNEE, layout.LEFT_ANKLE, 18, 19, 20],
    [layout.RIGHT_KNEE, layout.RIGHT_ANKLE, 21, 22, 23],
)
_LOSABLE = (
    [layout.LEFT_WRIST], [layout.RIGHT_WRIST], *_ARMS,
    [layout.LEFT_ANKLE, 18, 19, 20], [layout.RIGHT_ANKLE, 21, 22, 23], *_LEGS,
)  # fmt: skip


def add_detector_noise(seq: PoseSequence, rng: np.random.Generator, *, strength: float = 1.0) -> PoseSequence:
    """Add the errors of a detector to exact poses.

    Args:
        seq: exact poses of consecutive frames.
        rng: source of randomness.
        strength: 0 changes nothing, 1 is a typical detector, 2 doubles small errors and failures.

    Returns:
        poses of the same shape.

    Raises:
        ValueError: the strength is negative.
    """
    if not strength >= 0:
        raise ValueError(f"noise strength {strength} is negative; use 0 (none) to about 2")
    points, scores = seq.points.copy(), seq.scores.copy()
    frame = np.array([seq.width, seq.height], float)
    for person in range(seq.num_people):
        unit = _body_height(points[:, person] * frame)
        noisy, sure = _noisy(points[:, person] * frame / unit, scores[:, person], rng, strength)
        points[:, person], scores[:, person] = noisy * unit / frame, sure
    return replace(seq, points=points, scores=scores)


def _body_height(pixels: Array) -> float:
    """Estimate the height of the person in pixels from trunk and shoulders, also if the legs are not
    visible."""
    trunk = np.linalg.norm(
        pixels[:, layout.NECK] - 0.5 * (pixels[:, layout.LEFT_HIP] + pixels[:, layout.RIGHT_HIP]), axis=-1
    )
    shoulders = np.linalg.norm(pixels[:, layout.LEFT_SHOULDER] - pixels[:, layout.RIGHT_SHOULDER], axis=-1)
    return float(max(np.median(np.maximum(3.5 * trunk, 4.4 * shoulders)), 1.0))


def _noisy(points: Array, scores: Array, rng: np.random.Generator, strength: float) -> tuple[Array, Array]:
    """Add errors to one person: points ``F x 134 x 2`` in body heights, scores ``F x 134``."""
    num_frames = len(points)
    exact = points
    points = points + strength * _tremble(rng, scores)
    spread = strength * np.where(scores > 0.7, 0.03, 0.08)
    scores = np.clip(scores * (1 - np.abs(spread * _drift(rng, num_frames, NUM_POINTS))), 0, 1)
    scores = _one_score_a_part(scores)
    under_way = {
        name: _spell(rng, num_frames, strength * share, length) for name, (share, length) in _SPELLS.items()
    }
    unsure = rng.uniform(0.08, WRONG_AT_MOST, (num_frames, 4))

    for name, (left, right) in (("arms_swapped", _ARMS), ("legs_swapped", _LEGS)):
        _swap(points, scores, np.flatnonzero(under_way[name]), left, right, unsure[:, 0])
    left_hand, right_hand = (list(range(134)[hand]) for hand in (layout.LEFT_HAND, layout.RIGHT_HAND))
    _swap(points, scores, np.flatnonzero(under_way["hands_swapped"]), left_hand, right_hand, unsure[:, 1])
    _place_false_hands(points, scores, np.flatnonzero(under_way["false_hand"]), unsure[:, 2], rng)
    _blur(points, scores, np.flatnonzero(under_way["blurred"]), rng)
    _lose(points, scores, under_way, strength, rng)

    # Finally, limit the scores of all points with large errors.
    error = np.linalg.norm(points - exact, axis=-1)
    scores = np.where(error > 0.03, np.minimum(scores, WRONG_AT_MOST), scores)
    return points, scores


def _tremble(rng: np.random.Generator, scores: Array) -> Array:
    """Draw small errors, ``F x 134 x 2``, which are larger for low scores."""
    num_frames = len(scores)

    def noise(size: tuple[float, float, float], count: int) -> Array:
        lasting, drifting, fresh = size
        return (
            lasting * rng.normal(size=(1, count, 2))
            + drifting * _drift(rng, num_frames, count * 2).reshape(num_frames, count, 2)
            + fresh * rng.normal(size=(num_frames, count, 2))
        )

    error = noise(_BODY_TREMBLE, NUM_POINTS)
    error[:, layout.FACE] = noise(_FACE_TREMBLE, 68) + noise(_FACE_SHIFT, 1)
    for hand in layout.HANDS:
        error[:, hand] = noise(_HAND_TREMBLE, 21) + noise(_HAND_SHIFT, 1)
    error[:, layout.NECK] = 0.5 * (error[:, layout.LEFT_SHOULDER] + error[:, layout.RIGHT_SHOULDER])
    error[:, [layout.NOSE, 14, 15, 16, 17]] *= 0.6
    return error * (1 + 2.5 * np.clip(0.85 - scores, 0, 1))[..., None]


def _drift(rng: np.random.Generator, num_frames: int, count: int) -> Array:
    """Draw slow noise of about unit variance, ``F x count``: new values every four frames, interpolated."""
    knots = rng.normal(size=(num_frames // 4 + 3, count))
    place = (np.arange(num_frames) + rng.uniform(0, 4)) / 4
    index = place.astype(int)
    u = (place - index)[:, None]
    return knots[index] + (knots[index + 1] - knots[index]) * u * u * (3 - 2 * u)


def _one_score_a_part(scores: Array) -> Array:
    """Give all points of a hand the hand's best score, and those of the face the face's; 0 stays 0."""
    scores = scores.copy()
    for part in (layout.FACE, *layout.HANDS):
        best = scores[:, part].max(axis=1, keepdims=True)
        scores[:, part] = np.where(scores[:, part] > 0, best, 0)
    return scores


def _spell(rng: np.random.Generator, num_frames: int, share: float, length: float) -> NDArray[np.bool_]:
    """Draw the frames of a failure from a Markov chain with a given share of frames and mean duration."""
    share = min(share, 0.8)
    draws = rng.uniform(size=num_frames)
    start = share / (length * (1 - share))
    under_way = np.zeros(num_frames, bool)
    state = bool(draws[0] < share) if num_frames else False
    for i in range(num_frames):
        if i > 0:
            state = bool(draws[i] > 1 / length) if state else bool(draws[i] < start)
        under_way[i] = state
    return under_way


def _swap(
    points: Array, scores: Array, frames: NDArray[np.int64], left: list[int], right: list[int], unsure: Array
) -> None:
    if not len(frames):
        return
    rows = frames[:, None]
    points[rows, left], points[rows, right] = points[rows, right], points[rows, left]
    both = left + right
    scores[rows, both] = np.minimum(
        np.where(scores[rows, both] > 0, unsure[frames][:, None], 0), WRONG_AT_MOST
    )


def _place_false_hands(
    points: Array, scores: Array, frames: NDArray[np.int64], unsure: Array, rng: np.random.Generator
) -> None:
    """Place a rotated and resized hand at an elbow, the other hand, a knee, the face or near the body."""
    kind, side = 0, 0
    turn, size, offset = 0.0, 1.0, np.zeros(2)
    for i, frame in enumerate(frames):
        if i == 0 or frames[i - 1] != frame - 1:  # a new failure begins
            kind, side = int(rng.integers(5)), int(rng.integers(2))
            turn, size = rng.uniform(-np.pi, np.pi), rng.uniform(0.5, 1.3)
            offset = rng.normal(0, 0.05, 2) if kind < 4 else rng.normal(0, 0.25, 2)
        hand = layout.HANDS[side]
        anchor = (
            [layout.LEFT_ELBOW, layout.RIGHT_ELBOW],
            [layout.RIGHT_WRIST, layout.LEFT_WRIST],
            [layout.LEFT_KNEE, layout.RIGHT_KNEE],
            [layout.NOSE, layout.NOSE],
            [layout.NECK, layout.NECK],
        )
        place = points[frame, anchor[kind][side]] + offset
        shape = points[frame, hand] - points[frame, hand].mean(axis=0)
        cosine, sine = np.cos(turn), np.sin(turn)
        points[frame, hand] = place + size * shape @ np.array([[cosine, sine], [-sine, cosine]])
        scores[frame, hand] = unsure[frame] * 0.9


def _blur(points: Array, scores: Array, frames: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Displace the end of a fast arm or leg by some hundredths of a body height, and lower its score."""
    for frame in frames:
        joints = _LOSABLE[int(rng.integers(len(_LOSABLE)))]
        points[frame, joints] += rng.normal(0, 0.02, (len(joints), 2))
        scores[frame, joints] = np.minimum(scores[frame, joints], rng.uniform(0.25, 0.5))


def _lose(
    points: Array,
    scores: Array,
    under_way: dict[str, NDArray[np.bool_]],
    strength: float,
    rng: np.random.Generator,
) -> None:
    """Give missed parts a score of 0 or close to it; their points stay approximately in place."""
    scores[under_way["missing_face"], layout.FACE] = 0
    side = int(rng.integers(2))
    previous = -2
    for frame in np.flatnonzero(under_way["missing_hand"]).tolist():
        side = int(rng.integers(2)) if frame != previous + 1 else side
        scores[frame, layout.HANDS[side]] = 0
        previous = frame
    for hand in layout.HANDS:
        is_hidden = (scores[:, hand].max(axis=1) < 0.35) & (scores[:, hand].max(axis=1) > 0)
        is_lost = _spell(rng, len(scores), min(strength, 1.0) * _HIDDEN_HAND_LOST, 4)
        scores[is_hidden & is_lost, hand] = 0
    for frame in np.flatnonzero(under_way["missing_joints"]).tolist():
        joints = _LOSABLE[int(rng.integers(len(_LOSABLE)))]
        points[frame, joints] += rng.normal(0, 0.05, (len(joints), 2))
        scores[frame, joints] = rng.uniform(0, 0.12)
    outside = scores[:, layout.BODY].max(axis=1) <= 0
    scores[outside, layout.FEET] = 0
