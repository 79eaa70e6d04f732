"""How long the bones of two bodies are, one seen in a clip and one in a picture, both foreshortened.

A bone that points towards the camera looks short, so a length in a picture is a lower bound. Known beforehand
are which bones are often foreshortened (thighs of a seated person, shoulders of a turned one, hardly ever the
trunk) and how bodies differ: in size, and in head, legs, arms and breadth, each as a whole. Estimated are the
most likely lengths under both, the minimum of a convex function.

Legend: F frames, B bones, K = 134 points. Lengths are logarithms where a name says `log_`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import FACE, LEFT_HAND, RIGHT_HAND, VISIBLE_ABOVE

Array = NDArray[np.float64]
Ends = tuple[tuple[int, ...], tuple[int, ...]]
"""The points whose means are the two ends of a bone."""


@dataclass(frozen=True)
class Bone:
    """A bone of both sides of the body, and what is known of it before anything is seen."""

    ends: tuple[Ends, ...]
    """One pair of ends, or one for each side."""
    usual: float
    """Usual length in heights of a body (Drillis and Contini's segments, between estimators' joints)."""
    hiding: float
    """Usual shortening in one picture, as a difference of logarithms."""
    noise: float
    """Deviation of the logarithm of a measured length."""
    head: float = 0.0
    legs: float = 0.0
    arms: float = 0.0
    breadth: float = 0.0
    youth: float = 0.0


def _pair(first: int, second: int) -> Ends:
    return (first,), (second,)


BONES: dict[str, Bone] = {
    "trunk": Bone((((1,), (8, 11)),), 0.29, 0.08, 0.05),
    "shoulders": Bone((_pair(2, 5),), 0.21, 0.3, 0.06, breadth=1),
    "hips": Bone((_pair(8, 11),), 0.11, 0.3, 0.12, breadth=1),
    "neck": Bone((_pair(1, 0),), 0.12, 0.2, 0.08, head=0.5, youth=0.3),
    "ears": Bone((_pair(16, 17),), 0.09, 0.4, 0.12, head=1, youth=1),
    "eyes": Bone((_pair(14, 15),), 0.045, 0.3, 0.15, head=1, youth=1),
    "face": Bone((_pair(FACE.start + 27, FACE.start + 8),), 0.065, 0.15, 0.08, head=1, youth=1),
    "upper_arm": Bone((_pair(2, 3), _pair(5, 6)), 0.165, 0.4, 0.08, arms=1, youth=-0.4),
    "forearm": Bone((_pair(3, 4), _pair(6, 7)), 0.145, 0.4, 0.08, arms=1, youth=-0.4),
    "hand": Bone(
        (_pair(RIGHT_HAND.start, RIGHT_HAND.start + 9), _pair(LEFT_HAND.start, LEFT_HAND.start + 9)),
        0.055, 0.5, 0.15, arms=0.5, youth=-0.2,
    ),
    "thigh": Bone((_pair(8, 9), _pair(11, 12)), 0.24, 0.4, 0.06, legs=1, youth=-0.5),
    "shin": Bone((_pair(9, 10), _pair(12, 13)), 0.235, 0.3, 0.06, legs=1, youth=-0.5),
}  # fmt: skip
NAMES = tuple(BONES)

_SPREAD = {"head": 0.2, "legs": 0.15, "arms": 0.12, "breadth": 0.12, "youth": 0.3}
"""Deviation of each way in which bodies differ, in logarithms of lengths."""
_OWN_SPREAD = 0.05  # of a single bone
_HIDDEN_IN_CLIP = 0.2  # foreshortening of the longest look in a clip, as a share of that in one picture
_LONGEST = 0.75  # quantile over the frames that counts as the longest look
_UPRIGHT = 0.3  # of the usual foreshortening is left for a straight leg of usual proportions
_STRAIGHT = np.cos(np.radians(15.0))
_USUAL_PROPORTION = 0.25  # difference of logarithms of thigh and shin
_SHORTEST = 1e-4  # frame heights; points in one place have no direction
_NUM_STEPS = 60


@dataclass(frozen=True)
class Lengths:
    """Lengths of two bodies' bones in frame heights, by name."""

    driving: dict[str, float]
    reference: dict[str, float]
    num_common: int
    """Bones that both sides show."""

    @property
    def ratios(self) -> dict[str, float]:
        return {name: self.reference[name] / self.driving[name] for name in self.driving}


