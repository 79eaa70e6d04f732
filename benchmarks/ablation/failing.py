"""How are poses made that fail as a detector's do: thrown limbs, exchanged sides, hands where none is?

`mimic.dancers.noise` has these failures now and then, as a usual detector. Here a chosen share of the
frames fails, so that a small training meets enough of them and a small evaluation measures nothing else. Each
wrong point has an honest score: drawn from `SCORES`, and never above what the point had.

Legend: F frames.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.noise import WRONG_AT_MOST
from pose import skeletons as layout
from pose.types import PoseSequence

SCORES = (0.08, WRONG_AT_MOST)
"""Of wrong points. The released drawing shows a body joint above 0.3, a binary map a hand above 0.3."""
FAILURES = ("jitter", "swap", "false hand")

_ARMS = (
    (layout.LEFT_ELBOW, layout.LEFT_WRIST, layout.LEFT_HAND),
    (layout.RIGHT_ELBOW, layout.RIGHT_WRIST, layout.RIGHT_HAND),
)
# In lengths of the trunk, neck to hips, which is about 0.29 body heights.
_THROW = 0.2
_TREMBLE = 0.03
_BESIDE = 0.2
_FAR = 0.8

Array = NDArray[np.float64]


def fail(
    poses: PoseSequence, rng: np.random.Generator, *, share: float, spell: int = 1
) -> tuple[PoseSequence, NDArray[np.int64], Array]:
    """One failure in a share of the frames.

    Args:
        poses: poses of one person, exact or trembling.
        rng: decides everything.
        share: of the spells in which something fails, 0 to 1.
        spell: frames that a failure lasts; neighbours in a spell fail alike, with fresh tremble.

    Returns:
        the poses, the number of the failure in `FAILURES` of each frame (-1: none), and the score that its
        wrong points have at most; ``F`` each.

    Raises:
        ValueError: several people, or a share or spell out of range.
    """
    if poses.num_people != 1 or not 0 <= share <= 1 or spell < 1:
        raise ValueError(
            f"{poses.num_people} people, a share of {share} and spells of {spell} frames; "
            "use poses of one person, a share of 0 to 1 and spells of at least 1 frame"
        )
    frame = np.array([poses.width, poses.height], float)
    points, scores = poses.points[:, 0] * frame, poses.scores[:, 0].copy()
    hips = 0.5 * (points[:, layout.LEFT_HIP] + points[:, layout.RIGHT_HIP])
    trunk = float(np.median(np.linalg.norm(points[:, layout.NECK] - hips, axis=-1)))
    kinds = np.full(len(points), -1)
    limits = np.ones(len(points))
    for start in range(0, len(points), spell):
        fails, kind = rng.uniform() < share, int(rng.integers(len(FAILURES)))
        limit, seed = rng.uniform(*SCORES), int(rng.integers(2**31))
        if not fails:
            continue
        for i in range(start, min(start + spell, len(points))):
            # The same draws in all frames of a spell: the failure stays where it is on the body.
            wrong = _FAILED[kind](points[i], np.random.default_rng(seed), trunk)
            points[i, wrong] += rng.normal(0, _TREMBLE * trunk, (int(wrong.sum()), 2))
            scores[i, wrong] = np.minimum(scores[i, wrong], limit)
            kinds[i], limits[i] = kind, limit
    return replace(poses, points=(points / frame)[:, None], scores=scores[:, None]), kinds, limits


def _mask(*parts: int | slice) -> NDArray[np.bool_]:
    mask = np.zeros(134, bool)
    for part in parts:
        mask[part] = True
    return mask


def _jitter(points: Array, rng: np.random.Generator, trunk: float) -> NDArray[np.bool_]:
    """One arm's elbow and wrist are thrown, the hand with the wrist."""
    elbow, wrist, hand = _ARMS[int(rng.integers(2))]
    points[elbow] += rng.normal(0, _THROW * trunk, 2)
    moved = rng.normal(0, _THROW * trunk, 2)
    points[wrist] += moved
    points[hand] += moved
    return _mask(elbow, wrist, hand)


def _swap(points: Array, rng: np.random.Generator, trunk: float) -> NDArray[np.bool_]:
    """Both hands change sides; half of the time the forearms do, too."""
    parts = _ARMS if rng.uniform() < 0.5 else tuple(arm[2:] for arm in _ARMS)
    for left, right in zip(*parts):
        points[left], points[right] = points[right].copy(), points[left].copy()
    return _mask(*parts[0], *parts[1])


def _false_hand(points: Array, rng: np.random.Generator, trunk: float) -> NDArray[np.bool_]:
    """A hand, turned and resized, at the other hand, an elbow, the face or near the trunk."""
    side = int(rng.integers(2))
    hand, others_wrist = _ARMS[side][2], _ARMS[1 - side][1]
    anchors = (
        (others_wrist, _BESIDE),
        (_ARMS[side][0], _BESIDE),
        (layout.NOSE, _BESIDE),
        (layout.NECK, _FAR),
    )
    anchor, spread = anchors[int(rng.integers(len(anchors)))]
    turn, size = rng.uniform(-np.pi, np.pi), rng.uniform(0.7, 1.3)
    cosine, sine = np.cos(turn), np.sin(turn)
    shape = points[hand] - points[hand].mean(axis=0)
    place = points[anchor] + rng.normal(0, spread * trunk, 2)
    points[hand] = place + size * shape @ np.array([[cosine, sine], [-sine, cosine]])
    return _mask(hand)


_FAILED = (_jitter, _swap, _false_hand)
