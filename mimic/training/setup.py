"""From settings to everything a training needs, checked before anything heavy is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mimic.config.loading import ConfigError, build
from mimic.data.cache import EncodingCache, weights_digest
from mimic.data.dataset import ClipDataset, build_dataset
from mimic.data.settings import DataSettings
from mimic.families.registry import load_pipeline, load_task
from mimic.families.task import TrainingTask
from mimic.files import remove_partial
from mimic.models.memory import save_memory
from mimic.training import trainable
from mimic.training.engine import EngineModel, is_deepspeed, make_accelerator, make_optimiser
from mimic.training.lora import add_lora
from mimic.training.run import Say, TrainingProgress, TrainingRun, as_bytes, checkpoint_bytes, describe
from mimic.training.saved import (
    AVERAGE,
    OPTIMISER,
    WEIGHTS,
    restore_engine,
    restore_optimiser,
    restore_tensors,
)
from mimic.training.settings import TrainSettings
from mimic.training.state import StateError, checkpoints, load_state
from mimic.weights.sources import SourceError
from mimic.weights.strict import align_memory

_WRAPPER = "_checkpoint_wrapped_module."  # what FSDP's own checkpointing puts into names


def set_up(settings: TrainSettings, *, say: Say, is_dry_run: bool = False) -> TrainingRun:
    """Everything up to the first step: engine, model, data, and what the last checkpoint holds.

    Args:
        say: prints a sentence; called in the main process only.
        is_dry_run: write nothing, not even the output folder.

    Raises:
        ConfigError: settings that cannot be, or that this machine cannot serve.
        StateError: the output folder cannot be written, or its last checkpoint cannot be read.
    """
    if settings.cpu_threads is not None:
        torch.set_num_threads(settings.cpu_threads)
    found = checkpoints(settings.output_dir)
    if found and settings.resume == "never":
        raise ConfigError(
            f"{settings.output_dir} holds {found[-1].name}; set resume: auto to go on, or another output_dir"
        )
    accelerator = make_accelerator(settings)
    if not accelerator.is_main_process:
        say = _silent
    if not is_dry_run and accelerator.is_main_process:
        _check_folder(settings.output_dir)
    # What the data lacks is told before a large model is loaded.
    build_dataset(settings.data, split="train", seed=settings.seed)
    if settings.validation.every:
        build_dataset(settings.data, split="val", seed=settings.seed)
    with accelerator.main_process_first():
        task = make_task(settings)
    data = fit_data(settings.data, task)
    dataset = build_dataset(data, split="train", seed=settings.seed)
    optimised = _trained(task)
    optimiser = make_optimiser(optimised, settings)
    model: nn.Module = EngineModel(task.model, is_offloading=settings.memory.offload_activations)
    align_memory(model)
    for module in task.frozen.values():
        module.to(accelerator.device)
        align_memory(module)
    if settings.memory.cache is not None and not is_dry_run:
        dataset = _encoded(dataset, task, settings.memory.cache, accelerator, say)
    model, optimiser = accelerator.prepare(model, optimiser)
    model.train()
    parameters = _trained(task)
    average = None
    if settings.ema_decay is not None:
        average = {name: p.detach().clone().float() for name, p in parameters.items()}
    run = TrainingRun(
        settings,
        accelerator,
        task,
        model,
        optimiser,
        parameters,
        average,
        dataset,
        [],
        TrainingProgress(),
        say,
    )
    for line in describe(run):
        say(line)
    if found:
        _resume(run, found[-1])
    elif not is_dry_run and accelerator.is_main_process:
        _check_room(run)
    if settings.validation.every and not is_dry_run:
        clips = build_dataset(data, split="val", seed=settings.seed)
        run.validation = [
            clips[0, number] for number in range(min(len(clips), settings.validation.num_clips))
        ]
    return run


def _encoded(
    dataset: ClipDataset, task: TrainingTask, folder: Path, accelerator: Any, say: Say
) -> ClipDataset:
    """The dataset with latents and embeddings of all its clips, made by all processes together."""
    cache = EncodingCache(folder, weights=weights_digest(task.frozen))
    num_written = cache.fill(
        dataset,
        task.encode,
        device=accelerator.device,
        rank=accelerator.process_index,
        num_ranks=accelerator.num_processes,
    )
    accelerator.wait_for_everyone()
    say(f"latents of all clips are in {folder}; {num_written} of this process's were made now")
    return dataset.with_cache(cache)


def make_task(settings: TrainSettings) -> TrainingTask:
    """The family's task around the model that is trained further, on the CPU, with what trains chosen."""
    family = load_task(settings.family)
    objective = build(family.Settings, settings.objective, "objective")
    if settings.model == "tiny":
        pipeline = family.tiny_pipeline(
            height=settings.data.height, width=settings.data.width, seed=settings.seed
        )
    else:
        try:
            pipeline = load_pipeline(
                settings.model, checkpoint=settings.checkpoint, dtype=torch.float32, device="cpu"
            )
        except SourceError as error:
            raise ConfigError(
                f"model: {error}; where the model comes from an earlier stage or another command, run that "
                "first (the shipped YAMLs name it in their first lines)"
            ) from error
    pipeline.set_progress_bar_config(disable=True)
    task = family.from_pipeline(pipeline, objective)
    _choose_trained(task, settings)
    save_memory(
        task.model,
        gradient_checkpointing=settings.gradient_checkpointing,
        chunk_frames=settings.memory.chunk_frames,
    )
    return task


