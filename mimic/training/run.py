"""What is a training made of, once it is set up, and what is reported of it at the start?

Everything here is the same in all processes of a training, except for the samples that each is given.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from mimic.data.batch import AnySample, Sample
from mimic.data.processes import start_method
from mimic.families.task import TrainingTask
from mimic.progress import counted
from mimic.training.engine import is_deepspeed, launched_here, shares_weights
from mimic.training.levels import LossesByLevel
from mimic.training.order import Order
from mimic.training.policy import Policy
from mimic.training.saving import Saving
from mimic.training.settings import TrainSettings
from mimic.training.tasks import make_task
from mimic.training.validate import Faces
from mimic.training.workers import HandingOver, samples_or_raise, set_up_worker

Say = Callable[[str], None]
PREFETCHED = 2
"""Batches that each loading process has ready."""
_WIDEST_EMBEDDING = 1280
SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps the tensors that processes hand to each other."""


@dataclass
class TrainingProgress:
    """What changes along the steps and is no tensor."""

    step: int = 0
    """Steps made, including skipped ones."""
    skipped: int = 0
    """Steps without a finite loss."""
    skipped_in_row: int = 0
    best: dict[str, float] = field(default_factory=dict)
    """`step` and `value` of the best validation; empty before the first."""
    saved: int = -1
    """Step of the newest checkpoint; -1 without any."""


@dataclass
class TrainingRun:
    """A training, ready to continue from `progress.step`."""

    settings: TrainSettings
    accelerator: Any
    task: TrainingTask
    model: nn.Module
    """`EngineModel` around the task's model, as the engine runs it."""
    optimiser: Any
    parameters: dict[str, nn.Parameter]
    """What is trained, by its name in the task's model; may be shared out among processes."""
    average: dict[str, Tensor] | None
    """Average of `parameters`, shared out alike; None where none is kept."""
    dataset: Any
    validation: list[Sample]
    faces: Faces | None
    progress: TrainingProgress
    policy: Policy
    is_cast: bool
    """Whether frozen weights are less exact than in the model that they came from."""
    say: Say
    saving: Saving
    levels: LossesByLevel
    facts: dict[str, Any] = field(default_factory=dict)
    """Of the newest checkpoint: what its `facts.json` holds; empty before the first."""
    whole_task: TrainingTask | None = None
    """With sharded weights: the main process's task with whole networks, for validations; in between, what is
    trained is in main memory."""
    make_task: Callable[[TrainSettings], TrainingTask] = make_task
    """Makes the task of the model that is trained further, as it was before training."""
    has_checked_gradients: bool = False
    """Whether `check_gradients` has passed in this start."""
    no_validation: str | None = None
    """Why no validation is tried until the next start; None: it is."""

    @property
    def is_pinning(self) -> bool:
        """Whether samples go to the device from page-locked memory, without waiting."""
        return self.accelerator.device.type == "cuda"

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks."""
        return bool(self.accelerator.is_main_process)

    def batches(self) -> Iterator[list[AnySample]]:
        """This process's samples from the current step on, one list for each pass.

        Errors of a clip are the same with and without processes that load data.
        """
        settings, accelerator = self.settings, self.accelerator
        order = Order(
            buckets=self.dataset.buckets,
            batch_size=settings.batch_size,
            accumulate=settings.accumulate,
            seed=settings.seed,
            first_step=self.progress.step,
            last_step=settings.max_steps,
            rank=accelerator.process_index,
            num_ranks=accelerator.num_processes,
        )
        if not settings.num_workers:
            return iter(
                DataLoader(self.dataset, batch_sampler=order, collate_fn=list, pin_memory=self.is_pinning)
            )
        loader = DataLoader(
            HandingOver(self.dataset),
            batch_sampler=order,
            collate_fn=list,
            num_workers=settings.num_workers,
            prefetch_factor=PREFETCHED,
            pin_memory=self.is_pinning,
            worker_init_fn=set_up_worker,
            multiprocessing_context=start_method(),
        )
        return samples_or_raise(iter(loader))


def describe(run: TrainingRun) -> list[str]:
    """What is trained, what memory it needs at least, and how large a step's batch is."""
    settings, accelerator = run.settings, run.accelerator
    number = sum(p.numel() for p in run.task.model.parameters())
    trained = sum(p.numel() for p in run.parameters.values())
    frozen = sum(p.numel() for module in run.task.frozen.values() for p in module.parameters())
    networks: dict[str, int] = {}
    for name, parameter in run.parameters.items():
        network = name.split(".")[0]
        networks[network] = networks.get(network, 0) + parameter.numel()
    of_each = ", ".join(f"{network} {_count(size)}" for network, size in networks.items())
    parts = memory_parts(run)
    memory = ", ".join(f"{name} {as_bytes(size)}" for name, size in parts.items() if size)
    share = settings.batch_size // (accelerator.num_processes * settings.accumulate)
    data = settings.data
    each = f", each with {data.references} references" if data.references > 1 else ""
    epochs = settings.max_steps * settings.batch_size / len(run.dataset)
    return [
        f"training {settings.family}, model {settings.model}: {_count(number)} parameters, "
        f"{_count(trained)} of them trained ({of_each}), "
        f"{_count(frozen)} in other networks are frozen",
        f"memory of each process before activations: {as_bytes(sum(parts.values()))} ({memory})",
        f"effective batch {settings.batch_size}: {counted(accelerator.num_processes, 'process')} x "
        f"{counted(settings.accumulate, 'pass')} x {counted(share, 'clip')} of "
        f"{counted(data.num_frames, 'frame')}{each}, "
        f"{' or '.join(f'{height}x{width}' for height, width in data.all_sizes)}; {settings.precision} on "
        f"{accelerator.device}",
        f"{counted(len(run.dataset), 'clip')}, {counted(settings.max_steps, 'step')}, {epochs:.1f} epochs",
        *_shared_memory(run, share),
    ]


