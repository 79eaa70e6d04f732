"""Motion of a dancer, defined at any time: eased keyframes on a beat plus a groove of sinusoids.

Trunk, head, arms and fingers are joint angles within limits; the feet step from position to position on the
ground, and the legs follow. A motion consists of angles and of lengths in body heights, so any character can
perform it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimic.dancers.skeleton import (
    ARM_LIMITS_DEG,
    HEAD_LIMITS_DEG,
    SPINE_LIMITS_DEG,
    BodyState,
    arm_directions,
)
from mimic.dancers.world import World

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Track:
    """Keyframed values with smooth acceleration between keyframes.

    Args:
        times: times of the keyframes in seconds, increasing, ``K``.
        values: values at the keyframes, ``K x D``.
        move: fraction of each interval in which the value changes; it is constant during the rest.
    """

    times: Array
    values: Array
    move: float = 1.0

    def at(self, times_s: Array) -> Array:
        """Return the values at ``F`` times, ``F x D``; constant before the first and after the last
        keyframe."""
        index = np.clip(np.searchsorted(self.times, times_s, side="right") - 1, 0, len(self.times) - 2)
        start, end = self.times[index], self.times[index + 1]
        u = np.clip((times_s - start) / ((end - start) * self.move), 0, 1)[:, None]
        eased = u * u * u * (u * (6 * u - 15) + 10)
        return self.values[index] + (self.values[index + 1] - self.values[index]) * eased


@dataclass(frozen=True)
class Groove:
    """Small periodic movement added to a track: ``amplitude * sin(2 pi rate t + phase)`` for ``D`` values."""

    amplitude: Array
    rate: Array
    phase: Array

    def at(self, times_s: Array) -> Array:
        return self.amplitude * np.sin(2 * np.pi * self.rate * times_s[:, None] + self.phase)


@dataclass(frozen=True)
class Steps:
    """Movement of one foot: fixed positions between swings, raised along an arc during each swing."""

    place: Track
    start: Array
    duration: Array
    height: Array

    def at(self, times_s: Array) -> Array:
        """Return sideways position, position towards the camera, yaw and height above the ground, ``F x
        4``."""
        u = np.clip((times_s[:, None] - self.start) / self.duration, 0, 1)
        lift = (self.height * np.sin(np.pi * u) ** 2).sum(axis=1)
        return np.concatenate([self.place.at(times_s), lift[:, None]], axis=1)


@dataclass(frozen=True)
class Motion:
    """A dance; `at` returns the body's state at any time. Units are radians, body heights and seconds."""

    duration_s: float
    root: Track
    dip: Track
    bounce: Groove
    spine: Track
    spine_groove: Groove
    head: Track
    head_groove: Groove
    arms: tuple[Track, Track]
    arm_groove: Groove
    fingers: tuple[Track, Track]
    feet: tuple[Steps, Steps]
    mouth: Track

    def at(self, times_s: NDArray[np.floating] | list[float]) -> BodyState:
        """Return the body's state at ``F`` times in seconds; constant before the start and after the end."""
        t = np.asarray(times_s, float).reshape(-1)
        spine = self.spine.at(t) + self.spine_groove.at(t)
        arms = np.stack([track.at(t) for track in self.arms], axis=1)
        arms = arms + self.arm_groove.at(t).reshape(-1, 2, 6)
        return BodyState(
            root=self.root.at(t),
            dip=np.abs(self.dip.at(t)[:, 0] + self.bounce.at(t)[:, 0]),
            spine=_within(spine, np.radians(np.concatenate([SPINE_LIMITS_DEG, SPINE_LIMITS_DEG]))),
            head=_within(self.head.at(t) + self.head_groove.at(t), np.radians(HEAD_LIMITS_DEG)),
            arms=_within(arms, np.radians(ARM_LIMITS_DEG)),
            fingers=np.clip(np.stack([track.at(t) for track in self.fingers], axis=1), 0, 1),
            feet=np.stack([steps.at(t) for steps in self.feet], axis=1),
            mouth=self.mouth.at(t)[:, 0],
        )


def _within(angles: Array, limits: Array) -> Array:
    """Limit angles smoothly: unchanged inside their limits, compressed over the last tenth of the range."""
    low, high = limits[:, 0], limits[:, 1]
    margin = 0.1 * (high - low)
    over, under = angles - (high - margin), (low + margin) - angles
    return (
        np.clip(angles, low + margin, high - margin)
        + margin * np.tanh(np.maximum(over, 0) / margin)
        - margin * np.tanh(np.maximum(under, 0) / margin)
    )


