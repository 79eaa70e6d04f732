"""How well fitted poses suit the reference picture: a report that is made before anything is generated.

Legend: F frames, P people, K = 134 points, H height, W width.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.figure import body_height, figure_mask
from pose.lengths import BONES
from pose.skeletons import BODY, BODY_LIMBS, LEFT_ANKLE, LEFT_HIP, NECK, RIGHT_ANKLE, RIGHT_HIP, VISIBLE_ABOVE
from pose.types import PoseError, PoseSequence

Array = NDArray[np.float64]

# Beyond one of these a fit is poor; `python -m benchmarks.fit_quality` measures their precision and recall.
MIN_OVERLAP = 0.4
MAX_SIZE = 0.3  # difference of logarithms
MAX_OUTSIDE = 0.25
MAX_GAP = 0.15  # body heights, to the reference's ground and sideways
MAX_DRIFT = 0.3  # body heights

_ANKLES = [RIGHT_ANKLE, LEFT_ANKLE]
_TRUNK = [NECK, RIGHT_HIP, LEFT_HIP]
_SAMPLES = np.linspace(0.0, 1.0, 12)
_STEADY = ("trunk", "shoulders", "neck", "ears", "eyes", "face", "upper_arm", "thigh", "shin")
_MASK_SIDE = 256
_MARGIN = 0.02  # body heights around the silhouette that still count as inside


@dataclass(frozen=True)
class FitReport:
    """What a fit comes to. Numbers that cannot be measured are None."""

    overlap: float | None
    """Share of the first frame's skeleton (head, trunk and legs) that lies on the reference's silhouette."""
    size: float | None
    """Size of the fitted body against the reference's: median of the ratios of bones."""
    bones: dict[str, float]
    """Length of each bone against the reference's, at its longest in the clip."""
    share_outside: float
    """Share of the seen joints that lie outside the frame, of joints that the reference's frame shows."""
    ground_gap: float | None
    """How far the usual ground under the feet is below the reference's, in body heights."""
    sideways: float | None
    """How far the first frame's trunk is to the right of the reference's, in body heights."""
    ground_drift: float | None
    """How far the ground under the feet moves up or down over the clip, in body heights."""

    @property
    def faults(self) -> list[str]:
        """What is poor, a phrase each; none if the fit is good."""
        found = []
        if self.overlap is not None and self.overlap < MIN_OVERLAP:
            found.append(f"the first frame's skeleton lies on the person by {self.overlap:.0%} only")
        if self.size is not None and abs(np.log(self.size)) > MAX_SIZE:
            found.append(f"the figure has {self.size:.2f} times the person's size")
        if self.share_outside > MAX_OUTSIDE:
            found.append(f"{self.share_outside:.0%} of the joints lie outside the frame")
        if self.ground_gap is not None and abs(self.ground_gap) > MAX_GAP:
            side = "below" if self.ground_gap > 0 else "above"
            found.append(
                f"the feet are {abs(self.ground_gap):.0%} of the body's height {side} the reference's ground"
            )
        if self.sideways is not None and abs(self.sideways) > MAX_GAP:
            found.append(f"the figure begins {abs(self.sideways):.0%} of its height beside the person")
        if self.ground_drift is not None and self.ground_drift > MAX_DRIFT:
            found.append(f"the ground under the feet moves by {self.ground_drift:.0%} of the body's height")
        return found

    @property
    def is_poor(self) -> bool:
        return bool(self.faults)

    def sentence(self) -> str | None:
        """Say what is poor and what to do; None if the fit is good."""
        if not self.faults:
            return None
        return (
            f"the fit is poor: {', '.join(self.faults)}. Look at the result beside the clip "
            "(side_by_side); try align: limbs, another anchor, or adjust"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = asdict(self)
        rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in data.items()}
        bones = {name: round(ratio, 4) for name, ratio in self.bones.items()}
        return {**rounded, "bones": bones, "is_poor": self.is_poor}


def judge_fit(
    fitted: PoseSequence,
    reference: PoseSequence,
    *,
    silhouette: NDArray[np.bool_] | None = None,
    person: int = 0,
) -> FitReport:
    """Compare fitted driving poses with the reference picture.

    Args:
        fitted: the driving poses after the fit, without the reference's own frame.
        reference: the reference's poses, F = 1, in the same fractions.
        silhouette: the person's pixels in the reference picture, ``H x W``; None draws them from its pose.
        person: which of the people, in both.

    Raises:
        PoseError: there are no frames, or no such person.
    """
    if len(fitted) == 0 or person >= min(fitted.num_people, reference.num_people):
        raise PoseError(
            f"person {person} cannot be judged: the clip has {len(fitted)} frames with {fitted.num_people} "
            f"people, the reference {reference.num_people} people"
        )
    heights = np.array([reference.width / reference.height, 1.0])
    points = fitted.points[:, person]
    scores = np.where(fitted.is_seen[:, person, None], fitted.scores[:, person], 0.0)
    target, target_scores = reference.points[0, person], reference.scores[0, person]
    unit = body_height(target * heights, target_scores)
    bones = _bones(points * heights, scores, target * heights, target_scores)
    lower = _lower_ankles(points * heights, scores)
    ground = _lower_ankles(target[None] * heights, target_scores[None])
    has_ground = unit > 0 and len(lower) > 0
    steady = [bones[name] for name in _STEADY if name in bones]
    return FitReport(
        overlap=_overlap(points, scores, target, target_scores, silhouette, heights[0]),
        size=float(np.median(steady)) if steady else None,
        bones=bones,
        share_outside=_share_outside(points, scores, target, target_scores),
        ground_gap=float(np.median(lower) - ground[0]) / unit if has_ground and len(ground) else None,
        sideways=_sideways(points, scores, target, target_scores, heights[0] / unit) if unit > 0 else None,
        ground_drift=float(np.ptp(np.quantile(lower, [0.1, 0.9])) / unit) if has_ground else None,
    )


