"""Walk a whole training for real, phase by phase: load and encode, step, save, validate, export.

    python -m benchmarks.training_walk CONFIG --out FOLDER [key=value ...]
    torchrun --nproc_per_node 2 -m benchmarks.training_walk CONFIG --out FOLDER [key=value ...]

The config's own settings at full size, on rendered dancers, with random weights (none are read), two steps,
one validated clip in two steps of sampling; `model=tiny` takes tiny networks. The main process prints, as
JSON, seconds and peak memory of each phase (of the CUDA device, as torch reports it; without one, of the
process so far) beside what `benchmarks.training_memory` computes for this config.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.training_memory import compute, processes_of
from benchmarks.training_networks import pipeline_of
from mimic.config.loading import build, read_yaml
from mimic.data.settings import ONLY_PREPARED
from mimic.families.task import TrainingTask
from mimic.training.assess import assess
from mimic.training.card import facts_of, model_card
from mimic.training.checkpoints import save
from mimic.training.engine import make_accelerator
from mimic.training.export import FINAL, export, finished
from mimic.training.loop import one_step
from mimic.training.settings import TrainSettings
from mimic.training.setup import set_up
from mimic.training.tasks import make_task, task_around

STEPS = 2
_SPREAD = 0.02
"""Of random weights."""


def settings_of(config: Path, folder: Path, overrides: list[str], *, processes: int) -> TrainSettings:
    """Return a config's settings with two steps on two rendered dancers and one validation.

    Args:
        config: the YAML.
        folder: for checkpoints, the cache and the finished model.
        overrides: further `key=value`.
        processes: how many train together; each gets as many clips as in the launch that the config names.
    """
    content: dict[str, Any] = dict(read_yaml(config, overrides))
    data = {name: value for name, value in content.get("data", {}).items() if name not in ONLY_PREPARED}
    share = max(1, content.get("batch_size", 1) // processes_of(config) // content.get("accumulate", 1))
    content |= {
        "output_dir": str(folder / "run"),
        "max_steps": STEPS,
        "batch_size": share * processes,
        "accumulate": 1,
        "num_workers": 0,
        "tensorboard": False,
        "data": {**data, "source": "synthetic", "num_clips": 2, "num_val_clips": 1, "seconds": 20.0},
        "validation": {**content.get("validation", {}), "every": STEPS, "num_clips": 1, "at_start": False},
    }
    if content.get("memory", {}).get("cache") is not None:
        content["memory"] = {**content["memory"], "cache": str(folder / "cache")}
    return build(TrainSettings, content, config)


def random_task(settings: TrainSettings) -> TrainingTask:
    """Make the task of a training with random weights, on the CPU, without reading any."""
    if settings.model == "tiny":
        return make_task(settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = pipeline_of(settings)
    generator = torch.Generator(device).manual_seed(0)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to_empty(device="cpu")
            for tensor in (*part.parameters(), *part.buffers()):
                if tensor.is_floating_point():
                    drawn = torch.empty(tensor.shape, device=device).normal_(0, _SPREAD, generator=generator)
                    tensor.data = drawn.to("cpu")
                else:
                    tensor.data.zero_()
    return task_around(pipeline, settings)


class Phases:
    """Seconds and peak memory of the phases of a walk."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure what is done inside."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.monotonic()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.found[name] = {"seconds": round(time.monotonic() - began, 2), "peak GB": round(peak(), 3)}


def peak() -> float:
    """Return GB: of the CUDA device since the last reset, else the most that the process has had."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    if sys.platform == "win32":
        return float("nan")
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def walk(settings: TrainSettings) -> dict[str, Any]:
    """Train as the settings say; return the figures of this process."""
    measured = Phases()
    accelerator = make_accelerator(settings)
    with measured("load and encode"):
        settings.output_dir.mkdir(parents=True, exist_ok=True)
        run = set_up(settings, accelerator, say=lambda line: None, make=random_task)
    for task in (run.task, run.whole_task):
        if task is not None:
            defaults = task.pipeline().generation_defaults
            task.pipeline().generation_defaults = defaults | {"num_inference_steps": 2}
    batches = run.batches()
    with measured("step"):
        results = [one_step(run, batches)[0] for _ in range(settings.max_steps)]
    with measured("save, until the training continues"):
        save(run)
    with measured("save, until it is whole"):
        run.saving.wait()
    with measured("validate"):
        assess(run, None)
    with measured("export"), finished(run, is_exact=True) as task:
        if task is not None and run.is_main:
            facts = facts_of(settings, task, run.progress.step)
            export(task, settings.output_dir / FINAL, facts=facts, card=model_card(facts, settings, best={}))
    accelerator.wait_for_everyone()
    found = {
        "processes": accelerator.num_processes,
        "losses": [round(result.loss, 4) for result in results],
        "validation": run.facts["validation"],
        "phases": measured.found,
    }
    accelerator.end_training()
    return found


def main(argv: list[str] | None = None) -> None:
    """Walk one config and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_walk", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_intermixed_args(argv)
    processes, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    settings = settings_of(options.config, options.out, options.overrides, processes=processes)
    found = walk(settings)
    if rank == 0:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        computed = compute(settings, processes, device=device)["phases"]
        found["computed GB"] = {name: round(value / 1e9, 3) for name, value in computed.items()}
        print(json.dumps(found))


if __name__ == "__main__":
    main()
