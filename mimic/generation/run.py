"""A config from beginning to end: check all cases, load the model once, run case after case."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mimic.config import CaseSettings, InferenceConfig
from mimic.devices import chosen_device, chosen_dtype
from mimic.families.base import AnimationPipeline
from mimic.families.family import Family
from mimic.families.registry import find_family, find_sources, load_pipeline
from mimic.files import local_path
from mimic.generation.animate import GenerateResult, generate
from mimic.generation.checks import InputError, check_driver, check_inputs, check_with_model
from mimic.generation.drivers import DriverTools, load_driver
from mimic.models.densepose_model import DensePoseModel
from mimic.provenance import described_model
from mimic.weights.strict import WeightsError
from pose import load_estimator
from pose.estimators import Estimator


@dataclass(frozen=True)
class CaseFailure:
    """A case that could not be finished, and why."""

    name: str
    error: Exception


@dataclass(frozen=True)
class RunResult:
    """What became of the cases of a config, in their order."""

    results: tuple[GenerateResult, ...]
    failures: tuple[CaseFailure, ...]


def run_config(
    config: InferenceConfig,
    *,
    output_dir: Path | None = None,
    is_progress_shown: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Run all cases of a config. One that fails leaves the others alone.

    Args:
        output_dir: in place of the config's.
        say: told in a line what is being done.

    Raises:
        ConfigError, InputError: something was wrong with the settings or inputs of a case; none was run.
        SourceError, WeightsError: the model is not there or its weights do not fit; none was run.
    """
    output_dir = output_dir or local_path(config.output_dir)
    device = chosen_device(config.device)
    check_inputs(config, output_dir)
    base, checkpoint = find_sources(config.base_model_path, config.ckpt_path)
    driver = load_driver(family_of(base, checkpoint).pipeline_class().driven_by, driver_tools(config, device))
    check_driver(config, driver)
    pipeline = load_model(config, base, checkpoint, device)
    if "warning" in pipeline.generation_defaults and not _is_all_bundled(config):
        say(f"note: {pipeline.generation_defaults['warning']}")
    reference_poses = check_with_model(config, pipeline, driver, output_dir)
    model = described_model(pipeline, base=base, checkpoint=checkpoint, name=config.base_model_path)
    say(f"model: {model['name']} on {model['device']}, {model['dtype']}")

    results: list[GenerateResult] = []
    failures: list[CaseFailure] = []
    for name, case, pose in zip(config.case_names(), config.test_case, reference_poses):
        say(f"{name}: {case.ref_image_path} moves as {case.ref_video_path}")
        try:
            result = generate(
                case.ref_image_path,
                case.ref_video_path,
                pipeline=pipeline,
                output=output_dir / f"{name}.mp4",
                reference_pose=pose,
                driver=driver,
                is_progress_shown=is_progress_shown,
                about={"model": model},
                **case.model_dump(include=set(CaseSettings.model_fields)),
            )
        except Exception as error:
            failures.append(CaseFailure(name, error))
            if len(config.test_case) > 1:  # of a single case the caller tells at once
                say(f"{name}: failed. {one_line(error)}")
        else:
            results.append(result)
            say(f"{name}: {summary(result)}")
    return RunResult(tuple(results), tuple(failures))


def family_of(base: Path, checkpoint: Path | None) -> Family:
    """The family of the model that will be loaded.

    Raises:
        InputError: it is of no known family.
    """
    try:
        return find_family(base, checkpoint)
    except ValueError as error:
        raise InputError(str(error)) from error


def driver_tools(config: InferenceConfig, device: torch.device) -> DriverTools:
    """The models that the config names for drivers, loaded when they are first used.

    Raises, when used:
        PoseError: an estimator's weights are missing.
        FileNotFoundError, DensePoseError: the DensePose model is not there, or none.
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

    return DriverTools(estimator, densepose_model)


def load_model(
    config: InferenceConfig, base: Path, checkpoint: Path | None, device: torch.device
) -> AnimationPipeline[Any, Any]:
    """The pipeline on its device.

    Raises:
        WeightsError: the weights do not fit.
        InputError: they are of no known family.
    """
    is_offloaded = config.cpu_offload and device.type == "cuda"
    dtype = chosen_dtype(config.dtype, device)
    place = torch.device("cpu") if is_offloaded else device
    try:
        pipeline = load_pipeline(base, checkpoint=checkpoint, dtype=dtype, device=place, vae=config.vae_path)
    except WeightsError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    if is_offloaded:
        pipeline.enable_model_cpu_offload(device=device)
    return pipeline


def summary(result: GenerateResult) -> str:
    """A result in a line."""
    sound = ", with sound" if result.has_audio else ""
    beside = f"; beside the reference in {result.side_by_side}" if result.side_by_side is not None else ""
    return (
        f"{result.path} ({_counted(result.num_frames, 'frame')} of {result.width}x{result.height}, "
        f"{result.fps:g} a second{sound}){beside}; took {result.seconds:.0f} s"
    )


def one_line(error: BaseException) -> str:
    """An error in a line; of one that is not about the user's doing, its kind as well."""
    text = " ".join(str(error).split())
    if "out of memory" in text:
        return (
            f"the device's memory is full ({text.split('. ')[0]}). Try cpu_offload=true, or smaller settings"
        )
    is_plain = isinstance(error, OSError | ValueError) and text
    return text if is_plain else f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_all_bundled(config: InferenceConfig) -> bool:
    return all(case.ref_image_path.startswith("bundled:") for case in config.test_case)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