def estimate_lengths(
    driving: Array, driving_scores: Array, reference: Array, reference_scores: Array
) -> Lengths | None:
    """Estimate the bones of a clip's body and a picture's.

    Args:
        driving, driving_scores: points in frame heights ``F x K x 2`` and scores ``F x K``.
        reference, reference_scores: the same of one picture, ``K x 2`` and ``K``.

    Returns:
        the lengths; None where one side shows no bone.
    """
    looks = [
        *_looks(driving, driving_scores, share_hidden=_HIDDEN_IN_CLIP),
        *_looks(reference[None], reference_scores[None], share_hidden=1.0, is_reference=True),
    ]
    seen = [{look.bone for look in looks if look.is_reference == which} for which in (False, True)]
    if not all(seen):
        return None
    log_driving, log_reference = _most_likely(looks)
    return Lengths(
        dict(zip(NAMES, np.exp(log_driving).tolist())),
        dict(zip(NAMES, np.exp(log_reference).tolist())),
        len(seen[0] & seen[1]),
    )


@dataclass(frozen=True)
class _Look:
    """The length that one side of a bone shows."""

    bone: int
    log_length: float
    weight: float
    hiding: float
    noise: float
    is_reference: bool


def _looks(points: Array, scores: Array, *, share_hidden: float, is_reference: bool = False) -> list[_Look]:
    weights = np.where(scores > VISIBLE_ABOVE, np.clip(scores, 0.0, 1.0), 0.0)
    share_of_legs = share_hidden * (_UPRIGHT if is_reference and _stands(points[0], weights[0]) else 1.0)
    looks = []
    for number, bone in enumerate(BONES.values()):
        for first, second in bone.ends:
            surety = weights[:, list(first)].min(axis=1) * weights[:, list(second)].min(axis=1)
            vectors = points[:, list(first)].mean(axis=1) - points[:, list(second)].mean(axis=1)
            length = _quantile(np.linalg.norm(vectors, axis=-1), surety, _LONGEST)
            if length > _SHORTEST:
                looks.append(
                    _Look(
                        number,
                        float(np.log(length)),
                        float(surety.max() / len(bone.ends)),
                        bone.hiding * (share_of_legs if bone.legs else share_hidden),
                        bone.noise,
                        is_reference,
                    )
                )
    return looks


def _stands(points: Array, weights: Array) -> bool:
    """Whether both legs are straight and in proportion, so that they are hardly foreshortened."""
    for hip, knee, ankle in ((8, 9, 10), (11, 12, 13)):
        if not weights[[hip, knee, ankle]].all():
            return False
        thigh, shin = points[knee] - points[hip], points[ankle] - points[knee]
        lengths = np.linalg.norm(thigh), np.linalg.norm(shin)
        if min(lengths) < _SHORTEST or thigh @ shin < _STRAIGHT * lengths[0] * lengths[1]:
            return False
        usual = BONES["thigh"].usual / BONES["shin"].usual
        if abs(np.log(lengths[0] / lengths[1] / usual)) > _USUAL_PROPORTION:
            return False
    return True


def _quantile(values: Array, weights: Array, share: float) -> float:
    if not weights.any():
        return 0.0
    order = np.argsort(values)
    total = weights[order].cumsum()
    return float(values[order][(total >= share * total[-1]).argmax()])


def _most_likely(looks: list[_Look]) -> tuple[Array, Array]:
    """Logarithms of the lengths of both bodies, by iteratively reweighted least squares.

    Unknown are, for the driving body against the usual one and for the reference against the driving one, the
    size, the ways of `_SPREAD`, and each bone's own deviation.
    """
    num_bones = len(BONES)
    ways = np.array([[getattr(bone, way) for way in _SPREAD] for bone in BONES.values()])
    one_body = np.concatenate([np.ones((num_bones, 1)), ways, np.eye(num_bones)], axis=1)  # B x unknowns
    usual = np.log([bone.usual for bone in BONES.values()])
    spreads = np.array([1e3, *_SPREAD.values(), *[_OWN_SPREAD] * num_bones])
    prior = np.diag(np.tile(spreads, 2) ** -2.0)
    rows = np.stack(
        [np.concatenate([one_body[look.bone], one_body[look.bone] * look.is_reference]) for look in looks]
    )
    targets = np.array([look.log_length - usual[look.bone] for look in looks])
    weight, hiding, noise = (
        np.array([getattr(look, name) for look in looks]) for name in ("weight", "hiding", "noise")
    )
    unknown = np.zeros(rows.shape[1])
    reach = noise**2 / hiding  # longer than it looks by more than this: it is foreshortened
    strength = weight / noise**2
    for _ in range(_NUM_STEPS):
        weighted = rows * strength[:, None]
        before, unknown = unknown, np.linalg.solve(prior + rows.T @ weighted, weighted.T @ targets)
        beyond = rows @ unknown - targets
        strength = weight / noise**2 * np.minimum(1.0, reach / np.maximum(beyond, reach))
        if np.abs(unknown - before).max() < 1e-7:
            break
    first, second = unknown[: one_body.shape[1]], unknown[one_body.shape[1] :]
    log_driving = usual + one_body @ first
    return log_driving, log_driving + one_body @ second
