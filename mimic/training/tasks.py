"""Make the family's task from the settings: load the model, select what is trained."""

from __future__ import annotations

from typing import Any

import torch

from mimic.config.loading import ConfigError, build
from mimic.families.base import AnimationPipeline
from mimic.families.registry import load_pipeline, load_task
from mimic.families.task import TrainingTask
from mimic.models.memory import save_memory
from mimic.training import trainable
from mimic.training.lora import add_lora
from mimic.training.policy import set_window
from mimic.training.settings import TrainSettings
from mimic.weights.errors import SourceError


def make_task(settings: TrainSettings) -> TrainingTask:
    """The family's task around the model that is trained further, on the CPU, with what trains chosen."""
    if settings.model == "tiny":
        size = {"height": settings.data.height, "width": settings.data.width}
        return task_around(load_task(settings.family).tiny_pipeline(**size, seed=settings.seed), settings)
    try:
        pipeline = load_pipeline(
            settings.model, checkpoint=settings.checkpoint, dtype=torch.float32, device="cpu"
        )
    except SourceError as error:
        raise ConfigError(
            f"model: {error}; where the model comes from an earlier stage or another command, run that "
            "first (the shipped YAMLs name it in their first lines)"
        ) from error
    return task_around(pipeline, settings)


def task_around(pipeline: AnimationPipeline[Any, Any], settings: TrainSettings) -> TrainingTask:
    """The family's task around a pipeline, whose networks are trained in place."""
    family = load_task(settings.family)
    objective = build(family.Settings, settings.objective, "objective")
    pipeline.set_progress_bar_config(disable=True)
    set_window(pipeline, objective, num_frames=settings.data.num_frames)
    if settings.data.source == "prepared":
        # What is said of a base that knows rendered dancers only does not hold for one trained on videos.
        stored = pipeline.generation_defaults.items()
        pipeline.generation_defaults = {k: v for k, v in stored if k not in ("warning", "description")}
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
    trainable.select(task.model, names, task.parts, inert=task.inert)
    if settings.lora is not None:
        add_lora(task.model, settings.lora, task.parts, seed=settings.seed, inert=task.inert)
