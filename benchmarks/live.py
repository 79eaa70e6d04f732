"""Rate, delay and flicker of a live character on this machine.

    python -m benchmarks.live [--seconds 10] [--repeat 3] [--window 3] [--clip CLIP] [--compile]

The bundled miniature is driven by the bundled clip, which is played at its own rate, again and again. Rate
and delay are medians of the repeats, with the load of the machine before each. Flicker is the change from
frame to frame that the offline rendering of the same clip does not have, in grey levels of 255; `still` is
the change while one frame is shown again and again. CPU time of the stages is that of their own thread, which
depends less on what else the machine does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mimic import generate, load_pipeline
from mimic.files import ASSETS
from mimic.generation.live import LiveCharacter, LiveStream
from mimic.metrics.video import flicker
from mimic.video import probe, read_frames
from pose import load_estimator

Picture = NDArray[np.uint8]
PICTURE, CLIP = (ASSETS / "demo" / name for name in ("reference.png", "driving.mp4"))
WARM_UP_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each repeat")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--window", type=int, default=3, help="frames that the model sees together")
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--fps", type=float, help="frames a second that come in; default: the clip's")
    parser.add_argument("--compile", action="store_true", help="with torch.compile (minutes at first)")
    arguments = parser.parse_args()

    frames = list(read_frames(arguments.clip))
    fps = arguments.fps or float(probe(arguments.clip).fps)
    settings = {"compile": True} if arguments.compile else {}

    def character() -> LiveCharacter:
        estimator = load_estimator("blazepose", num_threads=1)
        return LiveCharacter(
            load_pipeline("bundled:mini"), PICTURE, estimator=estimator, window=arguments.window, **settings
        )

    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, window {arguments.window}"
    )
    print_stages(character(), frames)
    runs = [play(character(), frames, fps, arguments.seconds) for _ in range(arguments.repeat)]
    for rate, delay, late, load in runs:
        print(f"  {rate:.1f} pictures/s, delay {delay:.2f} s (95 %: {late:.2f} s), load {load:.1f}")
    rate, delay, late, load = np.median(np.array(runs), axis=0)
    print(
        f"frames come {fps:g} a second: {rate:.1f} pictures/s, delay {delay:.2f} s (95 %: {late:.2f} s), "
        f"load {load:.1f}"
    )
    print_flicker(character(), frames, arguments.clip)


def print_stages(character: LiveCharacter, frames: list[Picture]) -> None:
    """CPU time of each stage in its own thread, and of the whole process for one picture."""
    spent: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], given: Any) -> Any:
        start = time.thread_time()
        made = work(given)
        spent.setdefault(name, []).append(1e3 * (time.thread_time() - start))
        return made

    for frame in frames[:12]:
        start = time.process_time()
        pose = timed("pose and map", character.pose, frame)
        latents = timed("sample", character.sample, pose)
        timed("decode", character.decode, latents)
        spent.setdefault("all threads", []).append(1e3 * (time.process_time() - start))
    character.close()
    print("CPU ms a picture: " + ", ".join(f"{name} {np.median(each):.0f}" for name, each in spent.items()))


def play(
    character: LiveCharacter, frames: list[Picture], fps: float, seconds: float
) -> tuple[float, float, float, float]:
    """Play frames in real time; pictures a second, median and 95th percentile of the delay, load before."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    stream = LiveStream(character)
    start, is_over = time.monotonic(), threading.Event()

    def submit() -> None:
        number = 0
        while not is_over.is_set():
            stream.submit(frames[number % len(frames)])
            number += 1
            time.sleep(max(0.0, start + number / fps - time.monotonic()))

    sender = threading.Thread(target=submit)
    sender.start()
    delays, last = [], 0
    while time.monotonic() < start + WARM_UP_S + seconds:
        shown = stream.picture(after=last, timeout=1.0)
        if shown is None:
            continue
        last = shown.number
        if time.monotonic() > start + WARM_UP_S:
            delays.append(shown.delay_s)
    is_over.set()
    sender.join()
    stream.close()
    if not delays:
        return 0.0, float("nan"), float("nan"), load
    return len(delays) / seconds, float(np.median(delays)), float(np.quantile(delays, 0.95)), load


def print_flicker(character: LiveCharacter, frames: list[Picture], clip: Path) -> None:
    """Flicker of the live pictures of all frames against the offline rendering of the same clip."""
    live = [character(frame) for frame in frames]
    still = [character(frames[-1]) for _ in range(8)][4:]
    character.close()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(None):
        made = generate(
            PICTURE, clip, output=Path(folder) / "offline", estimator="blazepose", align="limbs",
            sample_stride=1, is_progress_shown=False,
        )  # fmt: skip
        offline = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(made.path.glob("*.png"))]
    print(
        f"{len(live)} frames: flicker {flicker(live, offline):.2f} grey levels against the offline "
        f"rendering; change from frame to frame {flicker(live):.2f} live, {flicker(offline):.2f} offline; "
        f"still {flicker(still):.2f}"
    )


if __name__ == "__main__":
    main()
