"""What the cases of a config share: the driver, the references' poses, the model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mimic.config import InferenceConfig
from mimic.devices import chosen_dtype
from mimic.families.base import AnimationPipeline
from mimic.families.family import Family
from mimic.families.registry import find_family, load_pipeline
from mimic.files import local_path
from mimic.generation.checks import (
    InputError,
    check_driver,
    check_with_model,
)
from mimic.generation.drivers import Driver, DriverTools, load_driver
from mimic.generation.memory_mode import offload_groups
from mimic.generation.pose_cache import PoseCache
from mimic.models.densepose_model import DensePoseModel
from mimic.models.quantised import check_torchao, quantise
from mimic.provenance import described_model, estimator_facts, versions
from mimic.weights.strict import WeightsError
from pose import PoseSequence, load_estimator
from pose.estimators import Estimator


class Parts:
    """Driver and model of a config, loaded when they are first used.

    Args:
        config: the model; its cases are not read.
        base, checkpoint: where the weights are.
        device: of the model.

    Raises, on first use:
        InputError: the model belongs to no known family (a `ValueError`).
        WeightsError: the weights do not fit (a `ValueError`).
    """

    def __init__(
        self, config: InferenceConfig, base: Path, checkpoint: Path | None, device: torch.device
    ) -> None:
        self._config, self._base, self._checkpoint, self._device = config, base, checkpoint, device

    @functools.cached_property
    def driver(self) -> Driver:
        kind = family_of(self._base, self._checkpoint).pipeline_class()
        return load_driver(kind.driven_by, driver_tools(self._config, self._device))

    @functools.cached_property
    def pipeline(self) -> AnimationPipeline[Any, Any]:
        return load_model(self._config, self._base, self._checkpoint, self._device)

    @functools.cached_property
    def model(self) -> dict[str, Any]:
        """Description of the model, for reports."""
        model = described_model(
            self.pipeline, base=self._base, checkpoint=self._checkpoint, name=self._config.base_model_path
        )
        changes = {"fp8_weights": self._config.fp8_weights, "torchao": self._config.torchao}
        return {**model, **{name: value for name, value in changes.items() if value}}


@dataclass(frozen=True)
class Ready:
    """What the cases of a config need, loaded and checked."""

    pipeline: AnimationPipeline[Any, Any]
    driver: Driver
    reference_poses: list[PoseSequence | None]
    """Poses of the references, one for each case; None if the model is not driven by skeletons."""
    model: dict[str, Any]
    """Description of the model, for reports."""


def get_ready(
    config: InferenceConfig, parts: Parts, *, output_dir: Path, say: Callable[[str], None]
) -> Ready:
    """Check all cases against driver and model, and load both.

    Raises:
        InputError, WeightsError: as `run_config`.
    """
    check_driver(config, parts.driver)
    pipeline = parts.pipeline
    if "warning" in pipeline.generation_defaults and not _is_all_bundled(config):
        say(f"note: {pipeline.generation_defaults['warning']}")
    reference_poses = check_with_model(config, pipeline, parts.driver, output_dir)
    model = parts.model
    say(f"model: {model['name']} on {model['device']}, {model['dtype']}")
    return Ready(pipeline, parts.driver, reference_poses, model)


def family_of(base: Path, checkpoint: Path | None) -> Family:
    """Determine the family of the model to load.

    Raises:
        InputError: the model belongs to no known family (a `ValueError`).
    """
    try:
        return find_family(base, checkpoint)
    except ValueError as error:
        raise InputError(str(error)) from error


def driver_tools(config: InferenceConfig, device: torch.device) -> DriverTools:
    """Return the config's models for drivers, which are loaded on first use.

    Raises, on first use:
        PoseError: an estimator's weights are missing.
        FileNotFoundError, DensePoseError: the DensePose model is missing or invalid.
    """
    place = "auto" if device.type == "cuda" else "cpu"

    @functools.cache
    def estimator() -> Estimator:
        weights = local_path(config.estimator_weights) if config.estimator_weights is not None else None
        return load_estimator(config.estimator, weights=weights, device=place)

    @functools.cache
    def densepose_model() -> DensePoseModel | None:
        if config.densepose_model is None:
            return None
        return DensePoseModel(local_path(config.densepose_model), device=place)

    found = {name: number for name, number in versions().items() if name in _POSE_PACKAGES}
    facts = {
        "files": estimator_facts(config.estimator, config.estimator_weights),
        "device": place,
        "versions": found,
    }
    return DriverTools(estimator, densepose_model, PoseCache(facts))


def load_model(
    config: InferenceConfig, base: Path, checkpoint: Path | None, device: torch.device
) -> AnimationPipeline[Any, Any]:
    """Load the config's pipeline onto its device.

    Raises:
        WeightsError: the weights do not fit (a `ValueError`).
        InputError: the model belongs to no known family, or `group_offload` has no CUDA device (a
            `ValueError`).
    """
    if config.group_offload and device.type != "cuda":
        raise InputError(
            "group_offload moves weights between main memory and a CUDA device, block by block, and this run "
            f"computes on {device.type}; leave group_offload out, or give device: cuda."
        )
    if config.torchao is not None:
        try:
            check_torchao()
        except ValueError as error:
            raise InputError(str(error)) from error
        if config.fp8_weights:
            raise InputError("torchao and fp8_weights both change the weights; leave one of them out.")
    is_lower = config.cpu_offload or config.group_offload or config.memory_mode in ("balanced", "low")
    is_offloaded = is_lower and device.type == "cuda"
    dtype = chosen_dtype(config.dtype, device)
    place = torch.device("cpu") if is_offloaded else device
    try:
        pipeline = load_pipeline(base, checkpoint=checkpoint, dtype=dtype, device=place, vae=config.vae_path)
    except WeightsError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    if config.fp8_weights:
        pipeline.denoiser.enable_layerwise_casting(torch.float8_e4m3fn, dtype)
    if config.torchao is not None:
        quantise(pipeline.denoiser, config.torchao)
    if config.group_offload:
        offload_groups(pipeline, device)
    elif is_offloaded:
        pipeline.enable_model_cpu_offload(device=device)
    return pipeline


_POSE_PACKAGES = ("numpy", "av", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu")
"""Packages whose versions can change the poses that are found."""


def _is_all_bundled(config: InferenceConfig) -> bool:
    return all(case.ref_image_path.startswith("bundled:") for case in config.test_case)
