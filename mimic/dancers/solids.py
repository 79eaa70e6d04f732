"""Collect the solids of a figure with their parts, colours, rings and stretches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.character import Colour

Array = NDArray[np.float64]

# Values of `RenderedClip.part_ids`.
NO_PART, TORSO, HEAD, HAIR = 0, 1, 2, 3
LEFT_UPPER_ARM, LEFT_FOREARM, LEFT_HAND, LEFT_THIGH, LEFT_SHIN, LEFT_FOOT = range(4, 10)
RIGHT_UPPER_ARM, RIGHT_FOREARM, RIGHT_HAND, RIGHT_THIGH, RIGHT_SHIN, RIGHT_FOOT = range(10, 16)
PART_NAMES = (
    "background", "torso", "head", "hair",
    "left_upper_arm", "left_forearm", "left_hand", "left_thigh", "left_shin", "left_foot",
    "right_upper_arm", "right_forearm", "right_hand", "right_thigh", "right_shin", "right_foot",
)  # fmt: skip

ROUND = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Rings:
    """Rings on a part: ``(position - origin) . axis`` is the ring coordinate, and the second half of each
    unit has the second colour."""

    origin: Array
    axis: Array
    """Direction of the rings, ``F x 3``, in rings per stage unit."""


@dataclass
class SolidList:
    """Growing list of solids in stage coordinates, each with ``F`` frames."""

    num_frames: int
    a: list[Array] = field(default_factory=list)
    b: list[Array] = field(default_factory=list)
    ra: list[float] = field(default_factory=list)
    rb: list[float] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    first: list[Colour] = field(default_factory=list)
    second: list[Colour] = field(default_factory=list)
    rings: list[Rings | None] = field(default_factory=list)
    gloss: list[float] = field(default_factory=list)
    stretched: list[int] = field(default_factory=list)
    frames: list[Array] = field(default_factory=list)
    scales: list[tuple[float, float, float]] = field(default_factory=list)

    def add(
        self,
        part: int,
        colour: Colour,
        a: Array,
        b: Array,
        ra: float,
        rb: float | None = None,
        *,
        frame: Array | None = None,
        scale: tuple[float, float, float] = ROUND,
        second: Colour | None = None,
        rings: Rings | None = None,
        gloss: float = 0.0,
    ) -> None:
        """Add a swept sphere; with a frame ``F x 3 x 3``, it is stretched by `scale` along its columns."""
        if frame is not None:
            self.stretched.append(len(self.a))
            self.frames.append(frame)
            self.scales.append(scale)
        self.a.append(a)
        self.b.append(b)
        self.ra.append(ra)
        self.rb.append(ra if rb is None else rb)
        self.part.append(part)
        self.first.append(colour)
        self.second.append(second or colour)
        self.rings.append(rings)
        self.gloss.append(gloss)


def place(origin: Array, frame: Array, offset: tuple[float, float, float] | Array, unit: float) -> Array:
    return origin + unit * (frame @ np.asarray(offset, float))


def tint(colour: Colour, factor: float) -> Colour:
    r, g, b = (min(1.0, c * factor) for c in colour)
    return r, g, b
