"""Bodies of a drawing: limbs whose ends meet where they share a joint.

Every body is a neck with five chains of limbs. The best chains are found for each place where a neck may be;
the best body is taken, its limbs are removed, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose.drawings.colours import Ink, luma_of
from pose.drawings.faces import LEFT_EYE_POINTS, NOSE_TIP, RIGHT_EYE_POINTS, DrawnFace
from pose.drawings.limbs import Limb, usual_half_width
from pose.skeletons import BODY_LIMBS, LEFT_EAR, LEFT_EYE, NECK, NOSE, RIGHT_EAR, RIGHT_EYE

# Limbs that go on from a limb, by number; None: from the neck.
_NEXT: dict[int | None, tuple[int, ...]] = {
    None: (0, 1, 6, 9, 12), 0: (2,), 2: (3,), 1: (4,), 4: (5,), 6: (7,), 7: (8,), 9: (10,), 10: (11,),
    12: (13, 15), 13: (14,), 15: (16,),
}  # fmt: skip

_SHOULDERS = {0, 1}
_TRUNK_AND_LIMBS = set(range(12))
MIN_LIMBS = 3  # of trunk, arms and legs; with both shoulders the head counts, too
MIN_GAIN = 2.0
MIN_SIZE = 0.15  # of the most complete body: less is the rest of a hand
REACH_WIDTHS, REACH_LENGTH = 4.0, 0.06  # half widths and share of a usual limb: ends that meet are as close
GAP_COST = 0.5  # of a limb that is hidden, while the next one is seen
HIDDEN_COST = 0.3  # of a limb whose end at the joint is hidden
MAX_EXCESS = 0.45  # of a limb: colour that bleeds into the next one
MAX_COST = 1.0
GAP_REACH = 0.5  # of a usual limb's length, from one end of the hidden limb to the other
WIDTH_TOLERANCE = 1.6
TURN_WORTH = 0.3
STUBBY = 3.0  # half widths
BRIGHTER = 1.2  # a joint in relation to a limb of its colour
SEARCH_WIDTHS = 2.5
MIN_DISC = 0.25  # share of a disc's pixels that are seen
HEAD_REACH = 0.5  # of the body: from nose or neck to the points of the face
EAR_REACH = 0.3  # of the face
EAR_SEEN = 0.4  # of the way from the eye: limbs to the ear are seen beyond
MIN_SEEN = 3  # pixels
MIN_SCORE = 0.31  # what is drawn was above the threshold


@dataclass
class Drawn:
    """A drawn body: joints ``18 x 2`` in pixels, scores ``18`` (0: not drawn), its limbs by number."""

    joints: NDArray[np.float64]
    scores: NDArray[np.float64]
    limbs: dict[int, Limb]
    half_width: float
    gain: float
    """How well limbs of the expected width meet: about one for each."""

    @property
    def size(self) -> float:
        """Longer side of the box around the joints."""
        return float(np.ptp(self.joints[self.scores > 0], axis=0).max())


class _Chain(NamedTuple):
    gain: float
    limbs: tuple[Limb, ...]  # turned so that the first end is the first joint


def assemble(limbs: list[Limb]) -> list[Drawn]:
    """Put limbs together to bodies, the most complete first."""
    bodies: list[Drawn] = []
    while limbs:
        body = _best_body(limbs)
        if body is None:
            break
        if not bodies or body.size > MIN_SIZE * bodies[0].size:
            bodies.append(body)
        used = {id(limb.source) for limb in body.limbs.values()}
        limbs = [limb for limb in limbs if id(limb) not in used]
    return bodies


def _best_body(limbs: list[Limb]) -> Drawn | None:
    finder = _Finder(limbs)
    necks = [limb.ends[end] for limb in limbs if limb.number in _NEXT[None] for end in (0, 1)]
    best = max((finder.chains(None, neck) for neck in necks), key=lambda chain: chain.gain, default=None)
    if best is None or best.gain < MIN_GAIN:
        return None
    numbers = {limb.number for limb in best.limbs}
    num_counted = len(numbers) if numbers >= _SHOULDERS else len(numbers & _TRUNK_AND_LIMBS)
    if num_counted < MIN_LIMBS:
        return None
    return _body({limb.number: limb for limb in best.limbs}, finder.half_width, best.gain)


class _Finder:
    """Finds the best chains of limbs from a place; remembers those after each limb."""

    def __init__(self, limbs: list[Limb]) -> None:
        self.half_width = max(usual_half_width(limbs), 0.5)
        self._of: dict[int, list[Limb]] = {}
        for limb in limbs:
            if limb.length < STUBBY * limb.half_width:  # the disc of a joint; joints and limbs share colours
                continue
            self._of.setdefault(limb.number, []).extend([limb, limb.turned()])
        longest = [max(group, key=lambda limb: limb.length) for group in self._of.values()]
        self._length = float(np.median([limb.length for limb in longest if limb.number < 12] or [1.0]))
        self._reach = REACH_WIDTHS * self.half_width + REACH_LENGTH * self._length
        self._starts = {
            number: np.array([limb.ends[0] for limb in group]) for number, group in self._of.items()
        }
        self._after: dict[int, _Chain] = {}

    def chains(self, parent: Limb | None, place: NDArray[np.float64]) -> _Chain:
        """Return the best chain of limbs from a place (end of a limb; None: the neck) and its gain."""
        gain: float = 0.0
        limbs: tuple[Limb, ...] = ()
        for following in _NEXT.get(None if parent is None else parent.number, ()):
            chain = self._chain(following, place, parent, is_after_gap=False)
            gain, limbs = gain + chain.gain, limbs + chain.limbs
        return _Chain(gain, limbs)

    def _chain(
        self, number: int, place: NDArray[np.float64], parent: Limb | None, *, is_after_gap: bool
    ) -> _Chain:
        best = _Chain(0.0, ())
        for limb in self._near(number, place):
            cost, joined = self._joined(limb, place, parent, is_after_gap=is_after_gap)
            if cost < MAX_COST:
                after = self._chains_after(limb)
                gain = self._worth(limb) - cost + after.gain
                if gain > best.gain:
                    best = _Chain(gain, (joined, *after.limbs))
        if not is_after_gap and number not in (6, 9, 12):
            for following in _NEXT.get(number, ()):
                chain = self._chain(following, place, parent, is_after_gap=True)
                if chain.gain - GAP_COST > best.gain:
                    best = _Chain(chain.gain - GAP_COST, chain.limbs)
        return best

    def _near(self, number: int, place: NDArray[np.float64]) -> list[Limb]:
        """The limbs of a number, turned either way, whose first end may be at a place."""
        if number not in self._of:
            return []
        apart = np.abs(self._starts[number] - place).max(axis=1)
        limbs = self._of[number]
        return [limbs[i] for i in np.flatnonzero(apart < 2 * GAP_REACH * self._length + self._reach)]

    def _joined(
        self, limb: Limb, place: NDArray[np.float64], parent: Limb | None, *, is_after_gap: bool
    ) -> tuple[float, Limb]:
        """Return the cost of beginning a limb at a place, and the limb with a hidden end moved there."""
        away = limb.ends[0] - place
        distance = float(np.hypot(*away))
        if is_after_gap:
            return distance / (GAP_REACH * self._length), limb
        if distance < self._reach:
            return distance / self._reach, limb
        cost = HIDDEN_COST + 0.5 * distance / (GAP_REACH * self._length)
        if self._is_along(away, limb.ends[1] - limb.ends[0]):
            return cost, replace(limb, ends=np.array([place, limb.ends[1]]), origin=limb.source)
        if parent is not None and self._is_along(away, parent.ends[1] - parent.ends[0]):
            return cost, limb
        return MAX_COST, limb

    def _is_along(self, step: NDArray[np.float64], direction: NDArray[np.float64]) -> bool:
        """Whether a step from an end of a limb goes on in its direction, or back by less than half of it."""
        length = max(float(np.hypot(*direction)), 1e-6)
        across = abs(step[0] * direction[1] - step[1] * direction[0]) / length
        along = float(step @ direction) / length
        return along > -MAX_EXCESS * length and across < 1.5 * self.half_width + 1

    def _chains_after(self, limb: Limb) -> _Chain:
        if id(limb) not in self._after:
            self._after[id(limb)] = self.chains(limb, limb.ends[1])
        return self._after[id(limb)]

    def _worth(self, limb: Limb) -> float:
        """About 1 for a limb of the usual width, less for flecks and blots."""
        ratio = limb.half_width / self.half_width
        worth = min(ratio, 1.0) if ratio < WIDTH_TOLERANCE else (WIDTH_TOLERANCE / ratio) ** 2
        return worth + TURN_WORTH * limb.turns


def _body(limbs: dict[int, Limb], half_width: float, gain: float) -> Drawn:
    ends: dict[int, list[NDArray[np.float64]]] = {}
    surety: dict[int, list[float]] = {}
    for number, limb in limbs.items():
        for place, joint in enumerate(BODY_LIMBS[number]):
            ends.setdefault(joint, []).append(limb.ends[place])
            surety.setdefault(joint, []).append(float(np.sqrt(limb.brightness)))
    joints, scores = np.zeros((18, 2)), np.zeros(18)
    for joint, places in ends.items():
        is_one_place = np.ptp(places, axis=0).max() < 2 * REACH_WIDTHS * half_width
        middle = np.median(places, axis=0) if joint == NECK else np.mean(places, axis=0)
        joints[joint] = middle if is_one_place or joint == NECK else places[-1]  # the end before it is hidden
        scores[joint] = max(float(np.mean(surety[joint])), MIN_SCORE)
    return Drawn(joints, scores, limbs, half_width, gain)


def centre_joints(body: Drawn, ink: Ink, colour: NDArray[np.int64], colours: NDArray[np.float64]) -> None:
    """Move the joints to the centres of their discs, where the discs are visible."""
    full = luma_of(colours)
    reach = SEARCH_WIDTHS * max(body.half_width, 1.0)
    for joint in np.flatnonzero(body.scores > 0):
        distance = np.abs(ink.places - body.joints[joint]).max(axis=1)
        is_near = (distance < reach) & (colour == joint)
        limb = body.limbs.get(int(joint))
        if limb is not None and joint in BODY_LIMBS[limb.number]:
            is_near &= ink.luma > BRIGHTER * 0.6 * limb.brightness * full[joint]
        if is_near.sum() >= max(3.0, MIN_DISC * np.pi * body.half_width**2):
            body.joints[joint] = ink.places[is_near].mean(axis=0)


def nearest_head(white: Ink, bodies: list[Drawn]) -> NDArray[np.int64]:
    """Return for each white pixel the body whose head is nearest; -1: none is near."""
    if not bodies:
        return np.full(len(white), -1)
    heads = [body.joints[NOSE if body.scores[NOSE] > 0 else NECK] for body in bodies]
    distance = np.linalg.norm(white.places[:, None] - np.array(heads), axis=-1)
    nearest = distance.argmin(axis=1)
    reach = HEAD_REACH * np.array([body.size for body in bodies])[nearest]
    return np.where(distance.min(axis=1) < reach, nearest, -1)


def place_head(body: Drawn, face: DrawnFace, ink: Ink, colour: NDArray[np.int64]) -> None:
    """Put nose, eyes and ears where the face has them: its points hide most of their own drawing."""
    eyes = face.points[RIGHT_EYE_POINTS].mean(axis=0), face.points[LEFT_EYE_POINTS].mean(axis=0)
    score = float(body.scores[NOSE] or body.scores[NECK] or 1.0)
    reach = EAR_REACH * face.size
    for joint, place in zip((NOSE, RIGHT_EYE, LEFT_EYE), (face.points[NOSE_TIP], *eyes)):
        if not (_disc(body, joint, place, reach, ink, colour)):
            body.joints[joint] = place
        body.scores[joint] = score
    for joint, place, eye, limb in zip((RIGHT_EAR, LEFT_EAR), face.ears, eyes, (14, 16)):
        body.scores[joint] = score
        if _disc(body, joint, place, reach, ink, colour):
            continue
        if limb in body.limbs and np.linalg.norm(body.joints[joint] - place) < reach:
            continue
        body.joints[joint] = place
        beyond = (ink.places - eye) @ (place - eye) > EAR_SEEN * float((place - eye) @ (place - eye))
        is_near = np.linalg.norm(ink.places - place, axis=1) < reach
        if (is_near & beyond & (colour == limb)).sum() < MIN_SEEN:
            body.scores[joint] = 0.0


def _disc(
    body: Drawn, joint: int, place: NDArray[np.float64], reach: float, ink: Ink, colour: NDArray[np.int64]
) -> bool:
    """Move a joint of the head to its disc, if one is visible near a place."""
    limb = body.limbs.get(joint)
    if limb is not None:  # of the same colour
        return False
    is_disc = (np.linalg.norm(ink.places - place, axis=1) < reach) & (colour == joint)
    if is_disc.sum() < max(MIN_SEEN, MIN_DISC * np.pi * body.half_width**2):
        return False
    body.joints[joint] = np.median(ink.places[is_disc], axis=0)
    return True
