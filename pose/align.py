"""Fit the movement of one body to the place and size of another.

All modes but "limbs" end in one affine map of the driving clip's fractional coordinates,
`out = in * scale + offset`, equal for all frames, all people, body, face and hands.

Legend: F frames, P people, J joints, S spans (pairs of joints).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pose.anchor import Anchor, find_offset
from pose.lengths import estimate_lengths
from pose.limbs import factors_of, with_limbs
from pose.means import huber_mean, weighted_median
from pose.skeletons import ALIGNED_JOINTS, ALIGNED_SPANS, BODY, SPAN_STEADINESS, VISIBLE_ABOVE
from pose.text import shown
from pose.tracking import follow_person
from pose.types import NUM_POINTS, PoseError, PoseSequence

AlignMode = Literal["released", "robust", "limbs", "none"]

ANCHOR: Anchor = "ground"
"""Anchor of "robust" and "limbs" where none is given; `python -m benchmarks.fit_quality` compares them."""

_SHORTEST_SPAN = 0.01  # of the frame's height; what is shorter says nothing about size
_FORESHORTENED = 0.85  # of the expected length
_SURE_SPANS = 3  # with fewer common spans one bad joint would decide the size
_EVERY_PAIR = tuple((a, b) for a in range(18) for b in range(a))


@dataclass(frozen=True)
class Fit:
    """`out = in * scale + offset`, in fractions of the frame; `basis` says what the fit rests on."""

    scale: tuple[float, float]
    offset: tuple[float, float]
    basis: str
    anchor: str | None = None
    """The anchor that was used, where one was."""
    factors: Mapping[str, float] | None = None
    """Factors of the bones (`pose.limbs.with_limbs`); None where all points are scaled alike."""

    def apply(self, driving: PoseSequence, reference: PoseSequence) -> NDArray[np.float64]:
        """Move points ``F x P x 134 x 2``, in fractions of the driving clip's frame, into the reference's."""
        # In place, since of a long clip each copy is large.
        if self.factors is None:
            moved = driving.points * np.array(self.scale)
            moved += np.array(self.offset)
            return moved
        people = []
        for person in range(driving.num_people):
            resized = with_limbs(
                driving.points[:, person] * _heights(driving),
                _present_scores(driving, person),
                dict(self.factors),
            )
            resized /= _heights(reference)
            resized += np.array(self.offset)
            people.append(resized)
        return people[0][:, None] if len(people) == 1 else np.stack(people, axis=1)


def check_mode(mode: str, anchor: str | None) -> None:
    """Raise `PoseError` if there is no such mode or anchor, or the mode takes no anchor."""
    if mode not in get_args(AlignMode):
        raise PoseError(f"there is no alignment {shown(mode)}; use one of {', '.join(get_args(AlignMode))}")
    if anchor is not None and anchor not in get_args(Anchor):
        raise PoseError(f"there is no anchor {shown(anchor)}; use one of {', '.join(get_args(Anchor))}")
    if anchor is not None and mode not in ("robust", "limbs"):
        raise PoseError(f"align: {mode} takes no anchor; use align: limbs or robust, or leave the anchor out")


def align_pose(
    driving: PoseSequence,
    reference: PoseSequence,
    *,
    mode: AlignMode = "released",
    reference_frame: int = 0,
    anchor: Anchor | None = None,
) -> PoseSequence:
    """Move and scale a driving clip so that its person stands where the reference's stands, as large.

    Args:
        driving: F frames of any number of people; all of them are moved alike.
        reference: the reference picture's poses. The first person that is present is the one to fit.
        mode:
            "released": the least-squares line of the released MimicMotion code, see `fit_released`.
            "robust": sizes of bodies instead of positions of joints, weighted by the scores of both sides;
                always gives an answer, see `fit_robust`.
            "limbs": every bone takes the length that it has in the reference, see `fit_limbs`.
            "none": nothing moves. Points stay where they are as fractions of the frame, so that where
                the shapes of the two frames differ, bodies are stretched as the frame is.
        reference_frame: which frame of `reference` to take.
        anchor: where "robust" and "limbs" put the body, see `pose.anchor.find_offset`. Default: `ANCHOR`.

    Returns:
        The driving clip with the reference's height and width; scores, frames and fps are its own.
        `metadata["alignment"]` tells mode, scale, offset and what the fit rests on; of "limbs" the factors of
        the bones, too.

    Raises:
        PoseError: the mode or anchor is unknown, the mode takes no anchor, or "released" has nothing to fit.
    """
    check_mode(mode, anchor)
    target = reference[reference_frame]
    if mode == "released":
        fit = fit_released(driving, target)
    elif mode == "robust":
        fit = fit_robust(driving, target, anchor=anchor or ANCHOR)
    elif mode == "limbs":
        fit = fit_limbs(driving, target, anchor=anchor or ANCHOR)
    else:
        fit = Fit((1.0, 1.0), (0.0, 0.0), "nothing")
    told: dict[str, Any] = {
        "mode": mode, "scale": list(fit.scale), "offset": list(fit.offset), "basis": fit.basis
    }  # fmt: skip
    if fit.anchor is not None:
        told["anchor"] = fit.anchor
    if fit.factors is not None:
        told["factors"] = {name: round(factor, 4) for name, factor in fit.factors.items()}
    return replace(
        driving,
        points=fit.apply(driving, reference),
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
    target, target_scores = (part[BODY] for part in _reference_person(reference))
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


def fit_robust(driving: PoseSequence, reference: PoseSequence, *, anchor: Anchor = ANCHOR) -> Fit:
    """A fit that rests on what both sides surely show, and always gives an answer.

    The scale compares lengths between joints (neck to hip, shoulder to shoulder, hip to ankle, …): they do
    not change with the place in the frame, nor when the person turns away from the camera, which exchanges
    left and right. It is the line through the origin from driving to reference lengths, weighted by the
    scores of all four joints, and by how little a length is usually foreshortened: a trunk says more than the
    thighs of somebody who may sit. A frame that foreshortens a limb has a short length there and so little to
    say; what lies off the line (a swapped or invented joint) is bounded by Huber's weights. Where fewer than
    three such lengths are common to both sides, those between any body joints are taken; where there are
    none, the body keeps its height as a fraction of the frame's.

    The offset brings common joints together (`pose.anchor.find_offset`). With a half-body reference head and
    shoulders decide, and the legs fall out of the frame below. Where nothing is common the middle of what is
    seen goes to the middle of what the reference shows, or to the middle of its frame.

    Of several people the largest of the first frame is followed; that one's fit moves everyone.
    """
    # Lengths in frame heights on both axes, so that a body keeps its proportions.
    target, target_scores = _reference_person(reference)
    points, scores = _followed_person(driving)
    target, bodies = (
        part[..., BODY, :] for part in (target * _heights(reference), points * _heights(driving))
    )
    target_weights, weights = _weights(target_scores[BODY]), _weights(scores[:, BODY])
    common = weights * target_weights  # F x 18

    basis = "body lengths"
    scale = _length_ratio(
        bodies, target, common, ALIGNED_SPANS, fewest=_SURE_SPANS, steadiness=SPAN_STEADINESS
    )
    if scale is None:
        basis = "lengths between any joints"
        scale = _length_ratio(bodies, target, common, _EVERY_PAIR, fewest=1)
    if scale is None:
        basis = "position alone"
        scale = 1.0

    found = find_offset(target, target_weights, scale * bodies, weights, anchor)
    if found is None:
        basis, place = "nothing in common", None
        offset = _middles_together(bodies, weights, target, target_weights, scale, driving, reference)
    else:
        offset, place = found
    scale_xy = scale * _heights(driving) / _heights(reference)
    offset_xy = offset / _heights(reference)
    return Fit(
        (float(scale_xy[0]), float(scale_xy[1])),
        (float(offset_xy[0]), float(offset_xy[1])),
        f"{basis}; {_counted(common)}",
        place,
    )


def fit_limbs(driving: PoseSequence, reference: PoseSequence, *, anchor: Anchor = ANCHOR) -> Fit:
    """A fit that gives every bone the length that it has in the reference.

    The lengths of both bodies are estimated together (`pose.lengths.estimate_lengths`), including those of
    bones that the reference does not show. Directions and foreshortening of the driving clip are kept
    (`pose.limbs.with_limbs`). Where one side shows no bone, the fit is that of `fit_robust`.
    """
    target, target_scores = _reference_person(reference)
    points, scores = _followed_person(driving)
    points, target = points * _heights(driving), target * _heights(reference)
    lengths = estimate_lengths(points, scores, target, target_scores)
    if lengths is None:
        return fit_robust(driving, reference, anchor=anchor)
    factors = factors_of(lengths)
    bodies = with_limbs(points, scores, factors)[:, BODY]
    target_weights, weights = _weights(target_scores[BODY]), _weights(scores[:, BODY])
    found = find_offset(target[BODY], target_weights, bodies, weights, anchor)
    if found is None:
        offset, place = (
            _middles_together(bodies, weights, target[BODY], target_weights, 1.0, driving, reference),
            None,
        )
    else:
        offset, place = found
    scale_xy = factors["way"] * _heights(driving) / _heights(reference)
    offset_xy = offset / _heights(reference)
    return Fit(
        (float(scale_xy[0]), float(scale_xy[1])),
        (float(offset_xy[0]), float(offset_xy[1])),
        f"{lengths.num_common} bones; {_counted(weights * target_weights)}",
        place,
        factors,
    )


def _middles_together(
    bodies: NDArray[np.float64],
    weights: NDArray[np.float64],
    target: NDArray[np.float64],
    target_weights: NDArray[np.float64],
    scale: float,
    driving: PoseSequence,
    reference: PoseSequence,
) -> NDArray[np.float64]:
    """Shift of what is seen to the middle of what the reference shows, where they have no joint in common."""
    seen = bodies[weights > 0] if weights.any() else 0.5 * _heights(driving)[None]
    seen_target = target[target_weights > 0] if target_weights.any() else 0.5 * _heights(reference)[None]
    return np.asarray(seen_target.mean(axis=0) - scale * seen.mean(axis=0))


def _length_ratio(
    bodies: NDArray[np.float64],
    target: NDArray[np.float64],
    common: NDArray[np.float64],
    spans: tuple[tuple[int, int], ...],
    *,
    fewest: int,
    steadiness: tuple[float, ...] | None = None,
) -> float | None:
    """Reference lengths over driving lengths, or None where fewer than `fewest` spans are common to both."""
    first, second = np.array(spans).T
    lengths = np.linalg.norm(bodies[:, first] - bodies[:, second], axis=-1)  # F x S
    targets = np.linalg.norm(target[first] - target[second], axis=-1)  # S
    is_measured = (lengths > _SHORTEST_SPAN) & (targets > _SHORTEST_SPAN)
    surety = np.where(is_measured, common[:, first] * common[:, second], 0.0)
    # The mean of the ratios target / length with weights length² is the least-squares slope. A length
    # counts for no more than is usual over the clip, so that one far astray has no leverage.
    usual = weighted_median(lengths.T, surety.T)
    weights = surety * np.minimum(lengths, usual) ** 2
    if weights.any(axis=0).sum() < fewest:
        return None
    ratios = targets / np.where(is_measured, lengths, 1.0)
    if steadiness is not None:
        # What is shorter than the steadiest lengths tell is taken to be foreshortened in the reference.
        steady = weights * np.array(steadiness)
        expected = huber_mean(ratios.ravel(), steady.ravel())
        is_short = weighted_median(ratios.T, weights.T) < _FORESHORTENED * expected
        weights = np.where(is_short, steady, weights)
    return float(huber_mean(ratios.ravel(), weights.ravel()))


def _weights(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(scores > VISIBLE_ABOVE, np.clip(scores, 0.0, 1.0), 0.0)


def _shape_correction(driving: PoseSequence, reference: PoseSequence) -> float:
    return (driving.width / driving.height) * (reference.height / reference.width)


def _is_person(sequence: PoseSequence) -> NDArray[np.bool_]:
    """F x P: neither padding nor a place kept for somebody who is not seen."""
    assert sequence.is_present is not None
    return sequence.is_present & (sequence.scores[..., BODY] > 0).any(axis=-1)


def _reference_person(reference: PoseSequence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points 134 x 2 and scores 134 of the first person of one frame; scores 0 if there is nobody."""
    people = np.flatnonzero(_is_person(reference)[0])
    if len(people) == 0:
        return np.zeros((NUM_POINTS, 2)), np.zeros(NUM_POINTS)
    return reference.points[0, people[0]], reference.scores[0, people[0]]


