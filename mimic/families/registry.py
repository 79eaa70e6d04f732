"""From a model's folder, hub id or checkpoint to its family's pipeline; from its name to its training."""

from __future__ import annotations

import importlib
import json
import os
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mimic.files import local_path
from mimic.weights.sources import resolve, resolve_checkpoint

if TYPE_CHECKING:
    from mimic.families.task import TrainingTask

FAMILIES = {
    "MimicMotionPipeline": "mimic.families.mimicmotion.pipeline",
    "AnimateAnyonePipeline": "mimic.families.animate_anyone.pipeline",
    "MagicAnimatePipeline": "mimic.families.magic_animate.pipeline",
}
"""Pipeline class, as `model_index.json` names it, to the module that has it."""

RELEASED_FOLDERS = {
    "denoising_unet.pth": "AnimateAnyonePipeline",
    "denoising_unet.safetensors": "AnimateAnyonePipeline",
    "densepose_controlnet": "MagicAnimatePipeline",
}
"""What a folder of released weights holds, to the pipeline class that they are for."""

TASKS = {
    "mimicmotion": "mimic.families.mimicmotion.training:MimicMotionTask",
    "animate_anyone": "mimic.families.animate_anyone.training:AnimateAnyoneTask",
    "magic_animate": "mimic.families.magic_animate.training:MagicAnimateTask",
}
"""`family` of a training YAML to the `TrainingTask` that trains it."""

_DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "float16": torch.float16,
    "fp16": torch.float16,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}


def load_pipeline(
    model: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    variant: str | None = None,
    vae: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Any:
    """A pipeline ready to run.

    Args:
        model: folder, hub id or ``bundled:mini``; with `checkpoint` the Stable (Video) Diffusion under it.
        checkpoint: a released MimicMotion checkpoint: a file, or ``hf:owner/repository/file``; or another
            family's released folder (`RELEASED_FOLDERS`).
        dtype: precision of the weights, also by name; float16 on CUDA and float32 elsewhere unless given.
        device: where to put it; CUDA, else Apple's GPU, else the CPU unless given.
        variant: of the weight files, such as ``fp16``.
        vae: with a released folder: folder or hub id of another VAE than the base's.
        local_files_only: do not ask the hub.

    Raises:
        SourceError: the model is not there (an `OSError`).
        WeightsError: its weights do not fit (a `ValueError`).
        ValueError: the model is of no known family, or `dtype` is not known.
    """
    device = torch.device(device) if device is not None else best_device()
    dtype = _dtype(dtype, device)
    released = None if checkpoint is None else _family_of_released(checkpoint)
    if released is not None and checkpoint is not None:
        pipeline = _family(released).from_original(
            model, checkpoint, vae=vae, dtype=dtype, variant=variant, local_files_only=local_files_only
        )
    elif checkpoint is not None:
        file = resolve_checkpoint(checkpoint, local_files_only=local_files_only)
        base = resolve(model, checkpoint=file, local_files_only=local_files_only)
        pipeline = _family("MimicMotionPipeline").from_original(base, file, dtype=dtype, variant=variant)
    else:
        folder = resolve(model, variant=variant, local_files_only=local_files_only)
        pipeline = _family_of(folder).from_pretrained(folder, torch_dtype=dtype, variant=variant)
    return pipeline.to(device)


def load_task(name: str) -> type[TrainingTask]:
    """The class that trains a family.

    Raises:
        ValueError: there is no such family.
    """
    if name not in TASKS:
        raise ValueError(f"family '{name}' is not known; those that can be trained are {', '.join(TASKS)}.")
    module, _, attribute = TASKS[name].partition(":")
    return typing.cast("type[TrainingTask]", getattr(importlib.import_module(module), attribute))


def find_sources(
    model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None = None
) -> tuple[Path, Path | None]:
    """(model folder, checkpoint file or folder) of what a user wrote, downloaded where they are on the hub.

    Raises:
        SourceError: one of them cannot be had.
    """
    if checkpoint is None:
        return resolve(model), None
    if _family_of_released(checkpoint) is not None:
        return resolve(model), local_path(os.fspath(checkpoint))
    file = resolve_checkpoint(checkpoint)
    return resolve(model, checkpoint=file), file


def find_family(folder: os.PathLike[str], checkpoint: os.PathLike[str] | None = None) -> Any:
    """The pipeline class of a model folder, or of the checkpoint that goes over it; no weights are read.

    Raises:
        ValueError: it is of no known family.
    """
    if checkpoint is None:
        return _family_of(folder)
    return _family(_family_of_released(checkpoint) or "MimicMotionPipeline")


def _family_of_released(checkpoint: str | os.PathLike[str]) -> str | None:
    folder = local_path(os.fspath(checkpoint))
    if not folder.is_dir():
        return None
    return next((family for part, family in RELEASED_FOLDERS.items() if (folder / part).exists()), None)


def best_device() -> torch.device:
    """CUDA, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype(dtype: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise ValueError(f"dtype '{dtype}' is not known; use one of {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]


def _family_of(folder: os.PathLike[str]) -> Any:
    index = os.path.join(folder, "model_index.json")
    if not os.path.isfile(index):
        raise ValueError(f"{folder} has no model_index.json; give a folder in diffusers' layout.")
    with open(index, encoding="utf-8") as file:
        name = json.load(file).get("_class_name")
    if name == "StableVideoDiffusionPipeline":
        raise ValueError(
            f"{folder} is plain Stable Video Diffusion, which knows no poses; give a MimicMotion "
            "checkpoint with it."
        )
    if name not in FAMILIES:
        raise ValueError(f"{folder} is a {name}; known are {', '.join(FAMILIES)}.")
    return _family(name)


def _family(name: str) -> Any:
    return getattr(importlib.import_module(FAMILIES[name]), name)
