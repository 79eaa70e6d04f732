"""Rendered pairs for `benchmarks.fit_quality`: A's motion, B's picture, and B doing A's motion.

Legend: F frames, K = 134 points, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.character import Body, Character
from mimic.dancers.motion import Motion, Steps, Track
from mimic.dancers.noise import add_detector_noise
from mimic.dancers.render import FRAME_HEIGHTS
from mimic.dancers.views import CHEST, HIPS, framed, seated
from pose import PoseSequence

SIZE = 128
FPS = 6.0
NUM_FRAMES = 18

CHILD = Body(
    height=0.75,
    head=0.11,
    shin=0.196,
    thigh=0.2,
    shoulder_width=0.1,
    upper_arm=0.145,
    forearm=0.122,
    neck=0.03,
)
CARTOON = Body(
    height=0.9, head=0.19, shin=0.13, thigh=0.14, neck=0.02, shoulder_width=0.1, pelvis_to_waist=0.07,
    waist_to_chest=0.09, chest_to_neck=0.09, upper_arm=0.12, forearm=0.105, hip_width=0.05,
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """What a fit is given, and what it should come to."""

    driving: PoseSequence
    """A's motion as an estimator would find it."""
    reference: PoseSequence
    """The pose in B's picture, F = 1."""
    silhouette: NDArray[np.bool_]
    """The pixels of B in the picture, ``H x W``."""
    truth: PoseSequence
    """B's exact poses in A's motion, which begins where B stands in the picture."""
    body_height: float
    """B's height as a fraction of the frame's."""


def make_pair(case: str, seed: int) -> Pair:
    """Render one pair of a case; the same seed gives the same pair."""
    rng = np.random.default_rng([90, seed, *case.encode()])
    world = replace(
        World.rich(),
        full_turn_probability=0.0,
        turn_deg=50.0,
        half_body_probability=0.0,
        proportion_variation=0.12,
    )
    performer, model = sample_character(rng, world), sample_character(rng, world)
    motion, resting = (sample_motion(rng, world, duration_s=NUM_FRAMES / FPS) for _ in range(2))
    if case == "near_far":
        performer, model = (_zoomed(each, float(rng.uniform(0.3, 1.1))) for each in (performer, model))
    elif case in ("child", "cartoon"):
        small = CHILD if case == "child" else CARTOON
        small = replace(small, height=small.height * float(rng.uniform(0.9, 1.1)))
        if seed % 3 == 2:
            performer = replace(performer, body=small)
        else:
            model = replace(model, body=small)
    elif case == "half_reference":
        model = framed(model, rng, HIPS)
    elif case == "portrait_reference":
        model = framed(model, rng, CHEST)
    elif case == "half_driving":
        performer = framed(performer, rng, HIPS)
    elif case == "seated_reference":
        resting = seated(resting, model.body, rng)
    elif case == "seated_driving":
        motion = seated(motion, performer.body, rng)
        resting = _turned(resting, float(rng.uniform(-0.6, 0.6)))
    elif case == "turned_reference":
        resting = _turned(resting, float(rng.choice([-1, 1]) * rng.uniform(1.0, 3.1)))
    times = np.arange(NUM_FRAMES) / FPS
    start = float(rng.uniform(0, 2))
    picture = render(model, resting, [start], SIZE, SIZE, supersample=1, fps=FPS)
    here, there = motion.at([0.0]).root[0], resting.at([start]).root[0]
    if case == "seated_reference":
        there = np.zeros(3)
    elsewhere = _moved(motion, there[:2] - here[:2])
    clip = render(performer, motion, times, SIZE, SIZE, supersample=1, fps=FPS).poses
    truth = render(model, elsewhere, times, SIZE, SIZE, supersample=1, fps=FPS).poses
    if case == "walk":
        way = float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.8)) * times / times[-1]
        clip, truth = _walked(clip, performer, way), _walked(truth, model, way)
    noise = np.random.default_rng([91, seed])
    return Pair(
        add_detector_noise(clip, noise),
        add_detector_noise(picture.poses, noise),
        picture.figure_mask[0],
        truth,
        model.body.height * model.camera.zoom / FRAME_HEIGHTS,
    )


def _zoomed(character: Character, zoom: float) -> Character:
    return replace(character, camera=replace(character.camera, zoom=zoom))


def _turned(motion: Motion, yaw: float) -> Motion:
    """The motion with pelvis and feet turned by an angle in radians."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cosine, -sine], [sine, cosine]])

    def turned(track: Track) -> Track:
        values = np.concatenate([track.values[:, :2] @ turn, track.values[:, 2:3] + yaw], axis=1)
        return replace(track, values=values)

    feet = tuple(replace(steps, place=turned(steps.place)) for steps in motion.feet)
    return replace(motion, root=turned(motion.root), feet=(feet[0], feet[1]))


def _moved(motion: Motion, by: NDArray[np.float64]) -> Motion:
    """The motion at another place on the stage, in body heights."""
    step = np.array([by[0], by[1], 0.0])

    def moved(track: Track) -> Track:
        return replace(track, values=track.values + step)

    def moved_foot(steps: Steps) -> Steps:
        return replace(steps, place=moved(steps.place))

    return replace(
        motion, root=moved(motion.root), feet=(moved_foot(motion.feet[0]), moved_foot(motion.feet[1]))
    )


def _walked(poses: PoseSequence, character: Character, way: NDArray[np.float64]) -> PoseSequence:
    """The poses moved sideways frame by frame, in body heights."""
    unit = character.body.height * character.camera.zoom / FRAME_HEIGHTS
    points = poses.points.copy()
    points[..., 0] += unit * way[:, None, None]
    return replace(poses, points=points)


CASES: tuple[str, ...] = (
    "whole", "near_far", "walk", "half_reference", "portrait_reference", "half_driving", "child", "cartoon",
    "seated_reference", "seated_driving", "turned_reference",
)  # fmt: skip
