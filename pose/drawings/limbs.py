"""Limbs of a drawing: stretches of one colour, each with two ends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.drawings.colours import Ink, luma_of
from pose.skeletons import BODY_LIMBS

MIN_PIXELS = 4
MIN_PART = 0.05  # of the pixels of the largest piece of a colour
MAX_GAP = 0.5  # of the stretch of both pieces: what is drawn later hides at most so much of a limb
MAX_TURN = np.radians(10.0)
MIN_ELONGATION = 1.8
SEEN_WHOLE = 0.08  # of the length: ends of the outline and of the ellipse's moments agree
MIN_BRIGHTNESS, MAX_BRIGHTNESS = 0.7, 1.4  # of pieces of one limb; joints are brighter by 1 / 0.6 and more
MIN_WIDTH = 0.5  # of pieces of one limb; flecks between two colours are thinner
DISC_REACH = 1.5  # half widths, from the end of a limb to pixels of its joint
MIN_SHARE = 0.12  # of the longest piece of a colour


@dataclass(frozen=True)
class Piece:
    """A connected region of one colour, and the ellipse with the same moments."""

    places: NDArray[np.float64]
    luma: float

    @cached_property
    def centre(self) -> NDArray[np.float64]:
        return np.asarray(self.places.mean(axis=0))

    @cached_property
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Half axes of the ellipse, the shorter first, and its directions as columns."""
        off = self.places - self.centre
        values, vectors = np.linalg.eigh(off.T @ off / len(off) + np.eye(2) / 12)
        return 2 * np.sqrt(np.maximum(values, 0.0)), vectors

    def ends(self) -> NDArray[np.float64]:
        """Both ends, ``2 x 2``.

        A filled ellipse reaches two standard deviations from its centre. If the outline says otherwise,
        something hides part of the limb, and the outline counts.
        """
        half, vectors = self.axes
        along = (self.places - self.centre) @ vectors[:, 1]
        outline = np.array([along.min() - 0.5, along.max() + 0.5])
        moments = np.array([-half[1], half[1]])
        is_whole = np.abs(outline - moments).max() < SEEN_WHOLE * 2 * half[1] + 1.0
        return np.asarray(self.centre + np.outer(moments if is_whole else outline, vectors[:, 1]))


@dataclass(frozen=True)
class Limb:
    """A drawn limb: its number among `BODY_LIMBS`, its ends ``2 x 2`` in pixels, half its width."""

    number: int
    ends: NDArray[np.float64]
    half_width: float
    brightness: float
    """Product of the scores of its joints."""
    turns: float = 0.0
    """Evidence that the first end is the first joint, from the discs of the joints at the ends: -1 to 1."""
    origin: Limb | None = None
    """The limb as found, of one that was turned round."""

    @property
    def source(self) -> Limb:
        return self if self.origin is None else self.origin

    def turned(self) -> Limb:
        """Return the limb with its ends exchanged."""
        return replace(self, ends=self.ends[::-1], turns=-self.turns, origin=self.source)

    @property
    def length(self) -> float:
        return float(np.linalg.norm(self.ends[0] - self.ends[1]))


def find_limbs(ink: Ink, colour: NDArray[np.int64], body: NDArray[np.float64], dimmed: float) -> list[Limb]:
    """Return the limbs of everybody in a drawing.

    Args:
        ink: the drawn pixels.
        colour: number of each pixel's colour.
        body: colours of the limbs.
        dimmed: brightness of limbs in relation to their joints.
    """
    full = dimmed * luma_of(body)
    found = []
    for number in range(len(BODY_LIMBS)):
        for piece in _joined(_pieces(ink, colour == number)):
            half, _ = piece.axes
            brightness = min(piece.luma / full[number], 1.0)
            found.append(Limb(number, piece.ends(), float(half[0]), float(brightness)))
    usual = usual_half_width(found)
    of_joint = [ink.places[colour == joint] for joint in range(len(body))]
    return [
        replace(limb, turns=_turns(limb, of_joint, usual))
        for limb in found
        if limb.half_width > MIN_WIDTH * usual
    ]


def _turns(limb: Limb, of_joint: list[NDArray[np.float64]], half_width: float) -> float:
    """Whether the discs at the ends show that the first end is the first joint (1) or the second (-1)."""
    reach = DISC_REACH * half_width + 1
    seen = [
        [bool((np.abs(of_joint[joint] - end).max(axis=1) < reach).sum() >= MIN_PIXELS) for end in limb.ends]
        for joint in BODY_LIMBS[limb.number]
    ]
    return (seen[0][0] + seen[1][1] - seen[0][1] - seen[1][0]) / 2


def usual_half_width(limbs: list[Limb]) -> float:
    """Half the width of the strokes: the median over trunk, arms and legs, long limbs counting more."""
    counted = [limb for limb in limbs if limb.number < 12] or limbs
    if not counted:
        return 0.0
    widths = np.array([limb.half_width for limb in counted])
    weights = np.array([limb.length**2 for limb in counted])
    order = np.argsort(widths)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(widths[order][np.searchsorted(share, 0.5)])


def _pieces(ink: Ink, chosen: NDArray[np.bool_]) -> list[Piece]:
    """Connected regions of the chosen pixels, the longest first."""
    if chosen.sum() < MIN_PIXELS:
        return []
    places, luma = ink.places[chosen], ink.luma[chosen]
    corner = places.min(axis=0).astype(np.int64)
    columns, rows = (places.astype(np.int64) - corner + 1).T
    mask = np.zeros((rows.max() + 2, columns.max() + 2), np.uint8)
    mask[rows, columns] = 1
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels = cv2.connectedComponents(closed, connectivity=8)
    label = labels[rows, columns]
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    fewest = max(MIN_PIXELS, MIN_PART * max(len(group) for group in groups))
    pieces = [Piece(places[group], float(np.median(luma[group]))) for group in groups if len(group) >= fewest]
    return sorted(pieces, key=lambda piece: -piece.axes[0][1])


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Put pieces in one line together; leave out what is no limb: joints, and flecks between two colours."""
    limbs: list[Piece] = []
    for piece in pieces:
        for i, limb in enumerate(limbs):
            if _continues(limb, piece):
                limbs[i] = Piece(np.concatenate([limb.places, piece.places]), limb.luma)
                break
        else:
            limbs.append(piece)
    if not limbs:
        return []
    longest = limbs[0].axes[0][1]
    return [limb for limb in limbs if limb.axes[0][1] >= MIN_SHARE * longest]


def _continues(limb: Piece, piece: Piece) -> bool:
    half, vectors = limb.axes
    own = piece.axes
    is_like = MIN_BRIGHTNESS < piece.luma / limb.luma < MAX_BRIGHTNESS and own[0][0] > MIN_WIDTH * half[0]
    if half[1] < MIN_ELONGATION * half[0] or not is_like:
        return False
    off = piece.centre - limb.centre
    along, across = np.abs(off @ vectors[:, 1]), np.abs(off @ vectors[:, 0])
    gap = along - half[1] - own[0][1]
    if gap > MAX_GAP * 2 * (half[1] + own[0][1]) or across > 1.0 + half[0] + np.tan(MAX_TURN / 2) * along / 2:
        return False
    is_line = own[0][1] > MIN_ELONGATION * own[0][0]
    return not is_line or abs(float(own[1][:, 1] @ vectors[:, 1])) > np.cos(MAX_TURN)
