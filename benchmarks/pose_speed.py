"""How fast the bundled pose estimator follows one person on one core.

    python benchmarks/pose_speed.py [VIDEO] [--repeat 3]

Without a video a dancer is rendered at 576x1024. Decoding is not counted. Wall time tells what a user waits,
CPU time what remains true on a machine that is busy with something else.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose import load_estimator
from pose.video import VideoReader

WARM_UP = 3  # frames


def rendered_clip() -> list[NDArray[np.uint8]]:
    from mimic.dancers import World, render, sample_character, sample_motion

    rng, world = np.random.default_rng(0), World.plain()
    character, motion = sample_character(rng, world), sample_motion(rng, world, duration_s=2.0)
    return list(render(character, motion, np.arange(20) / 10, 1024, 576).frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    frames = list(VideoReader(arguments.video)) if arguments.video else rendered_clip()
    start = time.perf_counter()
    estimator = load_estimator("blazepose", device="cpu", num_threads=1)
    print(f"load: {time.perf_counter() - start:.2f} s")
    estimator.frames(frames[:WARM_UP], fps=10)
    height, width = frames[0].shape[:2]
    for _ in range(arguments.repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        poses = estimator.frames(frames, fps=10)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        seen = (poses.scores[:, 0].max(axis=1) > 0).mean()
        print(
            f"{len(frames)} frames of {width}x{height}: {len(frames) / wall:.1f} frames/s, "
            f"{len(frames) / cpu:.1f} a second of CPU time; person seen in {seen:.0%}"
        )


if __name__ == "__main__":
    main()