def _choose_trained(task: TrainingTask, settings: TrainSettings) -> None:
    names = settings.trainable
    if not names and settings.lora is None:
        names = tuple(name for name, _ in task.model.named_children())
    trainable.select(task.model, names, task.parts)
    if settings.lora is not None:
        add_lora(task.model, settings.lora, task.parts, seed=settings.seed)


def fit_data(settings: DataSettings, task: TrainingTask) -> DataSettings:
    """The data's settings with latents as small as the task's VAE makes them.

    Raises:
        ConfigError: they say otherwise, or the size is no multiple.
    """
    side = task.pipeline().pixels_per_latent
    if "latent_downscale" in settings.model_fields_set and settings.latent_downscale != side:
        raise ConfigError(
            f"data.latent_downscale is {settings.latent_downscale}, this model's VAE has {side}; leave it out"
        )
    content = settings.model_dump(exclude_unset=True) | {"latent_downscale": side}
    return build(DataSettings, content, "data")


def _trained(task: TrainingTask) -> dict[str, nn.Parameter]:
    return {
        name.replace(_WRAPPER, ""): parameter
        for name, parameter in task.model.named_parameters()
        if parameter.requires_grad
    }


def _resume(run: TrainingRun, checkpoint: Path) -> None:
    tensors, facts = load_state(checkpoint)
    if facts.get("family") != run.settings.family:
        raise ConfigError(
            f"{checkpoint} is of a training of {facts.get('family', 'another kind')}, not of "
            f"{run.settings.family}; give another output_dir"
        )
    restore_tensors(run.parameters, tensors[WEIGHTS], source=checkpoint)
    restore_tensors(run.average or {}, tensors.get(AVERAGE, {}), source=checkpoint)
    if is_deepspeed(run.accelerator):
        restore_engine(run.accelerator, checkpoint)
    else:
        restore_optimiser(run.optimiser.optimizer, run.parameters, tensors.get(OPTIMISER, {}))
    if run.accelerator.scaler is not None and facts.get("scaler"):
        run.accelerator.scaler.load_state_dict(facts["scaler"])
    run.progress = TrainingProgress(**facts["progress"])
    run.progress.saved = run.progress.step
    run.say(f"going on from {checkpoint}")
    now = run.settings.model_dump(mode="json")
    for line in differences(facts["settings"], now):
        run.say(f"changed since then: {line}")


def differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings that are not as they were, as `key: old → new`; where and how far a run goes is left out."""
    lines = []
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += differences(old, new, f"{prefix}{name}.")
        elif old != new and prefix + name not in ("output_dir", "max_steps", "resume"):
            lines.append(f"{prefix}{name}: {old} → {new}")
    return lines


def _check_folder(folder: Path) -> None:
    """Make the output folder, write to it once, and clear away what a killed run left half-written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{os.getpid()}.partial"
        trial.write_bytes(b"mimic")
        trial.unlink()
    except OSError as error:
        raise StateError(
            f"output_dir {folder} cannot be written: {error.strerror or error}; give another one"
        ) from error
    remove_partial(folder)


def _check_room(run: TrainingRun) -> None:
    """All that will stay, and the one checkpoint more that is there before an old one goes."""
    settings = run.settings
    number = settings.checkpoints.keep + 1 + settings.checkpoints.keep_best * bool(settings.validation.every)
    needed = number * checkpoint_bytes(run)
    free = shutil.disk_usage(settings.output_dir).free
    if free < needed:
        raise StateError(
            f"output_dir {settings.output_dir} has {as_bytes(free)} free; {number} checkpoints need "
            f"{as_bytes(needed)}. Make room, or set checkpoints.keep lower"
        )


def _silent(line: str) -> None:
    """Processes other than the main one say nothing."""
