"""Make the family's task from the settings: load the model, select what is trained."""

from __future__ import annotations

import torch

from mimic.config.loading import ConfigError, build
from mimic.families.registry import load_pipeline, load_task
from mimic.families.task import TrainingTask
from mimic.models.memory import save_memory
from mimic.training import trainable
from mimic.training.lora import add_lora
from mimic.training.policy import set_window
from mimic.training.settings import TrainSettings
from mimic.weights.sources import SourceError


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
    set_window(pipeline, objective, num_frames=settings.data.num_frames)
    if settings.data.source == "prepared":
        # What is said of a base that knows rendered dancers only does not hold for one trained on videos.
        stored = pipeline.generation_defaults.items()
        pipeline.generation_defaults = {k: v for k, v in stored if k not in ("warning", "description")}
    task = family.from_pipeline(pipeline, objective)
    choose_trained(task, settings)
    save_memory(
        task.model,
        gradient_checkpointing=settings.gradient_checkpointing,
        chunk_frames=settings.memory.chunk_frames,
    )
    return task


def choose_trained(task: TrainingTask, settings: TrainSettings) -> None:
    """Freeze all but what the settings train, and add LoRA."""
    names = settings.trainable
    if not names and settings.lora is None:
        names = tuple(name for name, _ in task.model.named_children())
    trainable.select(task.model, names, task.parts, inert=task.inert)
    if settings.lora is not None:
        add_lora(task.model, settings.lora, task.parts, seed=settings.seed, inert=task.inert)
