"""(d) A step of each shipped training: its memory, measured beside computed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.record import Part, Setting

_NEEDED = ("accelerate", "omegaconf", "pydantic")


def run(setting: Setting, part: Part) -> None:
    """Run `benchmarks.training_memory`, which measures on CUDA devices; each config in a fresh process."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        part.put("not run", f"{', '.join(missing)} not installed")
        return
    if setting.device.type != "cuda":
        part.put("not run", "on CUDA only; `python -m benchmarks.training_memory` computes it elsewhere")
        return
    for config in sorted(Path("configs/train").glob("mimicmotion_*.yaml")):
        if setting.seconds_left < 30:
            part.put("stopped", f"before {config.stem}: out of time")
            return
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.training_memory", str(config)],
            check=False,
            capture_output=True,
            text=True,
            timeout=setting.seconds_left,
        )
        part.put(config.stem, (done.stdout or done.stderr)[-2000:].splitlines())
