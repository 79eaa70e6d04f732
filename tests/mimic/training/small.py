"""Trainings of seconds: a tiny model and a few dancers; and processes that start without importing anew."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from accelerate.state import AcceleratorState

from mimic.training.loop import train
from mimic.training.settings import TrainSettings

# A fork has everything imported already. Where CUDA may be in use here, processes come from a clean one.
METHODS = ["forkserver", "spawn"] if torch.cuda.is_available() else ["fork", "spawn"]
METHOD = next(each for each in METHODS if each in multiprocessing.get_all_start_methods())
PROCESSES = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    PROCESSES.set_forkserver_preload(["mimic.training.loop", "mimic.families.mimicmotion.training"])


shares_out_on_cpus = pytest.mark.skipif(
    tuple(map(int, accelerate.__version__.split(".")[:2])) < (1, 9) and not torch.cuda.is_available(),
    reason="accelerate before 1.9 replicates weights on CPUs whatever is asked",
)


def small_settings(folder: Path, **changes: Any) -> TrainSettings:
    """Six steps of MimicMotion; `changes` are keys of the YAML, `{"data": {...}}` is merged."""
    content: dict[str, Any] = {
        "family": "mimicmotion",
        "model": "tiny",
        "output_dir": folder,
        "max_steps": 6,
        "batch_size": 2,
        "cpu_threads": 1,
        "tensorboard": False,
        "log_every": 1,
        "ema_decay": 0.9,
        "optimiser": {"learning_rate": 1e-3},
        "schedule": {"warmup_steps": 2},
        "checkpoints": {"every": 2},
        "data": {
            "source": "synthetic",
            "num_clips": 3,
            "num_val_clips": 1,
            "height": 32,
            "width": 32,
            "num_frames": 2,
            "canvas_short_side": 64,
            "supersample": 1,
            **changes.pop("data", {}),
        },
    }
    return TrainSettings.model_validate(content | changes)


def digests(folder: Path) -> dict[str, str]:
    """Every file under a folder with the hash of its bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses_of(folder: Path) -> list[float]:
    return [line["loss"] for line in log_of(folder)]


def start(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that runs `function`; it may be killed."""
    process = PROCESSES.Process(target=function, args=arguments)  # type: ignore[attr-defined]
    process.start()
    return process


def finish(processes: Sequence[BaseProcess], *, seconds: float = 2000) -> list[int | None]:
    """Wait for processes; their exit codes. What takes longer is killed."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def train_here(settings: TrainSettings, environment: dict[str, str] | None = None) -> None:
    """Train in this process, which was started for it."""
    os.environ.update(environment or {})
    AcceleratorState._reset_state(reset_partial_state=True)
    train(settings, say=_say_nothing)


def train_together(
    settings: TrainSettings, num_processes: int, environment: dict[str, str] | None = None
) -> None:
    """Train in several processes, as torchrun starts them (gloo); raises if one fails."""
    run_together(train_here, num_processes, settings, environment=environment)


def run_together(
    function: Callable[..., None],
    num_processes: int,
    *arguments: Any,
    environment: dict[str, str] | None = None,
) -> None:
    """Call `function(*arguments, environment)` in several processes, with the environment that torchrun gives
    them; raises if one fails."""
    port = free_port()
    processes = [
        start(
            function,
            *arguments,
            {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(num_processes),
                "LOCAL_WORLD_SIZE": str(num_processes),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                **({"ACCELERATE_USE_CPU": "true"} if torch.cuda.is_available() else {}),
                **(environment or {}),
            },
        )
        for rank in range(num_processes)
    ]
    codes = finish(processes)
    assert codes == [0] * num_processes, f"processes ended with {codes}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _say_nothing(line: str) -> None:
    pass


class Said(list[str]):
    """What a training reported."""

    def __call__(self, line: str) -> None:
        self.append(line)

    def __str__(self) -> str:
        return "\n".join(self)


def facts_of(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / "facts.json").read_text())


def quick_settings(folder: Path, **changes: Any) -> TrainSettings:
    """As `small_settings`, with 85 trained numbers; the settings of tests/goldens/training/first_format."""
    return small_settings(folder, trainable=["pose_net.conv_layers.0", "pose_net.scale"], **changes)
