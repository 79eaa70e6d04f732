"""Measure MimicMotion's inference on a CUDA device.

    python -m benchmarks.gpu --out FOLDER --minutes 8 [--parts acbed] [--device cuda]
    python -m benchmarks.gpu --out FOLDER --small --device cpu       # a trial at small size
    python -m benchmarks.gpu --make-weights FOLDER                   # full-size random weights, for loaders

(a) machine, versions, matrix rate and copy rate; (c) full size with random weights, the released way beside
ours; (b) recorded parity cases in three precisions, eager and compiled; (e) presets; (d) steps of the shipped
trainings, with the memory measured beside the computed. Parts run in this order, by worth; results are
written to FOLDER after each measurement, so that a run that is cut off loses only what was not done. Parts
(a), (b), (c) and (e) need torch, diffusers, transformers, safetensors, numpy, Pillow and tqdm only.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu import full_size, machine, parity, presets, training
from benchmarks.gpu.record import Record, Setting

PARTS: dict[str, tuple[str, Callable[[Setting, Record], None]]] = {
    "a": ("machine", machine.run),
    "c": ("full size", full_size.run),
    "b": ("parity", parity.run),
    "e": ("presets", presets.run),
    "d": ("training", training.run),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the parts in their order; return 0 if all of them were run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="folder of speed_gpu.json")
    parser.add_argument("--minutes", type=float, default=8, help="time to use")
    parser.add_argument("--parts", default="acbed", help="letters of the parts to run")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes and few steps: a trial")
    parser.add_argument("--make-weights", type=Path, metavar="FOLDER", help="write random weights, and end")
    given = parser.parse_args(arguments)
    if given.make_weights is not None:
        from benchmarks.gpu.weights import make_weights

        make_weights(given.make_weights, is_small=given.small)
        return 0
    if given.out is None:
        parser.error("give --out FOLDER")
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"--parts has {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device is available to torch; try --device cpu --small", file=sys.stderr)
        return 1
    setting = Setting(device, given.small, time.monotonic() + 60 * given.minutes)
    record = Record(given.out / "speed_gpu.json", device=str(device), is_small=given.small)
    is_whole = True
    for letter, (name, run) in PARTS.items():
        if letter not in given.parts:
            continue
        if setting.seconds_left <= 0:
            record.put(letter, {"not run": "out of time"})
            is_whole = False
            continue
        print(f"({letter}) {name}", flush=True)
        start = time.monotonic()
        try:
            run(setting, record.part(letter))
        except Exception as error:  # the other parts still count
            traceback.print_exc()
            record.part(letter).put("failed", f"{type(error).__name__}: {str(error)[:500]}")
            is_whole = False
        record.part(letter).put("seconds", round(time.monotonic() - start, 1))
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(f"written to {record.path}")
    return 0 if is_whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
