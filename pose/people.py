"""Several people: who of a clip is whom of a picture, each fitted to their own body, and who stands in front.

Legend: F frames, P people, K = 134 points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pose.align import AlignMode, align_pose
from pose.anchor import Anchor
from pose.skeletons import BODY, LEFT_ANKLE, RIGHT_ANKLE, VISIBLE_ABOVE
from pose.types import PoseError, PoseSequence

_SMOOTH_SECONDS = 0.4  # over which depths are averaged, so that nobody flickers to the front and back


def people_from_left(sequence: PoseSequence) -> list[int]:
    """Order people along P from left to right by their first position, without those who are never seen."""
    is_seen = sequence.is_seen
    places = {}
    for person in np.flatnonzero(is_seen.any(axis=0)):
        frame = int(is_seen[:, person].argmax())
        shown = sequence.scores[frame, person, BODY] > 0
        places[int(person)] = float(sequence.points[frame, person, BODY][shown, 0].mean())
    return sorted(places, key=lambda person: places[person])


def match_people(
    driving: PoseSequence, reference: PoseSequence, pairs: Mapping[int, int] | None = None
) -> list[tuple[int, int]]:
    """Pair the people of a clip with those of a picture, as places along P.

    Args:
        driving: everybody, each in one place along P.
        reference: everybody in the picture, F = 1.
        pairs: numbers of the clip's people and of the picture's, both counted from the left, from 0; None
            pairs them from left to right. If there are more people in the clip than in the picture, those who
            are seen in the most frames are taken.

    Returns:
        pairs of (place in `driving`, place in `reference`), in the order of the picture from the left.

    Raises:
        PoseError: one side shows nobody, or `pairs` names somebody who is not there, or somebody twice.
    """
    movers, bodies = people_from_left(driving), people_from_left(reference)
    if not movers or not bodies:
        raise PoseError(f"nobody is seen in the {'clip' if not movers else 'picture'}; nobody can be paired")
    if pairs is None:
        count = min(len(movers), len(bodies))
        seconds = driving.is_seen.sum(axis=0)
        longest = sorted(movers, key=lambda person: -seconds[person])[:count]
        return list(zip([person for person in movers if person in longest], bodies))
    for side, wanted, there in (("clip", pairs.keys(), movers), ("picture", pairs.values(), bodies)):
        missing = [number for number in wanted if number >= len(there)]
        if missing:
            raise PoseError(
                f"pairs names person {missing[0]} of the {side}, which shows {len(there)} "
                f"(0 to {len(there) - 1}, from the left)"
            )
    if len(set(pairs.values())) < len(pairs):
        raise PoseError(f"pairs is {dict(pairs)}; only one person can move each person of the picture")
    return [(movers[a], bodies[b]) for a, b in sorted(pairs.items(), key=lambda pair: pair[1])]


def fit_people(
    driving: PoseSequence,
    reference: PoseSequence,
    *,
    mode: AlignMode,
    anchor: Anchor | None = None,
    pairs: Mapping[int, int] | None = None,
) -> PoseSequence:
    """Fit everybody to their own body.

    Returns:
        the fitted people in the order of the picture from the left. `metadata["alignment"]["people"]` holds
        the fit of each, and who is paired with whom.

    Raises:
        PoseError: as `match_people` and `align_pose`.
    """
    matched = match_people(driving, reference, pairs)
    fitted, told = [], []
    for mover, body in matched:
        one = align_pose(one_person(driving, mover), one_person(reference, body), mode=mode, anchor=anchor)
        fitted.append(one)
        told.append({"driving": mover, "reference": body, **one.metadata["alignment"]})
    first = fitted[0]
    return replace(
        first,
        points=np.concatenate([one.points for one in fitted], axis=1),
        scores=np.concatenate([one.scores for one in fitted], axis=1),
        is_present=np.concatenate([one.is_present for one in fitted if one.is_present is not None], axis=1),
        metadata={**driving.metadata, "alignment": {"mode": mode, "people": told}},
    )


def one_person(sequence: PoseSequence, person: int) -> PoseSequence:
    """The sequence of one place along P."""
    return people_in_order(sequence, [person])


def people_in_order(sequence: PoseSequence, people: list[int]) -> PoseSequence:
    """The sequence with some of its people, in this order."""
    assert sequence.is_present is not None
    return replace(
        sequence,
        points=sequence.points[:, people],
        scores=sequence.scores[:, people],
        is_present=sequence.is_present[:, people],
    )


def depth_orders(sequence: PoseSequence) -> NDArray[np.int64]:
    """Places along P from back to front in every frame, ``F x P``.

    Whoever has their feet lower in the picture stands nearer; where no feet are seen, the lowest joint
    decides. Averaged over 0.4 seconds.
    """
    if sequence.num_people < 2:
        return np.zeros((len(sequence), sequence.num_people), np.int64)
    is_shown = (sequence.scores[:, :, BODY] > VISIBLE_ABOVE) & sequence.is_seen[..., None]
    y = np.where(is_shown, sequence.points[:, :, BODY, 1], np.nan)
    depths = np.full(y.shape[:2], np.nan)
    for person in range(sequence.num_people):
        feet = y[:, person, [RIGHT_ANKLE, LEFT_ANKLE]]
        chosen = feet if np.isfinite(feet).any() else y[:, person]
        known = np.isfinite(chosen).any(axis=1)
        if known.any():
            lowest = np.nanmax(chosen[known], axis=1)
            depths[:, person] = np.interp(np.arange(len(y)), np.flatnonzero(known), lowest)
    half = max(0, round(_SMOOTH_SECONDS * sequence.fps / 2))
    smooth = np.stack(
        [depths[max(0, frame - half) : frame + half + 1].mean(axis=0) for frame in range(len(depths))]
    )
    return np.argsort(np.nan_to_num(smooth, nan=-np.inf), axis=1, kind="stable")
