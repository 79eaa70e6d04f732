"""Who is there and when: frames that show nobody, how many people there are, who walks out.

Legend: F frames, P people.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.skeletons import BODY, VISIBLE_ABOVE
from pose.tracking import PATIENCE_SECONDS, are_one_person
from pose.types import PoseSequence

EDGE = 0.04  # of the picture: a figure that ends this close to its edge may be leaving
LOOK_BACK_SECONDS = 0.5
MIN_STEP = 0.02  # of the picture, within that time: whoever leaves moves towards the edge
MOSTLY = 0.5  # share of a person's seen joints

Stretch = tuple[int, int]
"""First frame, and the frame after the last."""


@dataclass(frozen=True)
class Presence:
    """What a sequence shows of its people. Frames are numbered from 0."""

    num_frames: int
    num_empty: int
    """Frames in which nobody is seen."""
    empty: list[Stretch]
    """The stretches of these frames."""
    num_people: int
    """Different people, those who come one after another included."""
    most_at_once: int
    """The largest number of people in one frame, as far as the estimator looked at the others."""
    leaves: list[int]
    """Frames from which on somebody is gone who walked out of the picture."""
    outside: list[Stretch]
    """Stretches in which most of a person's seen joints lie outside the frame, as after a fit."""
    fps: float

    @property
    def share_empty(self) -> float:
        return self.num_empty / self.num_frames if self.num_frames else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        data = asdict(self)
        data["empty"] = [list(stretch) for stretch in self.empty]
        data["outside"] = [list(stretch) for stretch in self.outside]
        return {**data, "share_empty": round(self.share_empty, 4)}

    def sentences(self) -> list[str]:
        """What a user should know, a sentence each; none where one person is seen in every frame."""
        told = []
        if self.num_empty:
            told.append(
                f"nobody is seen in {self.num_empty} of {self.num_frames} frames "
                f"({self.share_empty:.0%}): {self._stretches(self.empty)}"
            )
        if self.most_at_once > 1:
            told.append(f"up to {self.most_at_once} people are in the picture at once")
        if self.num_people > max(self.most_at_once, 1):
            told.append(f"{self.num_people} different people are seen one after another")
        if self.leaves:
            frames = ", ".join(f"{frame} ({frame / self.fps:.1f} s)" for frame in self.leaves[:5])
            told.append(f"somebody walks out of the picture before frame {frames}")
        if self.outside:
            told.append(f"most of the person lies outside the frame: {self._stretches(self.outside)}")
        return told

    def _stretches(self, stretches: list[Stretch]) -> str:
        longest = sorted(sorted(stretches, key=lambda s: s[0] - s[1])[:5])
        named = ", ".join(
            f"frame {a} ({a / self.fps:.1f} s)"
            if b - a == 1
            else f"frames {a} to {b - 1} ({a / self.fps:.1f} to {b / self.fps:.1f} s)"
            for a, b in longest
        )
        rest = len(stretches) - len(longest)
        return named + (f" and {rest} shorter stretches" if rest else "")


def summarise_presence(sequence: PoseSequence) -> Presence:
    """Count the people of a sequence and the frames without them.

    Args:
        sequence: poses of one followed person or of everybody (`person="all"`), each in one place along P.
            A person is seen in a frame where any point has a score. `metadata["most_people"]`, which the
            estimators write, tells of people beside a followed one.
    """
    is_seen = sequence.is_seen
    is_empty = np.asarray(~is_seen.any(axis=1))
    num_people, leaves = 0, []
    for person in range(sequence.num_people):
        visits = stretches(is_seen[:, person])
        for number, (start, stop) in enumerate(visits):
            is_known = number > 0 and _is_same(sequence, person, visits[number - 1][1] - 1, start)
            num_people += not is_known
            if stop < len(sequence) and _walks_out(sequence, person, start, stop):
                leaves.append(stop)
    noted = sequence.metadata.get("most_people", 0)
    at_once = int(is_seen.sum(axis=1).max()) if is_seen.size else 0
    most_at_once = max(at_once, int(noted)) if isinstance(noted, (int, float)) else at_once
    return Presence(
        num_frames=len(sequence),
        num_empty=int(is_empty.sum()),
        empty=stretches(is_empty),
        num_people=max(num_people, most_at_once),
        most_at_once=most_at_once,
        leaves=sorted(leaves),
        outside=stretches(np.asarray(_is_outside(sequence, is_seen).any(axis=1))),
        fps=float(sequence.fps),
    )


def stretches(is_so: NDArray[np.bool_]) -> list[Stretch]:
    """The stretches of True in ``F`` values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_so, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2])]


def _is_same(sequence: PoseSequence, person: int, last: int, first: int) -> bool:
    """Whether the person seen again is the one seen last: after a short time and not too far away."""
    seconds = (first - last) / sequence.fps
    if seconds >= PATIENCE_SECONDS:
        return False
    before, now = ((sequence.points[i, person], sequence.scores[i, person]) for i in (last, first))
    return are_one_person(before, now, seconds, like=sequence)


def _walks_out(sequence: PoseSequence, person: int, start: int, stop: int) -> bool:
    """Whether a visit ends at an edge of the picture that the person was moving to."""
    earlier = max(start, stop - 1 - max(1, round(LOOK_BACK_SECONDS * sequence.fps)))
    before, last = (_box(sequence, person, frame) for frame in (earlier, stop - 1))
    if before is None or last is None:
        return False
    (low_before, high_before), (low, high) = before, last
    step = (low + high - low_before - high_before) / 2
    at_start = (low < EDGE) & (step < -MIN_STEP)
    at_end = (high > 1 - EDGE) & (step > MIN_STEP)
    return bool((at_start | at_end).any())


def _box(
    sequence: PoseSequence, person: int, frame: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Lowest and highest x and y of the joints that are seen, None where none is."""
    is_seen = sequence.scores[frame, person, BODY] > VISIBLE_ABOVE
    if not is_seen.any():
        return None
    joints = sequence.points[frame, person, BODY][is_seen]
    return joints.min(axis=0), joints.max(axis=0)


def _is_outside(sequence: PoseSequence, is_seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """F x P: most of the seen joints lie outside the frame."""
    points = sequence.points[:, :, BODY]
    is_shown = (sequence.scores[:, :, BODY] > VISIBLE_ABOVE) & is_seen[..., None]
    is_out = ((points < 0) | (points > 1)).any(axis=-1) & is_shown
    return np.asarray(is_out.sum(axis=-1) > MOSTLY * np.maximum(is_shown.sum(axis=-1), 1))
