"""Corrections of fitted poses as data: scale, offset, rotation, limbs, and moves of points at keyframes.

Legend: F frames, P people, K = 134 points.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.lengths import BONES
from pose.limbs import with_limbs
from pose.skeletons import (
    BODY_JOINT_NAMES,
    FACE,
    LEFT_ANKLE,
    LEFT_HAND,
    LEFT_HIP,
    NECK,
    RIGHT_ANKLE,
    RIGHT_HAND,
    RIGHT_HIP,
    VISIBLE_ABOVE,
)
from pose.text import shown
from pose.types import NUM_POINTS, PoseError, PoseSequence

Array = NDArray[np.float64]

LIMBS = (*(name for name in BONES if name not in ("ears", "eyes", "face")), "head", "foot")
"""Names of `limbs`; left and right take the same factor."""

_HEAD = [0, 14, 15, 16, 17]
PARTS: dict[str, list[int]] = {
    **{name: [number] for number, name in enumerate(BODY_JOINT_NAMES)},
    "head": [*_HEAD, *range(NUM_POINTS)[FACE]],
    "face": [*range(NUM_POINTS)[FACE]],
    "left_hand": [*range(NUM_POINTS)[LEFT_HAND]],
    "right_hand": [*range(NUM_POINTS)[RIGHT_HAND]],
    "left_foot": [18, 19, 20],
    "right_foot": [21, 22, 23],
}
"""Names of points in keyframes. A wrist takes its hand along, and an ankle its foot."""
PARTS["left_wrist"] += PARTS["left_hand"]
PARTS["right_wrist"] += PARTS["right_hand"]
PARTS["left_ankle"] += PARTS["left_foot"]
PARTS["right_ankle"] += PARTS["right_foot"]

LARGEST_FACTOR = 10.0
"""Of `scale` and `limbs`; the smallest is its inverse."""
_KEYS = ("scale", "offset", "rotate", "limbs", "keyframes", "person")
_EXAMPLE = "{scale: 1.1, offset: [0.02, 0], rotate: 3, limbs: {forearm: 1.1}, keyframes: […]}"


@dataclass(frozen=True)
class Keyframe:
    """Moves of points at one time; between keyframes they change linearly."""

    time: float
    is_seconds: bool
    """Whether `time` is in seconds of the driving frames; else it is a frame's number, from 0."""
    points: Mapping[str, tuple[float, float]]
    """Moves right and down by name (`PARTS`), as fractions of the frame's width and height."""


