"""(e) The presets: seconds at full size, and the difference of latents to `exact`, with random weights."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.gpu.record import Part, Setting
from benchmarks.gpu.weights import random_parts
from benchmarks.speed.run import BASELINE, Job, Way, random_inputs, relative_error, sample, with_steps
from mimic.sampling.presets import PRESETS

STEPS = 25


def run(setting: Setting, part: Part) -> None:
    """Sample 16 frames with each preset, and with each of its settings alone."""
    parts = random_parts(setting.device, setting.dtype, is_small=setting.is_small)
    height, width, num_frames = (64, 64, 4) if setting.is_small else (576, 1024, 16)
    job = Job(
        num_frames=num_frames,
        tile_size=num_frames,
        tile_overlap=0,
        num_steps=5 if setting.is_small else STEPS,
    )
    given = random_inputs(parts, job, height, width)
    sample(parts, with_steps(job, 1), given)
    setting.wait()
    rows: dict[str, tuple[Way, int]] = {"exact": (Way(), job.num_steps)}
    for name in ("fast", "balanced"):
        rows[name] = way_of(dict(PRESETS[name]), job.num_steps)
    rows["baseline"] = (BASELINE, job.num_steps)
    for setting_name, value in PRESETS["fast"].items():
        if setting_name == "schedule":
            continue
        also = {"schedule": PRESETS["fast"]["schedule"]} if setting_name == "num_inference_steps" else {}
        rows[f"{setting_name} alone"] = way_of({setting_name: value, **also}, job.num_steps)
    exact = None
    for name, (way, num_steps) in rows.items():
        if setting.seconds_left < 15 and not setting.is_small:
            part.put("stopped", f"before {name}: out of time")
            return
        setting.reset_peak()
        setting.wait()
        start = time.perf_counter()
        latents = sample(parts, with_steps(job, num_steps), given, way)
        setting.wait()
        seconds = time.perf_counter() - start
        exact = latents if exact is None else exact
        part.put(
            name,
            {
                "steps": num_steps,
                "seconds": round(seconds, 3),
                "relative difference to exact": relative_error(latents, exact),
                "peak memory, GB": setting.peak_gb(),
            },
        )


def way_of(settings: dict[str, Any], usual_steps: int) -> tuple[Way, int]:
    """Return the way and the number of steps of a preset's settings."""
    num_steps = min(settings.pop("num_inference_steps", usual_steps), usual_steps)
    return Way(**settings), num_steps