def sample_bytes(settings: TrainSettings, *, channels: int, width: int, dtype_bytes: int = 4) -> int:
    """Return the size of a sample as a loading process hands it over.

    Args:
        settings: of the training; with `memory.cache`, samples have latents in place of pixels.
        channels: of the latents.
        width: of the image embedding.
        dtype_bytes: of a number in the cache.
    """
    data = settings.data
    frames, pixels = data.num_frames + 1, max(height * width for height, width in data.all_sizes)
    latents = pixels // data.latent_downscale**2
    masks = 4 * len(data.regions) * frames * latents
    maps = 3 * frames * pixels
    if settings.memory.cache is None:
        return 2 * maps + masks
    return maps + masks + dtype_bytes * (frames * channels * latents + width)


def _shared_memory(run: TrainingRun, share: int) -> list[str]:
    """Say how much shared memory the loading processes need, and whether it is there."""
    settings = run.settings
    if not settings.num_workers:
        return []
    pipeline = run.task.pipeline()
    channels = pipeline.latent_shape(settings.data.height, settings.data.width)[0]
    size = share * sample_bytes(settings, channels=channels, width=_WIDEST_EMBEDDING)
    # Each process that loads has some batches ready and makes the next; one is being used.
    num_batches = settings.num_workers * (PREFETCHED + 1) + 1
    needed = size * num_batches
    line = (
        f"shared memory of each process: {as_bytes(needed)} ({num_batches} batches of {as_bytes(size)}, for "
        f"{settings.num_workers} processes that load clips)"
    )
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        local = needed * launched_here()
        if free < local:
            return [
                f"{line}; {SHARED_MEMORY} has {as_bytes(free)} for {launched_here()} processes: start the "
                "container with a larger --shm-size, or lower num_workers"
            ]
    return [line]


def memory_parts(run: TrainingRun) -> dict[str, int]:
    """Bytes in each process that do not depend on the batch: an estimate from counts of parameters."""
    settings, num_processes = run.settings, run.accelerator.num_processes
    is_sharing_all = shares_weights(run.parameters)
    shares = num_processes if is_sharing_all or is_deepspeed(run.accelerator) else 1
    trained = sum(4 * p.numel() for p in run.parameters.values())
    weights = sum(p.numel() * p.element_size() for p in run.task.model.parameters())
    frozen = sum(p.numel() * p.element_size() for m in run.task.frozen.values() for p in m.parameters())
    return {
        "networks": weights // (num_processes if is_sharing_all else 1),
        "frozen networks": frozen,
        "gradients": trained // shares,
        "optimiser": (2 * trained if settings.optimiser.name == "adamw" else trained // 2) // shares,
        "average": 0 if run.average is None else trained // (num_processes if is_sharing_all else 1),
    }


def checkpoint_bytes(run: TrainingRun) -> int:
    """How large a checkpoint will be, about."""
    trained = sum(4 * p.numel() for p in run.parameters.values())
    moments = 2 * trained if run.settings.optimiser.name == "adamw" else trained // 2
    return trained + moments + (0 if run.average is None else trained)


def _count(number: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def as_bytes(number: int) -> str:
    """A number of bytes as people read it."""
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 10**3:.3g} kB"
