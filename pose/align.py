"""Fit the movement of one body to the place and size of another: scale and shift of all points of a clip.

Every mode ends in one affine map of the driving clip's fractional coordinates, `out = in * scale + offset`,
equal for all frames, all people, body, face and hands.

Legend: F frames, P people, J joints, S spans (pairs of joints).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import (
    ALIGNED_JOINTS,
    ALIGNED_SPANS,
    BODY,
    VISIBLE_ABOVE,
)
from pose.tracking import follow_person
from pose.types import PoseError, PoseSequence

AlignMode = Literal["released", "robust", "none"]

_SHORTEST_SPAN = 0.01  # of the frame's height; what is shorter says nothing about size
_SURE_SPANS = 3  # with fewer common spans one bad joint would decide the size
_HUBER = 1.345  # residuals beyond this number of deviations count less, the usual 95 % efficient choice
_NUM_REWEIGHTINGS = 30
_EVERY_PAIR = tuple((a, b) for a in range(18) for b in range(a))


@dataclass(frozen=True)
class Fit:
    """`out = in * scale + offset`, in fractions of the frame; `basis` says what the fit rests on."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    basis: str


def align_pose(
    driving: PoseSequence,
    reference: PoseSequence,
    *,
    mode: AlignMode = "released",
    reference_frame: int = 0,
) -> PoseSequence:
    """Move and scale a driving clip so that its person stands where the reference's stands, as large.

    Args:
        driving: F frames of any number of people; all of them are moved alike.
        reference: the reference picture's poses. The first person that is present is the one to fit.
        mode:
            "released": the least-squares line of the released MimicMotion code, see `fit_released`.
            "robust": sizes of bodies instead of positions of joints, weighted by the scores of both sides;
                always gives an answer, see `fit_robust`.
            "none": nothing moves. Points stay where they are as fractions of the frame, so that where
                the shapes of the two frames differ, bodies are stretched as the frame is.
        reference_frame: which frame of `reference` to take.

    Returns:
        The driving clip with the reference's height and width; scores, frames and fps are its own.
        `metadata["alignment"]` tells mode, scale, offset and what the fit rests on.

    Raises:
        PoseError: there is no such mode, or "released" has nothing to fit.
    """
    if mode not in get_args(AlignMode):
        raise PoseError(f"there is no alignment {mode!r}; use one of {', '.join(get_args(AlignMode))}")
    target = reference[reference_frame]
    if mode == "released":
        fit = fit_released(driving, target)
    elif mode == "robust":
        fit = fit_robust(driving, target)
    else:
        fit = Fit((1.0, 1.0), (0.0, 0.0), "nothing")
    told = {"mode": mode, "scale": list(fit.scale), "offset": list(fit.offset), "basis": fit.basis}
    return replace(
        driving,
        points=driving.points * np.array(fit.scale) + np.array(fit.offset),
        height=reference.height,
        width=reference.width,
        metadata={**driving.metadata, "alignment": told},
    )


def fit_released(driving: PoseSequence, reference: PoseSequence) -> Fit:
    """The fit of the released code: a line from the driving clip's y to the reference's y.

    It runs over the nose, neck, shoulders, hips, legs, eyes and ears that the reference shows, in all
    frames with exactly one person, whatever the scores there. The x scale is the y scale corrected by the
    shapes of the two frames, so that bodies keep their proportions; the x offset is the mean difference.

    Raises:
        PoseError: no frame has exactly one person, or the reference shows none of those joints.
    """
    target, target_scores = _reference_body(reference)
    seen = [joint for joint in ALIGNED_JOINTS if target_scores[joint] > VISIBLE_ABOVE]
    if not seen:
        raise PoseError(
            "the reference picture shows no person whose head, shoulders, hips or legs could be found; "
            "the motion cannot be fitted to it. Use a picture that shows a person, or align: robust."
        )
    is_person = _is_person(driving)
    is_alone = is_person.sum(axis=1) == 1
    if not is_alone.any():
        found = "nobody" if not is_person.any() else "more than one person or nobody"
        raise PoseError(
            f"every frame of the driving clip shows {found}; the released alignment needs frames with "
            "exactly one. Follow one person (person: largest), or use align: robust."
        )
    bodies = driving.points[is_alone, is_person[is_alone].argmax(axis=1)][:, seen]  # frames x J x 2
    targets = np.broadcast_to(target[seen], bodies.shape)
    scale_y, offset_y = np.polyfit(bodies[..., 1].ravel(), targets[..., 1].ravel(), 1)
    scale_x = scale_y * _shape_correction(driving, reference)
    offset_x = np.mean(targets[..., 0] - bodies[..., 0] * scale_x)
    return Fit(
        (float(scale_x), float(scale_y)),
        (float(offset_x), float(offset_y)),
        f"{len(seen)} joints in {len(bodies)} frames",
    )