def _followed_person(driving: PoseSequence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points F x 134 x 2 and scores F x 134 of the only or followed person; scores 0 where there is none."""
    is_person = _is_person(driving)
    if not is_person.any():
        return np.zeros((len(driving), NUM_POINTS, 2)), np.zeros((len(driving), NUM_POINTS))
    driving = replace(driving, is_present=is_person)
    if driving.num_people > 1:
        driving = follow_person(driving, "largest")
    return driving.points[:, 0], _present_scores(driving, 0)


def _present_scores(sequence: PoseSequence, person: int) -> NDArray[np.float64]:
    """Scores F x 134 of one person, 0 where they are not present."""
    assert sequence.is_present is not None
    return np.where(sequence.is_present[:, person, None], sequence.scores[:, person], 0.0)


def _heights(sequence: PoseSequence) -> NDArray[np.float64]:
    """Width and height of the frame in frame heights: fractions times these keep proportions."""
    return np.array([sequence.width / sequence.height, 1.0])


def _counted(common: NDArray[np.float64]) -> str:
    steady = np.where(np.isin(np.arange(18), ALIGNED_JOINTS), common, 0.0)
    common = steady if steady.any() else common
    return f"{common.any(axis=0).sum()} joints in {common.any(axis=1).sum()} frames"