@dataclass(frozen=True)
class Adjustment:
    """Corrections of driving poses, applied after the fit."""

    scale: float = 1.0
    """Factor of the whole figure, about the ground between its feet, or its middle where no feet are seen."""
    offset: tuple[float, float] = (0.0, 0.0)
    """Shift to the right and down, as fractions of the frame's width and height."""
    rotate: float = 0.0
    """Turn in degrees, clockwise, about the same point as `scale`."""
    limbs: Mapping[str, float] = field(default_factory=dict)
    """Factors of bones by name (`LIMBS`)."""
    keyframes: tuple[Keyframe, ...] = ()
    person: int | None = None
    """The person that is corrected, along P; None is everybody."""

    @classmethod
    def from_dict(cls, data: object) -> Adjustment:
        """Read an adjustment from plain data, as in a YAML file.

        Raises:
            PoseError: a key is unknown or a value is invalid.
        """
        if not isinstance(data, Mapping):
            raise PoseError(f"adjust is {shown(data)}; expected keys such as {_EXAMPLE}")
        _check_keys(data, _KEYS, "adjust")
        limbs = data.get("limbs") or {}
        if not isinstance(limbs, Mapping):
            raise PoseError(
                f"adjust.limbs is {shown(limbs)}; expected factors by name, such as {{forearm: 1.1}}"
            )
        _check_keys(limbs, LIMBS, "adjust.limbs")
        keyframes = data.get("keyframes") or ()
        if not isinstance(keyframes, list | tuple):
            raise PoseError(f"adjust.keyframes is {shown(keyframes)}; expected a list")
        person = data.get("person")
        if person is not None and (isinstance(person, bool) or not isinstance(person, int) or person < 0):
            raise PoseError(f"adjust.person is {shown(person)}; expected an index from 0")
        return cls(
            scale=_factor(data.get("scale", 1.0), "adjust.scale"),
            offset=_move(data.get("offset", (0.0, 0.0)), "adjust.offset"),
            rotate=_number(data.get("rotate", 0.0), "adjust.rotate"),
            limbs={name: _factor(value, f"adjust.limbs.{name}") for name, value in limbs.items()},
            keyframes=tuple(_keyframe(each, number) for number, each in enumerate(keyframes)),
            person=person,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads."""
        data: dict[str, Any] = {"scale": self.scale, "offset": list(self.offset), "rotate": self.rotate}
        data["limbs"] = dict(self.limbs)
        data["keyframes"] = [
            {
                "seconds" if each.is_seconds else "frame": each.time if each.is_seconds else int(each.time),
                "points": {name: list(move) for name, move in each.points.items()},
            }
            for each in self.keyframes
        ]
        return data if self.person is None else {**data, "person": self.person}


def adjust_pose(sequence: PoseSequence, adjustment: Adjustment) -> PoseSequence:
    """Apply corrections to poses: limbs first, then scale, rotation and offset, then keyframes.

    Returns:
        the corrected sequence; `metadata["adjust"]` records the corrections.

    Raises:
        PoseError: there is no such person.
    """
    if adjustment.person is not None and adjustment.person >= sequence.num_people:
        raise PoseError(
            f"adjust.person is {shown(adjustment.person)}, but the poses hold {sequence.num_people} (0 to "
            f"{sequence.num_people - 1})"
        )
    people = range(sequence.num_people) if adjustment.person is None else [adjustment.person]
    heights = np.array([sequence.width / sequence.height, 1.0])
    points = sequence.points.copy()
    moves = _moves(adjustment.keyframes, len(sequence), sequence.fps)
    for person in people:
        scores = np.where(sequence.is_seen[:, person, None], sequence.scores[:, person], 0.0)
        body = points[:, person] * heights
        if adjustment.limbs:
            body = with_limbs(body, scores, _all_factors(adjustment.limbs))
        body = _turned(body, _pivot(body, scores), adjustment)
        points[:, person] = body / heights + np.array(adjustment.offset) + moves
    metadata = {**sequence.metadata, "adjust": adjustment.as_dict()}
    return replace(sequence, points=points, metadata=metadata)


def _turned(body: Array, pivot: Array, adjustment: Adjustment) -> Array:
    if adjustment.scale == 1.0 and adjustment.rotate == 0.0:
        return body
    angle = math.radians(adjustment.rotate)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = adjustment.scale * np.array([[cosine, sine], [-sine, cosine]])  # y points down: clockwise
    return np.asarray((body - pivot) @ turn + pivot)


def _pivot(body: Array, scores: Array) -> Array:
    """Middle of the ground between the feet over the clip; the body's middle where no feet are seen."""
    for joints in ([RIGHT_ANKLE, LEFT_ANKLE], [RIGHT_HIP, LEFT_HIP], [NECK], list(range(18))):
        is_seen = scores[:, joints] > VISIBLE_ABOVE
        if is_seen.any():
            return np.asarray(np.median(body[:, joints][is_seen], axis=0))
    return np.asarray(body[:, :18].mean(axis=(0, 1)))


def _all_factors(limbs: Mapping[str, float]) -> dict[str, float]:
    return {**dict.fromkeys([*BONES, "head", "foot", "way"], 1.0), **limbs}


def _moves(keyframes: Iterable[Keyframe], num_frames: int, fps: float) -> Array:
    """Moves ``F x K x 2`` of the points, constant before a point's first keyframe and after its last."""
    moves = np.zeros((num_frames, NUM_POINTS, 2))
    tracks: dict[str, list[tuple[float, tuple[float, float]]]] = {}
    for each in keyframes:
        frame = each.time * fps if each.is_seconds else each.time
        for name, move in each.points.items():
            tracks.setdefault(name, []).append((frame, move))
    for name, track in tracks.items():
        track.sort(key=lambda item: item[0])
        times, values = [frame for frame, _ in track], np.array([move for _, move in track])
        along = np.stack(
            [np.interp(np.arange(num_frames), times, values[:, axis]) for axis in (0, 1)], axis=1
        )
        moves[:, PARTS[name]] += along[:, None]
    return moves


def _keyframe(data: object, number: int) -> Keyframe:
    place = f"adjust.keyframes[{number}]"
    if not isinstance(data, Mapping):
        raise PoseError(
            f"{place} is {shown(data)}; expected {{frame: 10, points: {{left_wrist: [0.02, 0]}}}}"
        )
    _check_keys(data, ("frame", "seconds", "points"), place)
    if ("frame" in data) == ("seconds" in data):
        raise PoseError(f"{place} needs its time: either frame or seconds")
    is_seconds = "seconds" in data
    time = _number(data["seconds" if is_seconds else "frame"], f"{place}.time")
    if time < 0 or (not is_seconds and time != int(time)):
        raise PoseError(f"{place} is at {time:g}; expected a frame from 0, or seconds from 0")
    points = data.get("points")
    if not isinstance(points, Mapping) or not points:
        raise PoseError(
            f"{place}.points is {shown(points)}; expected moves by name, such as left_wrist: [0.02, 0]"
        )
    _check_keys(points, PARTS, f"{place}.points")
    moves = {str(name): _move(move, f"{place}.points.{name}") for name, move in points.items()}
    return Keyframe(time, is_seconds, moves)


def _check_keys(data: Mapping[Any, Any], known: Iterable[str], place: str) -> None:
    known = list(known)
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise PoseError(f"{place} has no {shown(key)}; {hint}")


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e6:
        raise PoseError(f"{place} is {shown(value)}; expected a number")
    return float(value)


def _factor(value: object, place: str) -> float:
    factor = _number(value, place)
    if not 1 / LARGEST_FACTOR <= factor <= LARGEST_FACTOR:
        raise PoseError(f"{place} is {shown(value)}; expected a factor from {1 / LARGEST_FACTOR:g} to 10")
    return factor


def _move(value: object, place: str) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise PoseError(f"{place} is {shown(value)}; expected [right, down] in fractions of the frame")
    right, down = (_number(each, place) for each in value)
    return right, down
