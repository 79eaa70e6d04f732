"""Time MimicMotion's miniature on the CPU: the released way beside ours, in alternation, in one run.

    python -m benchmarks.speed [--minutes 9] [--out FOLDER]

40 frames in windows of 8 with overlap 3, 8 steps, guidance 2, float32, with the bundled miniature's networks.
Baseline (see `benchmarks.speed.run`), ours, and ours compiled take turns, up to five times or until the time
is over; figures are medians. CPU seconds are those of this process, which other work on the machine disturbs
less than wall time. Compile time is what the first compiled run takes longer than the median of the others.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.run import BASELINE, Job, Parts, Way, random_inputs, relative_error, sample, whole
from mimic.families.registry import load_pipeline
from mimic.files import write_json

RESULTS = Path("benchmarks/results")
WAYS = {
    "baseline": BASELINE,
    "ours": Way(batches_guidance=True),
    "ours, branches apart": Way(),
    "ours, compiled": Way(batches_guidance=True, is_compiled=True),
}
ROUNDS = 5


def mini_parts(dtype: torch.dtype = torch.float32) -> Parts:
    """Networks of the bundled miniature."""
    pipe = load_pipeline("bundled:mini", dtype=dtype, device="cpu")
    return Parts(pipe.unet, pipe.pose_net, pipe.vae, pipe.scheduler)


def measure(
    parts: Parts, job: Job, ways: dict[str, Way], *, minutes: float, size: int = 192
) -> dict[str, Any]:
    """Run all ways in alternation and compare latents with the baseline's."""
    given = random_inputs(parts, job, size, size)
    end = time.monotonic() + 60 * minutes
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    first: dict[str, dict[str, float]] = {}
    errors, reasons = {}, {}
    expected = None
    one_step = replace(job, num_steps=1)
    for name, way in ways.items():  # warms up, and compiles
        try:
            start = time.perf_counter()
            sample(parts, one_step, given, way)
            first[name] = {"wall": time.perf_counter() - start}
        except Exception as error:  # a compiler may be missing; the others still count
            reasons[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    longest = 0.0
    for _ in range(ROUNDS):
        if runs["baseline"] and time.monotonic() + longest > end:
            break
        start = time.monotonic()
        for name, way in ways.items():
            if name in reasons:
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            latents, stages = whole(parts, job, given, way)
            runs[name].append(
                {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, **stages}
            )
            expected = latents if name == "baseline" and expected is None else expected
            errors[name] = relative_error(latents, expected)
        longest = max(longest, time.monotonic() - start)
    table = {}
    for name, done in runs.items():
        if not done:
            table[name] = {"not run": reasons.get(name, "out of time")}
            continue
        medians = {key: statistics.median(run[key] for run in done) for key in done[0]}
        base = {key: statistics.median(run[key] for run in runs["baseline"]) for key in medians}
        table[name] = {
            "rounds": len(done),
            "seconds": medians,
            "times faster": {key: base[key] / max(medians[key], 1e-9) for key in medians},
            "relative difference of latents": errors[name],
            "first step, with compilation": first[name]["wall"],
        }
    return table


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write `speed_cpu.json`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=9, help="time to use, at most one round more")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of speed_cpu.json")
    parser.add_argument("--small", action="store_true", help="9 frames, 2 steps, without compiling: a trial")
    parser.add_argument("--no-compile", action="store_true", help="leave out what is compiled")
    given = parser.parse_args(arguments)
    job, ways = Job(num_frames=40, tile_size=8, tile_overlap=3, num_steps=8), WAYS
    if given.small:
        job = replace(job, num_frames=9, num_steps=2)
    if given.small or given.no_compile:
        ways = {name: way for name, way in WAYS.items() if not way.is_compiled}
    table = measure(mini_parts(), job, ways, minutes=given.minutes)
    result = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "job": {**vars(job), "is_small": given.small},
        "ways": table,
    }
    for name, row in table.items():
        if "not run" in row:
            print(f"{name:24s} not run ({row['not run']})")
            continue
        faster = row["times faster"]
        print(
            f"{name:24s} {row['seconds']['wall']:7.1f} s wall ({faster['wall']:.2f}x), "
            f"{row['seconds']['cpu']:7.1f} s CPU ({faster['cpu']:.2f}x), "
            f"difference {row['relative difference of latents']:.1e}, {row['rounds']} rounds"
        )
    path = write_json(given.out / "speed_cpu.json", result)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