def fit_robust(driving: PoseSequence, reference: PoseSequence) -> Fit:
    """A fit that rests on what both sides surely show, and always gives an answer.

    The scale compares lengths between joints (neck to hip, shoulder to shoulder, hip to ankle, …): they do
    not change with the place in the frame, nor when the person turns away from the camera, which exchanges
    left and right. It is the line through the origin from driving to reference lengths, weighted by the
    scores of all four joints. A frame that foreshortens a limb has a short length there and so little to
    say; what lies off the line (a swapped or invented joint) is bounded by Huber's weights. Where fewer than
    three such lengths are common to both sides, those between any body joints are taken; where there are
    none, the body keeps its height as a fraction of the frame's.

    The offset brings common joints together: Huber means of their differences, over the joints of a frame,
    then over frames. With a half-body reference head and shoulders decide, and the legs fall out of the frame
    below. Where nothing is common the middle of what is seen goes to the middle of what the reference shows,
    or to the middle of its frame.

    Of several people the largest of the first frame is followed; that one's fit moves everyone.
    """
    # Lengths in frame heights on both axes, so that a body keeps its proportions.
    driving_heights = np.array([driving.width / driving.height, 1.0])
    reference_heights = np.array([reference.width / reference.height, 1.0])
    target, target_scores = _reference_body(reference)
    bodies, scores = _followed_body(driving)
    target, bodies = target * reference_heights, bodies * driving_heights
    target_weights, weights = _weights(target_scores), _weights(scores)
    common = weights * target_weights  # F x 18

    basis = "body lengths"
    scale = _length_ratio(bodies, target, common, ALIGNED_SPANS, fewest=_SURE_SPANS)
    if scale is None:
        basis = "lengths between any joints"
        scale = _length_ratio(bodies, target, common, _EVERY_PAIR, fewest=1)
    if scale is None:
        basis = "position alone"
        scale = 1.0

    steady = np.isin(np.arange(18), ALIGNED_JOINTS)
    if common[:, steady].any():
        common = np.where(steady, common, 0.0)
    if common.any():
        offset = _mean_difference(target, scale * bodies, common)
    else:
        basis = "nothing in common"
        seen = bodies[weights > 0] if weights.any() else 0.5 * driving_heights[None]
        seen_target = target[target_weights > 0] if target_weights.any() else 0.5 * reference_heights[None]
        offset = seen_target.mean(axis=0) - scale * seen.mean(axis=0)

    scale_xy = scale * driving_heights / reference_heights
    offset_xy = offset / reference_heights
    return Fit(
        (float(scale_xy[0]), float(scale_xy[1])),
        (float(offset_xy[0]), float(offset_xy[1])),
        f"{basis}; {common.any(axis=0).sum()} joints in {common.any(axis=1).sum()} frames",
    )


