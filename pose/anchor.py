"""Where a resized body is put in the reference picture.

Legend: F frames, 18 body joints. Positions are in frame heights.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pose.means import huber_mean
from pose.skeletons import ALIGNED_JOINTS, LEFT_ANKLE, NOSE, RIGHT_ANKLE

Array = NDArray[np.float64]
Anchor = Literal["first", "mean", "ground"]

_ANKLES = [RIGHT_ANKLE, LEFT_ANKLE]
# How well each joint tells the place of its body: the trunk best, then the feet; the arms not at all.
_STEADINESS = np.array([0.1, 1, 1, 0, 0, 1, 0, 0, 1, 0.1, 0.5, 1, 0.1, 0.5, 0.1, 0.1, 0.1, 0.1])
_TYPICAL = 0.5  # share of the usual weight of a frame's joints that the clip's first body must have
_NUM_FIRST = 5  # frames that tell where the first one is: it may be wrong itself
_MAX_HEADLESS = 0.1  # share of the frames in which the head may be above the picture
_GROUND = 0.5  # quantile over the frames of the lower ankle


def find_offset(
    target: Array, target_weights: Array, bodies: Array, weights: Array, anchor: Anchor
) -> tuple[Array, str] | None:
    """Find the shift that brings bodies to where the reference stands.

    Args:
        target, target_weights: joints of the reference ``18 x 2`` and their weights, 0 for what is not seen.
        bodies, weights: joints of the clip ``F x 18 x 2``, of the reference's size, and their weights.
        anchor:
            "first": the first frame's body stands where the reference does.
            "mean": the clip's mean position is where the reference stands.
            "ground": the ground under the clip's feet is that under the reference's; sideways as "first".
                "first" where one side shows no ankle, and where the ground would put the head above the
                picture, such as a standing dancer's on the seat of somebody who is shown seated.

    Returns:
        the shift, and what it rests on; None where nothing is common to both.
    """
    common = weights * target_weights  # F x 18
    steady = np.isin(np.arange(18), ALIGNED_JOINTS)
    if common[:, steady].any():
        common = common * _STEADINESS
    if not common.any():
        return None
    if anchor == "mean":
        return _mean_difference(target, bodies, common), "mean"
    surety = common.sum(axis=1)
    begin = int((surety >= _TYPICAL * np.median(surety[surety > 0])).argmax())
    offset = _first_offset(target, bodies[begin:], common[begin:])
    if anchor == "first":
        return offset, "first"
    ground = _ground(target[None], target_weights[None]), _ground(bodies, weights)
    if ground[0] is None or ground[1] is None:
        return offset, "first (no feet are seen)"
    down = ground[0] - ground[1]
    heads = (bodies[:, NOSE, 1] + down)[weights[:, NOSE] > 0]
    if len(heads) and (heads < 0).mean() > _MAX_HEADLESS:
        return offset, "first (the head would be cut off)"
    offset[1] = down
    return offset, "ground"


def _ground(bodies: Array, weights: Array) -> float | None:
    """Usual height of the lower ankle."""
    is_seen = weights[:, _ANKLES] > 0
    if not is_seen.any():
        return None
    lower = np.where(is_seen, bodies[:, _ANKLES, 1], -np.inf).max(axis=1)
    return float(np.quantile(lower[is_seen.any(axis=1)], _GROUND))


def _first_offset(target: Array, bodies: Array, weights: Array) -> Array:
    """Shift of the first frame: the median of its own and of two extrapolations from the next frames."""
    frames = np.flatnonzero(weights.any(axis=1))[:_NUM_FIRST]
    offsets = np.stack([_mean_difference(target, bodies[[i]], weights[[i]]) for i in frames])
    if len(frames) < 4:
        return np.asarray(offsets[0])
    from_two = offsets[1] - (offsets[2] - offsets[1]) * frames[1] / (frames[2] - frames[1])
    _, from_all = np.polyfit(frames[1:], offsets[1:], 1)
    return np.asarray(np.median([offsets[0], from_two, from_all], axis=0))


def _mean_difference(target: Array, bodies: Array, weights: Array) -> Array:
    """Robust mean of target 18 x 2 minus bodies F x 18 x 2, over joints, then over frames."""
    is_used = weights.any(axis=1)
    weights = weights[is_used]
    differences = np.moveaxis(target - bodies[is_used], -1, 0)  # 2 x F x 18
    of_frames = huber_mean(differences, np.broadcast_to(weights, differences.shape))  # 2 x F
    return huber_mean(of_frames, np.broadcast_to(weights.sum(axis=1), of_frames.shape))
