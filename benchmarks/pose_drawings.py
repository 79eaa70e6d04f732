"""How exactly are poses read back from videos of drawn skeletons? One table.

    python -m benchmarks.pose_drawings [--clips 4]        about a minute on one core

Rendered dancers are drawn at two sizes with thin and bold strokes (canvases of 2160 and 512 pixels), written
as H.264 and read again. Columns: joints of the body within 1 % and within 4 % of the body's height, of those
drawn; their median error in that unit; hands of 21 points read, of those drawn, and their mean error in
lengths of the hand.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.video import VideoWriter, read_frames
from pose import PoseSequence, draw_pose
from pose.drawings import DrawnSkeletons
from pose.skeletons import BODY, HANDS, VISIBLE_ABOVE

KINDS = ((512, 512, 512), (512, 512, 2160), (1024, 576, 512), (1024, 576, 2160))  # height, width, canvas
FRAMES = 3
FPS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| size | canvas | within 1 % | within 4 % | median | hands read | error |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in KINDS:
        print(row(kind, [dancer(arguments.seed, i) for i in range(arguments.clips)]))


def dancer(seed: int, index: int) -> PoseSequence:
    """True poses of a rendered dancer; what is drawn has a score of 0.9."""
    rng, world = np.random.default_rng([80, seed, index]), World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=2.0)
    poses = render(character, motion, np.arange(FRAMES) / FPS, 32, 32, supersample=1, fps=FPS).poses
    return replace(poses, scores=np.where(poses.scores > VISIBLE_ABOVE, 0.9, 0.0))


def row(kind: tuple[int, int, int], dancers: list[PoseSequence]) -> str:
    """Draw, write, read and compare: one row of Markdown."""
    height, width, canvas = kind
    size = np.array([width, height])
    errors, hand_errors = [], []
    for true in dancers:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "drawn.mp4"
            with VideoWriter(path, height=height, width=width, fps=FPS) as writer:
                for drawn in draw_pose(true, height, width, canvas_short_side=canvas):
                    writer.write(drawn)
            found = DrawnSkeletons().frames(read_frames(path), fps=FPS)
        distance = np.linalg.norm((found.points[:, 0] - true.points[:, 0]) * size, axis=-1)
        distance = np.where(found.scores[:, 0] > 0, distance, np.inf)
        body = np.ptp(true.points[:, 0, BODY, 1] * height, axis=1)[:, None]
        errors.append((100 * distance / body)[:, BODY][true.scores[:, 0, BODY] > 0])
        for hand in HANDS:
            length = np.ptp(true.points[:, 0, hand] * size, axis=1).max(axis=-1)
            is_drawn = true.scores[:, 0, hand].min(axis=-1) > 0
            hand_errors.append((distance[:, hand].mean(axis=-1) / length)[is_drawn])
    percent, hands = np.concatenate(errors), np.concatenate(hand_errors)
    is_read = np.isfinite(hands)
    return (
        f"| {width}x{height} | {canvas} | {100 * (percent < 1).mean():.0f} % | "
        f"{100 * (percent < 4).mean():.0f} % | "
        f"{np.median(percent):.2f} % | {is_read.sum()} of {len(hands)} | {hands[is_read].mean():.2f} |"
    )


if __name__ == "__main__":
    main()