# Gestures in degrees: azimuth, abduction, twist, elbow, pronation, wrist.
_GESTURES = {
    "rest": (15, 14, 0, 18, 25, 8),
    "jog": (25, 22, 5, 88, 10, 0),
    "out": (8, 84, 10, 14, 40, 0),
    "low_out": (5, 48, 0, 22, 35, -5),
    "high": (15, 132, 20, 28, 20, 0),
    "overhead": (30, 158, 10, 30, 20, 10),
    "goal": (4, 88, 84, 84, 30, -8),
    "wave": (12, 62, 78, 112, 25, -10),
    "scarecrow": (-4, 82, -62, 80, 30, 0),
    "hip": (-28, 40, -38, 96, 60, 20),
    "chest": (62, 58, 20, 104, 55, 5),
    "forward": (84, 78, 20, 22, 45, -8),
    "diagonal": (46, 96, 30, 25, 40, -5),
    "punch": (72, 68, 30, 58, 65, 0),
    "salute": (18, 84, 62, 132, 40, 10),
    "back": (-30, 28, 0, 16, 35, 10),
}
# Not drawn at random: forearms across the chest.
_CHOREOGRAPHED = {"crossed": (66, 32, 20, 106, 50, 0)}
# Curl of thumb, index, middle, ring, little finger; spread.
_HAND_SHAPES = {
    "open": (0.02, 0.03, 0.03, 0.04, 0.05, 0.9),
    "relaxed": (0.2, 0.22, 0.28, 0.32, 0.36, 0.35),
    "flat": (0.1, 0.04, 0.04, 0.04, 0.04, 0.1),
    "fist": (0.75, 0.92, 0.95, 0.95, 0.95, 0.05),
    "point": (0.65, 0.04, 0.9, 0.92, 0.92, 0.1),
    "victory": (0.75, 0.03, 0.03, 0.9, 0.92, 0.75),
    "thumb": (0.0, 0.9, 0.93, 0.93, 0.93, 0.05),
    "claw": (0.3, 0.5, 0.5, 0.5, 0.5, 0.7),
    "rock": (0.5, 0.03, 0.9, 0.92, 0.05, 0.4),
}
_HAND_WEIGHTS = np.array([0.28, 0.22, 0.1, 0.1, 0.09, 0.07, 0.05, 0.05, 0.04])


def sample_motion(rng: np.random.Generator, world: World, *, duration_s: float) -> Motion:
    """Draw a random dance of at least `duration_s` seconds."""
    beat = float(rng.uniform(*world.beat_s))
    num_beats = int(np.ceil(max(duration_s, beat) / beat)) + 3
    beats = np.asarray(beat * (np.arange(num_beats) - rng.uniform(0.2, 1.2)), np.float64)
    yaw = _yaws(rng, world, num_beats)
    root, feet = _steps(rng, world, beats, beat, yaw)
    calm = rng.uniform(0.5, 1.0)
    half_rate = 0.5 / beat
    return Motion(
        duration_s=float(duration_s),
        root=root,
        dip=Track(beats, rng.uniform(0.004, 0.035, (num_beats, 1)) * rng.choice([1, 1, 2], (num_beats, 1))),
        bounce=Groove(rng.uniform(0.0, 0.008, 1), np.array([1 / beat]), rng.uniform(0, 6.28, 1)),
        spine=Track(
            beats, np.radians(calm * rng.normal(0, [5, 5, 7, 4, 5, 7], (num_beats, 6)) + [1, 0, 0, 1, 0, 0])
        ),
        spine_groove=_groove(rng, np.radians([1.5, 2.5, 3, 1.5, 2.5, 3]), half_rate),
        head=_head(rng, beats, yaw),
        head_groove=_groove(rng, np.radians([2, 2.5, 2.5]), half_rate),
        arms=_arms(rng, world, beats),
        arm_groove=_groove(rng, np.radians(np.tile([3.0, 3.0, 5.0, 5.0, 4.0, 5.0], 2)), half_rate),
        fingers=_fingers(rng, beats),
        feet=feet,
        mouth=Track(beats, np.clip(rng.normal(-0.1, 0.4, (num_beats, 1)), 0, 1)),
    )


