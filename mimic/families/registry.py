"""Find the family of a model folder, hub id or checkpoint, and the training class of a family's name."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mimic.devices import best_device, chosen_dtype, missing_cuda, named_device
from mimic.families import animate_anyone, magic_animate, mimicmotion
from mimic.families.family import Family
from mimic.files import local_path
from mimic.weights.parts import read_json
from mimic.weights.sources import resolve, resolve_checkpoint
from mimic.weights.strict import WeightsError
from mimic.weights.training_folders import check_is_no_training
from pose.text import one_line

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from mimic.families.base import AnimationPipeline
    from mimic.families.task import TrainingTask

FAMILIES: dict[str, Family] = {}
"""All families by name; `register` adds one."""


def register(family: Family) -> None:
    """Register a family for `load_pipeline`, training YAMLs and comparisons.

    Raises:
        ValueError: a family with the same name or the same pipeline class name is registered already.
    """
    for other in FAMILIES.values():
        if other != family and (other.name == family.name or other.pipeline_name == family.pipeline_name):
            raise ValueError(f"a family called {other.name} with a {other.pipeline_name} is known already.")
    FAMILIES[family.name] = family


for _module in (mimicmotion, animate_anyone, magic_animate):
    register(_module.FAMILY)


def load_pipeline(
    model: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    variant: str | None = None,
    vae: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> AnimationPipeline[Any, Any]:
    """Load a pipeline, ready to run.

    Args:
        model: folder, hub id or ``bundled:mini``; with `checkpoint`, the Stable (Video) Diffusion base model.
        checkpoint: released weights: for MimicMotion a file or ``hf:owner/repository/file``, for other
            families a folder or hub id.
        dtype: precision of the weights, or its name; by default float16 on CUDA and float32 elsewhere.
        device: device of the pipeline; by default CUDA, else Apple's GPU, else the CPU.
        variant: of the weight files, for example ``fp16``.
        vae: with a released folder, folder or hub id of a VAE to use instead of the base's.
        local_files_only: use only files on disk; never access the hub.

    Raises:
        SourceError: the model is not found (an `OSError`).
        WeightsError: the weights do not fit the networks (a `ValueError`).
        ValueError: the model belongs to no known family, `dtype` is unknown, or `vae` is given and the family
            does not support it.
    """
    if device is None:
        device = best_device()
        if device.type == "cpu" and (note := missing_cuda()):
            log.warning(note)
    device = named_device(device)
    dtype = chosen_dtype(dtype, device)
    if checkpoint is None:
        folder = resolve(model, variant=variant, local_files_only=local_files_only)
        pipeline = (
            find_family(folder).pipeline_class().from_pretrained(folder, torch_dtype=dtype, variant=variant)
        )
    else:
        kind: Any = find_family(model, checkpoint).pipeline_class()
        given = {} if vae is None else {"vae": vae}
        if given.keys() - inspect.signature(kind.from_original).parameters.keys():
            raise ValueError(f"vae is given, but {kind.__name__} uses the base's VAE; leave vae out.")
        pipeline = kind.from_original(
            model, checkpoint, dtype=dtype, variant=variant, local_files_only=local_files_only, **given
        )
    return pipeline.to(device)


def load_task(name: str) -> type[TrainingTask[Any, Any]]:
    """Return the class that trains a family.

    Args:
        name: of the family.

    Raises:
        ValueError: the family is unknown or cannot be trained.
    """
    if name not in trained_families():
        raise ValueError(
            f"family '{name}' is not known; those that can be trained are {', '.join(trained_families())}."
        )
    return FAMILIES[name].task_class()


def trained_families() -> list[str]:
    """Return the names of the families that can be trained."""
    return [family.name for family in FAMILIES.values() if family.task is not None]


def find_sources(
    model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None = None
) -> tuple[Path, Path | None]:
    """Find the model folder and the checkpoint, and download those on the hub.

    Returns:
        the model folder, and the checkpoint's file or folder (None if not given).

    Raises:
        SourceError: one of them is not found (an `OSError`).
    """
    if checkpoint is None:
        return resolve(model), None
    folder = local_path(os.fspath(checkpoint))
    if folder.is_dir():
        check_is_no_training(folder)
        return resolve(model), folder
    file = resolve_checkpoint(checkpoint)
    return resolve(model, checkpoint=file), file


def find_family(folder: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None = None) -> Family:
    """Determine the family of a checkpoint, or of a model folder without checkpoint, without reading weights.

    Raises:
        SourceError: the model's index cannot be read (an `OSError`).
        WeightsError: the model belongs to no known family (a `ValueError`).
    """
    if checkpoint is not None:
        return _family_of_released(local_path(os.fspath(checkpoint)))
    index = Path(folder) / "model_index.json"
    if not index.is_file():
        raise WeightsError(f"{folder} has no model_index.json; give a folder in diffusers' layout.")
    name = read_json(index).get("_class_name")
    if name == "StableVideoDiffusionPipeline":
        raise WeightsError(
            f"{folder} is plain Stable Video Diffusion, which has no pose condition; also give a MimicMotion "
            "checkpoint."
        )
    found = [family for family in FAMILIES.values() if family.pipeline_name == name]
    if not found:
        known = ", ".join(family.pipeline_name for family in FAMILIES.values())
        raise WeightsError(f"{folder} is a {one_line(name, 60)}; expected one of {known}.")
    return found[0]


def _family_of_released(checkpoint: Path) -> Family:
    for family in FAMILIES.values():
        if family.recognises(checkpoint):
            return family
    known = "; ".join(
        f"{family.name}: {', '.join(family.checkpoint_files)}"
        for family in FAMILIES.values()
        if family.checkpoint_files
    )
    raise WeightsError(f"{checkpoint} holds no known released weights; expected {known}.")
