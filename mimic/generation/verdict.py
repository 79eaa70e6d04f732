"""What was poor about a case's driving poses: people lost, points unsure, body cut off, scale, fit.

Frames are driving frames, numbered from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose import PoseSequence
from pose.fit import FitReport
from pose.missing import missing_stretches, spoken
from pose.presence import Stretch, stretches
from pose.skeletons import BODY, VISIBLE_ABOVE

UNSURE_SCORE = 0.5  # mean score of a frame's seen joints
CUT_OFF = 0.5  # share of a frame's seen joints outside the picture
MIN_SHARE = 0.05  # of the frames: fewer are marked, and not called poor
EXTREME_SCALE = 3.0


@dataclass(frozen=True)
class Fault:
    """One thing that is poor, and where."""

    kind: str
    sentence: str
    stretches: tuple[Stretch, ...] = ()
    is_poor: bool = True
    """Whether it is much; else it is only marked."""


@dataclass(frozen=True)
class Verdict:
    """What was poor about the driving poses."""

    num_frames: int
    faults: tuple[Fault, ...] = ()

    @property
    def is_good(self) -> bool:
        return not any(fault.is_poor for fault in self.faults)

    @property
    def sentences(self) -> list[str]:
        return [fault.sentence for fault in self.faults if fault.is_poor]

    @property
    def marks(self) -> dict[int, str]:
        """The kind of the first fault of each faulty frame."""
        found: dict[int, str] = {}
        for fault in self.faults:
            for start, stop in fault.stretches:
                for frame in range(start, stop):
                    found.setdefault(frame, fault.kind)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "is_good": self.is_good,
            "sentences": self.sentences,
            "faults": [
                {
                    "kind": fault.kind,
                    "is_poor": fault.is_poor,
                    "sentence": fault.sentence,
                    "stretches": [list(stretch) for stretch in fault.stretches],
                }
                for fault in self.faults
            ],
        }


@dataclass(frozen=True)
class _Frames:
    """Frames with one fault."""

    kind: str
    words: str
    found: list[Stretch] = field(default_factory=list)


def judge_driving(
    fitted: PoseSequence,
    fits: Iterable[FitReport],
    *,
    reference: PoseSequence,
    alignment: Mapping[str, Any] | None = None,
    bridged: float = 0.0,
    lost: list[Stretch] | None = None,
) -> Verdict:
    """Judge fitted driving poses.

    Args:
        fitted: the driving poses after the fit, without the reference's frame.
        fits: the report of each person's fit.
        reference: the reference's poses; joints that it does not show do not count as cut off.
        alignment: `metadata["alignment"]` of the fit.
        bridged: gaps up to this many seconds were bridged and count as seen.
        lost: stretches without anybody, if `fitted` was already filled; None finds them.
    """
    if lost is None:
        lost = missing_stretches(fitted, longer_than=bridged)
    unsure, outside = _unsure(fitted), _outside(fitted, reference)
    for start, stop in lost:
        unsure[start:stop] = outside[start:stop] = False
    kinds = (
        _Frames("nobody seen", "show nobody", lost),
        _Frames("unsure", "have unsure points", stretches(unsure)),
        _Frames("cut off", "show the body cut off by the picture's edge", stretches(outside)),
    )
    faults = []
    for each in kinds:
        count = sum(stop - start for start, stop in each.found)
        if count:
            sentence = f"{count} of {len(fitted)} frames {each.words} ({spoken(each.found, fitted.fps)})"
            faults.append(Fault(each.kind, sentence, tuple(each.found), count >= MIN_SHARE * len(fitted)))
    scale = (alignment or {}).get("scale")
    if scale is not None and not 1 / EXTREME_SCALE <= abs(scale[1]) <= EXTREME_SCALE:
        size = f"{abs(scale[1]):.1f} times" if abs(scale[1]) > 1 else f"to 1/{1 / abs(scale[1]):.1f}"
        what = "enlarged" if abs(scale[1]) > 1 else "reduced"
        sentence = f"the clip's person is {what} {size} to fit the picture's: they are not seen alike"
        faults.append(Fault("scale", sentence))
    for report in fits:
        sentence_of_fit = report.sentence()
        if sentence_of_fit is not None:
            faults.append(Fault("fit", sentence_of_fit))
    return Verdict(len(fitted), tuple(faults))


def _unsure(poses: PoseSequence) -> NDArray[np.bool_]:
    """Frames in which the mean score of somebody's seen joints is low."""
    scores = np.where(poses.is_seen[..., None], poses.scores[:, :, BODY], 0.0)
    is_shown = scores > VISIBLE_ABOVE
    scores = np.where(is_shown, scores, 0.0)
    means = scores.sum(axis=-1) / np.maximum(is_shown.sum(axis=-1), 1)
    return np.asarray((is_shown.any(axis=-1) & (means < UNSURE_SCORE)).any(axis=1))


def _outside(poses: PoseSequence, reference: PoseSequence) -> NDArray[np.bool_]:
    """Frames in which most of somebody's seen joints lie outside, of those that the reference shows."""
    points = poses.points[:, :, BODY]
    own = reference.points[0, :, BODY]
    is_own = (reference.scores[0, :, BODY] > VISIBLE_ABOVE) & ((own >= 0) & (own <= 1)).all(axis=-1)
    is_shown = (poses.scores[:, :, BODY] > VISIBLE_ABOVE) & poses.is_seen[..., None] & is_own.any(axis=0)
    is_out = ((points < 0) | (points > 1)).any(axis=-1) & is_shown
    is_cut = is_out.sum(axis=-1) > CUT_OFF * np.maximum(is_shown.sum(axis=-1), 1)
    return np.asarray(is_cut.any(axis=1))