def _length_ratio(
    bodies: NDArray[np.float64],
    target: NDArray[np.float64],
    common: NDArray[np.float64],
    spans: tuple[tuple[int, int], ...],
    *,
    fewest: int,
) -> float | None:
    """Reference lengths over driving lengths, or None where fewer than `fewest` spans are common to both."""
    first, second = np.array(spans).T
    lengths = np.linalg.norm(bodies[:, first] - bodies[:, second], axis=-1)  # F x S
    targets = np.linalg.norm(target[first] - target[second], axis=-1)  # S
    is_measured = (lengths > _SHORTEST_SPAN) & (targets > _SHORTEST_SPAN)
    surety = np.where(is_measured, common[:, first] * common[:, second], 0.0)
    # The mean of the ratios target / length with weights length² is the least-squares slope. A length
    # counts for no more than is usual over the clip, so that one far astray has no leverage.
    usual = _weighted_median(lengths.T, surety.T)
    weights = surety * np.minimum(lengths, usual) ** 2
    if weights.any(axis=0).sum() < fewest:
        return None
    ratios = targets / np.where(is_measured, lengths, 1.0)
    return float(_huber_mean(ratios.ravel(), weights.ravel()))


def _mean_difference(
    target: NDArray[np.float64], bodies: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Robust mean of target 18 x 2 minus bodies F x 18 x 2, over joints, then over frames."""
    is_used = weights.any(axis=1)
    weights = weights[is_used]
    differences = np.moveaxis(target - bodies[is_used], -1, 0)  # 2 x F x 18
    of_frames = _huber_mean(differences, np.broadcast_to(weights, differences.shape))  # 2 x F
    return _huber_mean(of_frames, np.broadcast_to(weights.sum(axis=1), of_frames.shape))


def _huber_mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis in which what lies far off counts less; some weight must be positive."""
    centre = _weighted_median(values, weights)
    for _ in range(_NUM_REWEIGHTINGS):
        residuals = np.abs(values - centre[..., None])
        deviation = 1.4826 * _weighted_median(residuals, weights)
        reach = _HUBER * np.maximum(deviation, 1e-9)[..., None]
        bounded = weights * np.minimum(1.0, reach / np.maximum(residuals, 1e-12))
        before, centre = centre, (bounded * values).sum(axis=-1) / bounded.sum(axis=-1)
        if np.allclose(centre, before, rtol=0.0, atol=1e-12):
            break
    return centre


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(values, axis=-1)
    values, weights = np.take_along_axis(values, order, -1), np.take_along_axis(weights, order, -1)
    share = weights.cumsum(axis=-1)
    middle = (share >= 0.5 * share[..., -1:]).argmax(axis=-1)
    return np.take_along_axis(values, middle[..., None], -1)[..., 0]


def _weights(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(scores > VISIBLE_ABOVE, np.clip(scores, 0.0, 1.0), 0.0)


def _shape_correction(driving: PoseSequence, reference: PoseSequence) -> float:
    return (driving.width / driving.height) * (reference.height / reference.width)


def _is_person(sequence: PoseSequence) -> NDArray[np.bool_]:
    """F x P: neither padding nor a place kept for somebody who is not seen."""
    assert sequence.is_present is not None
    return sequence.is_present & (sequence.scores[..., BODY] > 0).any(axis=-1)


def _reference_body(reference: PoseSequence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points 18 x 2 and scores 18 of the first person of one frame; scores 0 if there is nobody."""
    people = np.flatnonzero(_is_person(reference)[0])
    if len(people) == 0:
        return np.zeros((18, 2)), np.zeros(18)
    return reference.points[0, people[0], BODY], reference.scores[0, people[0], BODY]


def _followed_body(driving: PoseSequence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points F x 18 x 2 and scores F x 18 of the only or followed person; scores 0 where there is none."""
    is_person = _is_person(driving)
    if not is_person.any():
        return np.zeros((len(driving), 18, 2)), np.zeros((len(driving), 18))
    driving = replace(driving, is_present=is_person)
    if driving.num_people > 1:
        driving, is_person = follow_person(driving, "largest"), np.ones((len(driving), 1), dtype=np.bool_)
    return driving.points[:, 0, BODY], np.where(is_person, driving.scores[:, 0, BODY], 0.0)