def _groove(rng: np.random.Generator, amplitude: Array, rate: float) -> Groove:
    size = len(amplitude)
    return Groove(
        amplitude * rng.uniform(0.2, 1.0, size),
        rate * rng.choice([1.0, 1.0, 2.0], size),
        rng.uniform(0, 6.28, size),
    )


def _yaws(rng: np.random.Generator, world: World, num_beats: int) -> Array:
    """Draw the yaw of the pelvis at each beat, in radians."""
    limit = np.radians(world.turn_deg) * 0.8  # the twist of the spine is added to it
    goal = rng.uniform(-limit, limit)
    yaw = [rng.uniform(-0.5, 0.5) * limit]
    spin = 0.0
    turning = 0
    if rng.uniform() < world.full_turn_probability:
        turning = int(rng.integers(3, 6))
        spin = float(rng.choice([-1, 1])) * 2 * np.pi / turning
    start = int(rng.integers(1, max(2, num_beats - turning)))
    for i in range(1, num_beats):
        if rng.uniform() < 0.35:
            goal = np.clip(rng.normal(0, 0.55 * limit), -limit, limit)
        full = 2 * np.pi * np.round(yaw[-1] / (2 * np.pi))
        step = spin if start <= i < start + turning else np.clip(goal - (yaw[-1] - full), -0.6, 0.6)
        yaw.append(yaw[-1] + step)
    return np.array(yaw)


def _steps(
    rng: np.random.Generator, world: World, beats: Array, beat: float, yaw: Array
) -> tuple[Track, tuple[Steps, Steps]]:
    """Draw alternating steps: in each beat one foot swings to a new position while the pelvis is over the
    other."""
    num_beats = len(beats)
    centre = np.zeros((num_beats, 2))
    places = [np.zeros((num_beats, 3)), np.zeros((num_beats, 3))]
    lifts = np.zeros((2, num_beats))
    width = rng.uniform(0.055, 0.085)
    first = int(rng.integers(2))
    for i in range(num_beats):
        if i == 0 or rng.uniform() < 0.5:
            centre[i] = world.travel * rng.uniform(-1, 1, 2)
        else:
            centre[i] = centre[i - 1]
        for side, sign in ((0, 1.0), (1, -1.0)):
            swings = i == 0 or (first + i) % 2 == side
            if not swings:
                places[side][i] = places[side][i - 1]
                continue
            out = width + rng.uniform(0, 0.05)
            ahead = rng.uniform(-0.04, 0.05)
            cosine, sine = np.cos(yaw[i]), np.sin(yaw[i])
            places[side][i] = [
                centre[i, 0] + sign * out * cosine + ahead * sine,
                centre[i, 1] - sign * out * sine + ahead * cosine,
                yaw[i] + sign * rng.uniform(0.1, 0.4),
            ]
            is_high = rng.uniform() < world.high_step_probability
            lifts[side, i] = rng.uniform(0.1, 0.26) if is_high else rng.uniform(0.015, 0.05)
    weight = np.zeros((num_beats, 2))
    for i in range(num_beats):
        standing = places[1 - (first + i) % 2][i, :2]
        other = places[(first + i) % 2][i, :2]
        weight[i] = 0.62 * standing + 0.38 * other
    root = Track(beats, np.concatenate([weight, yaw[:, None]], axis=1))
    # Foot i arrives at beat i; it swings during the later part of the interval before.
    feet = tuple(
        Steps(
            Track(beats - 0.05 * beat, places[side], move=0.95),
            beats[:-1],
            np.full(num_beats - 1, 0.9 * beat),
            lifts[side, 1:],
        )
        for side in (0, 1)
    )
    return root, (feet[0], feet[1])


def _head(rng: np.random.Generator, beats: Array, yaw: Array) -> Track:
    """Draw head movements that mostly face the camera, as far as the neck allows."""
    nearest = yaw - 2 * np.pi * np.round(yaw / (2 * np.pi))
    angles = np.radians(rng.normal(0, [12, 6, 6], (len(beats), 3)))
    angles[:, 0] -= np.clip(0.6 * nearest, -0.8, 0.8)
    return Track(beats, angles)


