"""What is shown where a followed person is not seen for longer than gaps are bridged.

Legend: F frames, P people.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from pose.presence import Stretch, stretches
from pose.text import shown
from pose.types import PoseError, PoseSequence

Missing = Literal["cut", "hold", "fade", "fail"]

FADE_SECONDS = 0.5


def missing_stretches(sequence: PoseSequence, *, longer_than: float = 0.0) -> list[Stretch]:
    """Return the stretches of frames in which nobody is seen, those longer than some seconds."""
    is_empty = np.asarray(~sequence.is_seen.any(axis=1))
    return [(a, b) for a, b in stretches(is_empty) if (b - a) / sequence.fps > longer_than + 1e-9]


def fill_missing(sequence: PoseSequence, how: Missing, *, longer_than: float = 0.0) -> PoseSequence:
    """Decide what is shown in the frames in which a person is not seen.

    Args:
        sequence: poses; each place along P holds one person. Of several people only the frames between two
            sights of a person are filled: who comes or leaves is not invented.
        how:
            "cut": nothing; the skeleton ends and begins again.
            "hold": the pose of the last sight, at the beginning that of the first.
            "fade": as "hold", fading within half a second from the last sight and to the next.
            "fail": an error.
        longer_than: seconds; shorter stretches are left as they are.

    Raises:
        PoseError: "fail", and somebody is missing; or there is no such choice.
    """
    if how not in get_args(Missing):
        raise PoseError(f"missing is {shown(how)}; expected one of {', '.join(get_args(Missing))}")
    if how == "cut":
        return sequence
    if how == "fail":
        _refuse(sequence, longer_than)
        return sequence
    assert sequence.is_present is not None
    is_seen = sequence.is_seen
    if is_seen.all():
        return sequence
    points, scores, is_present = sequence.points.copy(), sequence.scores.copy(), sequence.is_present.copy()
    for person in range(sequence.num_people):
        seen = np.flatnonzero(is_seen[:, person])
        for start, stop in stretches(np.asarray(~is_seen[:, person])):
            at_edge = start == 0 or stop == len(sequence)
            is_short = (stop - start) / sequence.fps <= longer_than + 1e-9
            if is_short or len(seen) == 0 or (at_edge and sequence.num_people > 1):
                continue
            for frame in range(start, stop):
                since, until = frame - start + 1, stop - frame
                is_before = start > 0 and (how == "hold" or stop == len(sequence) or since <= until)
                source = start - 1 if is_before else min(stop, len(sequence) - 1)
                steps = since if is_before else until
                share = 1.0 if how == "hold" else max(0.0, 1 - steps / (FADE_SECONDS * sequence.fps))
                points[frame, person] = sequence.points[source, person]
                scores[frame, person] = share * sequence.scores[source, person]
                is_present[frame, person] = True
    return replace(sequence, points=points, scores=scores, is_present=is_present)


def _refuse(sequence: PoseSequence, longer_than: float) -> None:
    found = missing_stretches(sequence, longer_than=longer_than)
    if not found:
        return
    count = sum(b - a for a, b in found)
    raise PoseError(
        f"nobody is seen in {count} of {len(sequence)} frames ({spoken(found, sequence.fps)}), and missing "
        "is fail. Use another part of the clip, or missing: hold, fade or cut"
    )


def spoken(found: list[Stretch], fps: float, *, most: int = 5) -> str:
    """Name stretches by their times: `1.9–2.8 s, 4.0–4.4 s`."""
    named = ", ".join(f"{a / fps:.1f}–{b / fps:.1f} s" for a, b in found[:most])
    return named + (f" and {len(found) - most} more" if len(found) > most else "")
