"""Stick figures as pose sequences: small, exact and known, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pose.released import from_dwpose_dict
from pose.skeletons import BODY, FACE, FEET, HANDS, LEFT_ANKLE, LEFT_WRIST, RIGHT_ANKLE, RIGHT_WRIST
from pose.types import NUM_POINTS, PoseSequence, concatenate

GOLDENS = Path(__file__).parents[1] / "goldens" / "dwpose"

# A person of height 1 who stands and faces the camera; x to the right of the picture, y down, nose at 0, 0.
STANDING = np.array(
    [
        (0.00, 0.00), (0.00, 0.12),
        (-0.10, 0.13), (-0.14, 0.30), (-0.16, 0.44), (0.10, 0.13), (0.15, 0.29), (0.18, 0.43),
        (-0.06, 0.42), (-0.07, 0.64), (-0.08, 0.86), (0.06, 0.42), (0.07, 0.64), (0.08, 0.86),
        (-0.02, -0.02), (0.02, -0.02), (-0.04, -0.01), (0.04, -0.01),
    ]
)  # fmt: skip


def person(body: np.ndarray = STANDING) -> np.ndarray:
    """134 points of one person, in the body's own units."""
    points = np.zeros((NUM_POINTS, 2))
    points[BODY] = body
    points[FEET] = body[[LEFT_ANKLE] * 3 + [RIGHT_ANKLE] * 3] + [(0.03, 0.04), (0.04, 0.04), (0, 0.03)] * 2
    turn = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points[FACE] = body[0] + 0.05 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    fingers = [(0.0, 0.0)] + [
        (0.012 * (finger - 2), 0.02 + 0.012 * joint) for finger in range(5) for joint in range(4)
    ]
    for hand, wrist in zip(HANDS, (LEFT_WRIST, RIGHT_WRIST)):
        points[hand] = body[wrist] + np.array(fingers)
    return points


def clip(
    *,
    num_frames: int = 1,
    height: int = 160,
    width: int = 120,
    size: float = 100.0,
    at: tuple[float, float] = (60.0, 30.0),
    step: tuple[float, float] = (0.0, 0.0),
    jitter: float = 0.0,
    score: float = 0.9,
    fps: float = 25.0,
    seed: int = 0,
) -> PoseSequence:
    """One person, `size` pixels tall, whose nose is at `at` and moves by `step` pixels a frame."""
    rng = np.random.default_rng(seed)
    steps = np.arange(num_frames)[:, None, None] * np.array(step)
    pixels = (
        size * person()[None] + np.array(at) + steps + jitter * rng.normal(size=(num_frames, NUM_POINTS, 2))
    )
    points = pixels / [width, height]
    return PoseSequence(
        points[:, None],
        np.full((num_frames, 1, NUM_POINTS), score),
        height,
        width,
        fps,
        metadata={"source": "test"},
    )


def beside(*people: PoseSequence) -> PoseSequence:
    """Clips of one person each, as one clip of several people."""
    first = people[0]
    return PoseSequence(
        np.concatenate([one.points for one in people], axis=1),
        np.concatenate([one.scores for one in people], axis=1),
        first.height,
        first.width,
        first.fps,
        np.concatenate([one.is_present for one in people if one.is_present is not None], axis=1),
    )


def golden_pose(arrays: dict[str, Any], prefix: str, height: int, width: int) -> PoseSequence:
    """The pose dictionary stored under a prefix ("ref", "in0", …; "" for none) of a golden file."""
    start = f"{prefix}_" if prefix else ""
    pose = {key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)}
    return from_dwpose_dict(pose, height, width)


def golden_rescale(name: str) -> tuple[dict[str, Any], dict[str, Any], PoseSequence, PoseSequence]:
    """A case of the rescale goldens: its description, its arrays, driving clip and reference."""
    case = json.loads((GOLDENS / "rescale" / "cases.json").read_text())[name]
    with np.load(GOLDENS / "rescale" / f"{name}.npz") as file:
        arrays = dict(file)
    numbers = sorted({int(key[2:].split("_")[0]) for key in arrays if key.startswith("in")})
    driving = concatenate(golden_pose(arrays, f"in{i}", *case["video_hw"]) for i in numbers)
    return case, arrays, driving, golden_pose(arrays, "ref", *case["ref_hw"])