def _arms(rng: np.random.Generator, world: World, beats: Array) -> tuple[Track, Track]:
    """Draw gestures of both arms, sometimes mirrored, that stay within reach and outside the body."""
    tracks: list[Track] = []
    mirrored = rng.uniform(size=len(beats)) < 0.4
    for side in (0, 1):
        keep = [0]
        while keep[-1] < len(beats) - 1:
            keep.append(min(keep[-1] + int(rng.choice([1, 2], p=[0.55, 0.45])), len(beats) - 1))
        values = [_gesture(rng, world, None, None)]
        for i in keep[1:]:
            wanted = _value_at(tracks[0], float(beats[i])) if side == 1 and mirrored[i] else None
            values.append(_gesture(rng, world, values[-1], wanted))
        tracks.append(Track(beats[keep], np.stack(values), move=float(rng.uniform(0.7, 1.0))))
    return tracks[0], tracks[1]


def _value_at(track: Track, time: float) -> Array:
    return track.at(np.array([time]))[0]


_GESTURE_TABLE = np.radians(np.array(list(_GESTURES.values()), float))


def _gesture(rng: np.random.Generator, world: World, previous: Array | None, wanted: Array | None) -> Array:
    """Draw gestures until the movement from the previous one stays outside the body and within reach."""
    candidates = _GESTURE_TABLE[rng.integers(len(_GESTURE_TABLE), size=14)]
    candidates = candidates + np.radians(rng.normal(0, [10, 9, 14, 12, 16, 10], candidates.shape))
    if wanted is not None:
        candidates[0] = wanted
    candidates = np.concatenate([candidates, _GESTURE_TABLE[:1]])
    limits = np.radians(ARM_LIMITS_DEG)
    candidates = np.clip(candidates, limits[:, 0] + 0.05, limits[:, 1] - 0.05)
    way = np.array([1.0]) if previous is None else np.array([0.3, 0.5, 0.75, 1.0])
    start = candidates if previous is None else np.broadcast_to(previous, candidates.shape)
    path = start[:, None] + (candidates - start)[:, None] * way[:, None]
    is_free = np.logical_and.reduce(_is_free(path, world), axis=1)
    is_free[-1] = True  # fall back to arms at rest
    return candidates[int(np.argmax(is_free))]


def _is_free(angles: Array, world: World) -> NDArray[np.bool_]:
    """Return whether a standard left arm with angles ``... x 6`` avoids trunk and head and is within
    reach."""
    upper, forearm, hand = arm_directions(angles, 0)
    elbow = np.array([0.104, 0.8, 0.0]) + 0.16 * upper
    wrist = elbow + 0.138 * forearm
    tip = wrist + 0.115 * hand[..., 1]
    x, y, z = np.moveaxis(np.stack([wrist, 0.5 * (wrist + tip), tip, 0.5 * (elbow + wrist)]), -1, 0)
    margin = np.array([0.03, 0.03, 0.012, 0.025]).reshape(4, *[1] * (x.ndim - 1))
    trunk = (x / (0.095 + margin)) ** 2 + (z / (0.062 + margin)) ** 2
    head = (x / (0.06 + margin)) ** 2 + (z / (0.07 + margin)) ** 2 + ((y - 0.925) / (0.085 + margin)) ** 2
    misses = ((trunk > 1) | (y <= 0.42) | (y >= 0.84)) & (head > 1)
    within = (np.abs(tip[..., 0]) < world.reach_side) & (tip[..., 1] < world.reach_up)
    return np.asarray(np.logical_and.reduce(misses, axis=0) & within)


def arms_through(times: Array, gestures: Sequence[str]) -> Track:
    """Return the track of one arm that is in the named gestures at the given seconds."""
    known = _GESTURES | _CHOREOGRAPHED
    return Track(times, np.radians(np.array([known[name] for name in gestures], float)), move=0.9)


def fingers_through(times: Array, shapes: Sequence[str]) -> Track:
    """Return the track of one hand that has the named shapes at the given seconds."""
    return Track(times, np.array([_HAND_SHAPES[name] for name in shapes]), move=0.6)


def _fingers(rng: np.random.Generator, beats: Array) -> tuple[Track, Track]:
    shapes = np.array(list(_HAND_SHAPES.values()))
    tracks = []
    for _ in range(2):
        chosen = shapes[rng.choice(len(shapes), size=len(beats), p=_HAND_WEIGHTS)]
        stays = rng.uniform(size=len(beats)) < 0.45
        for i in range(1, len(beats)):
            if stays[i]:
                chosen[i] = chosen[i - 1]
        chosen = np.clip(chosen + rng.normal(0, 0.04, chosen.shape), 0, 1)
        tracks.append(Track(beats, chosen, move=0.6))
    return tracks[0], tracks[1]
