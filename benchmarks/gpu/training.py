"""(d) A whole walk of shipped trainings: seconds and memory of each phase, measured beside computed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu.record import Part, Setting

_NEEDED = ("accelerate", "omegaconf", "pydantic")
_CONFIGS = (
    "mimicmotion_lora_24gb",
    "mimicmotion_paper",
    "animate_anyone_stage2",
    "magic_animate_stage2",
    "mimicmotion_72_frames",
)
"""By worth, as long as there is time."""
SMALL = (
    "model=tiny", "checkpoint=null", "precision=fp32", "optimiser.name=adamw", "data.height=64",
    "data.width=64", "data.num_frames=2", "data.canvas_short_side=64", "cpu_threads=1",
)  # fmt: skip
"""Overrides of a trial with tiny networks."""
_SECONDS = 120
"""To use on a GPU."""
_LEAST = 25
"""Seconds that have to be left to begin another walk."""


def run(setting: Setting, part: Part) -> None:
    """Run `benchmarks.training_walk` for one config after the other, each in a fresh process."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        part.put("not run", f"{', '.join(missing)} not installed")
        return
    if setting.device.type != "cuda" and not setting.is_small:
        part.put("not run", "on CUDA only; `python -m benchmarks.training_memory` computes it elsewhere")
        return
    kept_back = 0.0 if setting.is_small else max(0.0, setting.seconds_left - _SECONDS)
    for name in _CONFIGS[:1] if setting.is_small else _CONFIGS:
        seconds = setting.seconds_left - kept_back
        if seconds < _LEAST:
            part.put("stopped", f"before {name}: out of time")
            return
        with tempfile.TemporaryDirectory() as folder:
            config = Path("configs/train") / f"{name}.yaml"
            command = [sys.executable, "-m", "benchmarks.training_walk", str(config), "--out", folder]
            overrides = SMALL if setting.is_small else ()
            try:
                done = subprocess.run(
                    [*command, *overrides], check=False, capture_output=True, text=True, timeout=seconds
                )
            except subprocess.TimeoutExpired:
                part.put(name, {"not run": "out of time"})
                return
        if done.returncode == 0:
            part.put(name, json.loads(done.stdout.splitlines()[-1]))
        else:
            part.put(name, {"failed": done.stderr[-2000:].splitlines()})