def _overlap(
    points: Array,
    scores: Array,
    target: Array,
    target_scores: Array,
    silhouette: NDArray[np.bool_] | None,
    aspect: float,
) -> float | None:
    """Share of points along the first frame's limbs, arms left out, that lie on the silhouette."""
    is_seen = scores[:, BODY] > VISIBLE_ABOVE
    is_shown = target_scores[BODY] > VISIBLE_ABOVE
    common = (is_seen & is_shown).sum(axis=1)
    if not common.any():
        return None
    first = int((common >= 0.5 * np.median(common[common > 0])).argmax())
    if silhouette is None:
        side = (_MASK_SIDE, max(1, round(_MASK_SIDE * aspect)))
        silhouette = figure_mask(target, target_scores, *side, margin=_MARGIN)
    inside = []
    for a, b in BODY_LIMBS:
        is_arm = {a, b} & {3, 4, 6, 7}
        if not is_arm and is_seen[first, [a, b]].all() and is_shown[[a, b]].all():
            along = points[first, a] + _SAMPLES[:, None] * (points[first, b] - points[first, a])
            inside.append(_are_on(along, silhouette))
    return float(np.concatenate(inside).mean()) if inside else None


def _are_on(places: Array, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    height, width = mask.shape
    is_inside = ((places >= 0) & (places < 1)).all(axis=-1)
    rows = np.clip((places[:, 1] * height).astype(int), 0, height - 1)
    columns = np.clip((places[:, 0] * width).astype(int), 0, width - 1)
    return np.asarray(is_inside & mask[rows, columns])


def _bones(points: Array, scores: Array, target: Array, target_scores: Array) -> dict[str, float]:
    """Length of each bone that both sides show, over the reference's."""
    found: dict[str, float] = {}
    for name, bone in BONES.items():
        lengths = []
        for body, surety in ((points, scores), (target[None], target_scores[None])):
            seen = [
                np.linalg.norm(body[:, list(a)].mean(axis=1) - body[:, list(b)].mean(axis=1), axis=-1)[
                    (surety[:, [*a, *b]] > VISIBLE_ABOVE).all(axis=1)
                ]
                for a, b in bone.ends
            ]
            together = np.concatenate(seen)
            lengths.append(float(np.quantile(together, 0.75)) if len(together) else 0.0)
        if min(lengths) > 1e-4:
            found[name] = lengths[0] / lengths[1]
    return found


def _share_outside(points: Array, scores: Array, target: Array, target_scores: Array) -> float:
    """Share of seen joints outside the frame; what the reference's own frame cuts off does not count."""
    is_shown = (target_scores[BODY] > VISIBLE_ABOVE) & ((target[BODY] >= 0) & (target[BODY] <= 1)).all(
        axis=-1
    )
    is_seen = (scores[:, BODY] > VISIBLE_ABOVE) & is_shown
    is_out = ((points[:, BODY] < 0) | (points[:, BODY] > 1)).any(axis=-1)
    return float((is_out & is_seen).sum() / max(int(is_seen.sum()), 1))


def _lower_ankles(points: Array, scores: Array) -> Array:
    """Height of the lower ankle in the frames that show one."""
    is_seen = scores[:, _ANKLES] > VISIBLE_ABOVE
    lower = np.where(is_seen, points[:, _ANKLES, 1], -np.inf).max(axis=1)
    return np.asarray(lower[is_seen.any(axis=1)])


def _sideways(points: Array, scores: Array, target: Array, target_scores: Array, unit: float) -> float | None:
    """Mean distance to the right of neck and hips in the first frame that shows them."""
    common = (scores[:, _TRUNK] > VISIBLE_ABOVE) & (target_scores[_TRUNK] > VISIBLE_ABOVE)
    if not common.any():
        return None
    first = int(common.any(axis=1).argmax())
    apart = points[first, _TRUNK, 0] - target[_TRUNK, 0]
    return float(apart[common[first]].mean() * unit)
