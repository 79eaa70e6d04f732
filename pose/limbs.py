"""Give a clip's body the limbs of another: bone by bone from the pelvis, with directions and shortening kept.

Legend: F frames, K = 134 points. Positions are in frame heights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pose.lengths import Lengths
from pose.skeletons import (
    FACE,
    LEFT_ANKLE,
    LEFT_HAND,
    LEFT_HIP,
    LEFT_WRIST,
    NECK,
    NOSE,
    RIGHT_ANKLE,
    RIGHT_HAND,
    RIGHT_HIP,
    RIGHT_WRIST,
    VISIBLE_ABOVE,
)

Array = NDArray[np.float64]

_PELVIS = -1
# Joint, the joint that it hangs on, and the bone between; a joint comes after the one that it hangs on.
_TREE: tuple[tuple[int, int, str], ...] = (
    (NECK, _PELVIS, "trunk"),
    (2, NECK, "shoulders"), (3, 2, "upper_arm"), (4, 3, "forearm"),
    (5, NECK, "shoulders"), (6, 5, "upper_arm"), (7, 6, "forearm"),
    (8, _PELVIS, "hips"), (9, 8, "thigh"), (10, 9, "shin"),
    (11, _PELVIS, "hips"), (12, 11, "thigh"), (13, 12, "shin"),
    (NOSE, NECK, "neck"), (14, NOSE, "head"), (15, NOSE, "head"), (16, NOSE, "head"), (17, NOSE, "head"),
)  # fmt: skip
# Points that move with a joint: which, the joint, and the size that they take.
_CARRIED = (
    (slice(18, 21), LEFT_ANKLE, "foot"),
    (slice(21, 24), RIGHT_ANKLE, "foot"),
    (FACE, NOSE, "head"),
    (LEFT_HAND, LEFT_WRIST, "hand"),
    (RIGHT_HAND, RIGHT_WRIST, "hand"),
)
_SHARE_ON_FEET = 0.5  # of the frames must show both ankles for the body to stand on them
_SOFTNESS = 0.02  # body heights between the feet at which the lower one bears most of the weight


def factors_of(lengths: Lengths) -> dict[str, float]:
    """Factors of all bones and parts, and of the way that the body travels."""
    ratios = lengths.ratios
    head = float(np.exp(np.mean(np.log([ratios["ears"], ratios["eyes"], ratios["face"]]))))
    legs = [(sum(body[name] for name in ("thigh", "shin"))) for body in (lengths.reference, lengths.driving)]
    way = legs[0] / legs[1]
    return {**ratios, "head": head, "foot": way, "way": way}


def with_limbs(points: Array, scores: Array, factors: dict[str, float]) -> Array:
    """Resize every bone of a clip's body by a factor.

    The pelvis travels by the factor "way". Where the clip shows the feet, the body then stands on them: what
    bears the weight is moved by that factor, too, so that resized legs neither slide nor sink.

    Args:
        points, scores: ``F x K x 2`` and ``F x K`` of one person.
        factors: as `factors_of` returns them.

    Returns:
        points ``F x K x 2``, not yet at the reference's place.
    """
    is_seen = scores > VISIBLE_ABOVE
    pelvis = _filled(
        0.5 * (points[:, RIGHT_HIP] + points[:, LEFT_HIP]) - points[:, NECK],
        is_seen[:, RIGHT_HIP] & is_seen[:, LEFT_HIP] & is_seen[:, NECK],
    ) + _steady(points[:, NECK], is_seen[:, NECK])
    known, resized = {_PELVIS: pelvis}, {_PELVIS: factors["way"] * pelvis}
    moved = np.empty_like(points)
    for joint, parent, bone in _TREE:
        bone_vector = _filled(points[:, joint] - known[parent], is_seen[:, joint])
        known[joint] = known[parent] + bone_vector
        resized[joint] = resized[parent] + factors[bone] * bone_vector
        # A joint that was never seen stays where its picture is: nothing is drawn there.
        moved[:, joint] = resized[joint]
    for which, joint, size in _CARRIED:
        carried = points[:, which] - known[joint][:, None]  # then in place: of a long clip it is large
        carried *= factors[size]
        carried += resized[joint][:, None]
        moved[:, which] = carried
    ankles = [RIGHT_ANKLE, LEFT_ANKLE]
    if is_seen[:, ankles].all(axis=1).mean() >= _SHARE_ON_FEET:
        before = np.stack([known[joint] for joint in ankles], axis=1)  # F x 2 x 2
        height = np.median(np.abs(before[..., 1].max(axis=1) - known[NOSE][:, 1]))
        low = before[..., 1] / max(_SOFTNESS * height, 1e-9)
        bears = np.exp(low - low.max(axis=1, keepdims=True))
        bears /= bears.sum(axis=1, keepdims=True)
        shift = (bears[..., None] * (factors["way"] * before - moved[:, ankles])).sum(axis=1)
        moved += shift[:, None]
    return moved


def _filled(vectors: Array, is_seen: NDArray[np.bool_]) -> Array:
    """Vectors ``F x 2`` with those of unseen frames interpolated along time; 0 where no frame is seen."""
    if not is_seen.any():
        return np.zeros_like(vectors)
    if is_seen.all():
        return vectors
    frames = np.arange(len(vectors))
    return np.stack([np.interp(frames, frames[is_seen], vectors[is_seen, axis]) for axis in range(2)], axis=1)


def _steady(places: Array, is_seen: NDArray[np.bool_]) -> Array:
    return places if not is_seen.any() else _filled(places, is_seen)
