"""Generate one video file from a reference picture and a driving clip."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mimic.config import CaseSettings
from mimic.config.inference import merged
from mimic.config.loading import build
from mimic.config.one_line import named_model
from mimic.families.base import AnimationPipeline
from mimic.families.inputs import Inputs
from mimic.families.plan import Plan
from mimic.families.registry import load_pipeline
from mimic.families.steps import StepReport
from mimic.files import local_path, write_json
from mimic.generation.background import ReferenceBackground, check_background
from mimic.generation.decoding import decoded_frames
from mimic.generation.drivers import Driver, DriverTools, Driving, DrivingMaps, load_driver
from mimic.generation.memory_mode import MemoryMode
from mimic.generation.output import Output, side_by_side_path, write_frames
from mimic.generation.preview import Preview, decoder_for_previews, preview_path
from mimic.generation.reference import PictureSource, Reference, see_reference
from mimic.generation.result import GenerateResult, unwritten_result
from mimic.generation.stages import Stages
from mimic.generation.unfinished import FollowedSteps, KeptSteps, Unfinished, finish_interrupted
from mimic.models.densepose_model import DensePoseModel
from mimic.names import fault_of
from mimic.progress import Progress, progress_bar
from mimic.provenance import described_model, file_facts, versions
from mimic.results import ResultFiles, check_inputs_stay, hash_of_video, read_result, set_aside
from mimic.video import SoundCheck, check_audio
from mimic.video.formats import check_format, check_place, check_rate, stem_of
from pose import PoseSequence, load_estimator
from pose.estimators import Estimator

log = logging.getLogger("mimic")


def generate(
    reference: PictureSource,
    driving: str | os.PathLike[str] | PoseSequence,
    *,
    output: str | os.PathLike[str],
    pipeline: AnimationPipeline[Any, Any] | None = None,
    model: str | os.PathLike[str] = "bundled:mini",
    estimator: str | Estimator = "auto",
    reference_pose: PoseSequence | None = None,
    densepose_model: DensePoseModel | None = None,
    driver: Driver | None = None,
    overwrite: bool = False,
    is_progress_shown: bool = True,
    about: Mapping[str, Any] | None = None,
    identity: str | None = None,
    memory: MemoryMode | None = None,
    **settings: Any,
) -> GenerateResult:
    """Animate the person of a reference picture with the motion of a driving clip, and write the video.

    With an `identity`, an interrupted call leaves its finished steps and frames in a folder
    ``<name>.unfinished`` beside the result, and a call of the same identity continues from there.

    Args:
        reference: the picture: a file, or RGB (uint8 ``H x W x 3`` or PIL).
        driving: a video; a ``.npz`` of poses written by `mimic pose`; or a `PoseSequence`.
        pipeline: a pipeline returned by `load_pipeline`; by default, `model` is loaded.
        model: the model, if no pipeline is given: ``mimicmotion``, ``animate-anyone`` or ``magic-animate``
            (the released weights with their released settings), a folder, a hub id, ``bundled:…``, a
            MimicMotion checkpoint, or a YAML. Give `pipeline` to load a model once for several calls.
        output: path of the result: a video (``.mp4``, ``.m4v``, ``.mov``, ``.mkv`` or ``.webm``), a ``.gif``,
            or, without a suffix, a folder that gets one PNG for each frame; a ``.json`` with the same stem is
            written next to it.
        estimator: a pose estimator or its name; not used if both poses are given.
        reference_pose: pose of the reference, if already known.
        densepose_model: for models driven by DensePose maps: computes the maps of an ordinary clip; without
            it, the driving clip has to be a DensePose video.
        driver: driver to use instead of one made from `estimator` and `densepose_model`.
        overwrite: replace a former result with this name; if false, it is renamed to ``<name>.1.mp4``.
        is_progress_shown: show progress of poses, denoising and decoding: bars on a terminal or in a
            notebook, lines elsewhere.
        about: additional entries of the report; ``model`` replaces the detected description of the pipeline.
        identity: hash of everything that makes the result: settings, inputs and weights. The caller answers
            for it; `mimic infer` computes it from the contents of all files.
        memory: how much memory to use; by default the pipeline is used as it is.
        settings: settings of `mimic.config.CaseSettings`, by name.

    Returns:
        paths and properties of the written files.

    Raises:
        ConfigError: a setting is unknown or invalid.
        SourceError, WeightsError: `model` is not found or its weights do not fit.
        FileNotFoundError, PictureError, VideoError: an input is missing or cannot be read.
        PoseError: no person is found in the picture or in the clip, or the poses cannot be aligned.
        ResultError: the result would replace an input, or a file that mimic did not write (a `ValueError`).
        ValueError: settings do not fit the model, or the output's suffix is not one of a video.
        VideoWriteError: frames cannot be written; the message names the file that holds the finished ones.
    """
    if pipeline is None:
        released, stored = named_model(model)
        build(CaseSettings, settings := merged(stored, settings), "settings")  # before the model is loaded
        pipeline = load_pipeline(
            released["base_model_path"], checkpoint=released.get("ckpt_path"), vae=released.get("vae_path")
        )
    chosen = build(CaseSettings, settings, "settings")
    path, start, stages = local_path(output), time.perf_counter(), Stages()
    check_format(path)
    check_place(path)
    if chosen.fps is not None:
        check_rate(path, chosen.fps)
    files = ResultFiles(path, side_by_side_path(path) if chosen.side_by_side else None)
    ranks = pipeline.ranks
    is_writing = ranks is None or ranks.is_first
    fault = fault_of(stem_of(path))
    if is_writing and fault is not None:
        log.warning("output is %s; %s", path, fault)
    kept = None
    if is_writing:
        check_inputs_stay([*files, *([preview_path(path)] if chosen.preview else [])], [reference, driving])
        finish_interrupted(files)
        read_result(files, is_writing=True)
        kept = None if identity is None else Unfinished(files, identity, versions=versions())
    resumed = None if kept is None else kept.describe()
    if kept is not None:
        kept.announce()
    if "warning" in pipeline.generation_defaults and "model" not in (about or {}):
        warnings.warn(pipeline.generation_defaults["warning"], stacklevel=2)
    if driver is None:
        find_estimator = functools.cache(lambda: _estimator(estimator, pipeline))
        driver = load_driver(pipeline.driven_by, DriverTools(find_estimator, lambda: densepose_model))
    check_background(chosen, driver)
    preview_decoder = None
    if chosen.preview and is_writing:
        preview_decoder = decoder_for_previews(pipeline, chosen.preview_decoder)

    with stages("reference"):
        seen = see_reference(
            reference, pipeline, chosen, find_pose=driver.reference_pose, pose=reference_pose
        )
    if seen.padding_note is not None:
        log.info(seen.padding_note)
    in_turn = contextlib.nullcontext() if ranks is None else ranks.first_goes_first()  # poses are cached
    with stages("poses"), in_turn, progress_bar("poses", "frame", is_shown=is_progress_shown) as show:
        moves = driver.read(_local(driving), seen, pipeline, chosen, progress=show)
    if moves.part_note is not None and identity is None:  # `run_config` tells it before it loads a model
        log.info(moves.part_note)
    if moves.stride > 1 and moves.num_frames > 1:
        log.info(
            "the driving clip: of its %g frames a second every %s is used, %g a second (sample_stride)",
            round(moves.source_fps, 2),
            _ordinal(moves.stride),
            round(moves.fps, 2),
        )
    check_rate(path, moves.output_fps(chosen))
    plan = case_plan(pipeline, chosen, moves.num_frames, seen.height, seen.width)
    steps = None if kept is None else kept.steps
    if ranks is not None:
        found = ranks.from_first(None if steps is None else steps.found)
        steps = FollowedSteps(found) if steps is None else steps
    if memory is not None:
        before = None if steps is None or steps.found is None else steps.found[1].get("memory_mode")
        memory.apply(pipeline, plan, before=before)
        if kept is not None:
            kept.about["memory_mode"] = str(memory.used)
    sound = _sound_of(moves, chosen)
    with contextlib.ExitStack() as parts:
        if kept is None and is_writing:
            former = parts.enter_context(set_aside(files, is_kept=not overwrite))
        elif kept is not None:
            parts.enter_context(kept.saved_on_failure())
        is_bar_shown = is_progress_shown and not getattr(pipeline, "_progress_bar_config", {}).get("disable")
        preview = None
        if chosen.preview and is_writing:
            preview = Preview(
                pipeline,
                preview_path(path),
                seen.picture,
                fps=moves.output_fps(chosen),
                decoder=preview_decoder,
            )
            moved = preview.make_room(is_ours=resumed is not None)
            if moved is not None:
                log.info("%s was there already; it is now %s", preview.path.name, moved.name)
        with stages("denoising"), progress_bar("denoising", "window", is_shown=is_bar_shown) as show:
            latents = sample_latents(
                pipeline, plan, seen, moves.maps, progress=show, preview=preview, kept=steps
            )
        frames = decoded_frames(pipeline, plan, latents, chosen, None if kept is None else kept.frames)
        result = _output(files if kept is None else kept.staged, moves, chosen, has_audio=sound.is_usable)
        if not is_writing:
            for _ in frames:  # decoded for the first process
                pass
            return unwritten_result(result, seen, has_audio=sound.is_usable, start=start)
        background = None
        if chosen.background == "reference" and moves.poses is not None:
            background = ReferenceBackground(seen.picture, moves.poses)
            frames = background.lay_over(frames)
        with stages("decoding"), progress_bar("decoding", "frame", is_shown=is_progress_shown) as show:
            written = write_frames(frames, result, seen, moves.maps, progress=show)
        if preview is not None:
            preview.remove()
        missing = sound.missing or written.missing
        seconds = time.perf_counter() - start
        report = {
            "name": stem_of(path),
            "model": described_model(pipeline),
            **(about or {}),
            "identity": identity,
            "settings": {**chosen.model_dump(), **plan.as_settings()},
            "seed": chosen.seed,
            "memory_mode": None if memory is None else {"asked": memory.asked, "used": memory.used},
            "reference": file_facts(reference),
            "driving": file_facts(driving) | _facts_of(moves),
            "poses": moves.facts,
            "verdict": moves.verdict,
            "background": None if background is None else background.as_dict(),
            "output": _facts_of_output(result, seen) | {"has_audio": written.has_audio, "missing": missing},
            "versions": versions(),
            "stages": stages.as_dicts(),
            "seconds": round(seconds, 3),
            "resumed": resumed,
        }
        write_json(files.report if kept is None else kept.staged.report, report)
        if kept is not None:
            former = kept.place(is_former_kept=not overwrite)
    return GenerateResult(
        path=path,
        side_by_side=files.side_by_side,
        report=files.report,
        num_frames=result.num_frames,
        fps=float(result.fps),
        height=seen.height,
        width=seen.width,
        has_audio=written.has_audio,
        seconds=seconds,
        missing=missing,
        former=None if former is None else former.video,
        poses=moves.poses,
    )


def case_plan(
    pipeline: AnimationPipeline[Any, Any], settings: CaseSettings, num_frames: int, height: int, width: int
) -> Plan[Any]:
    """Make the plan of a case.

    Args:
        pipeline: the pipeline.
        settings: settings of the case.
        num_frames: number of driving frames.
        height, width: size of the result in pixels.

    Raises:
        ValueError: the family does not have a setting, or it does not fit the model or another setting.
    """
    return pipeline.plan(
        num_frames=num_frames + pipeline.shows_reference_first,
        height=height,
        width=width,
        # The generator is on the device, as in the released script.
        generator=torch.Generator(pipeline.execution_device).manual_seed(settings.seed),
        **settings.sampling(),
    )


def sample_latents(
    pipeline: AnimationPipeline[Any, Any],
    plan: Plan[Any],
    reference: Reference,
    maps: DrivingMaps,
    *,
    progress: Progress,
    preview: Preview | None = None,
    kept: KeptSteps | None = None,
) -> Tensor:
    """Sample the latents of all frames, including the reference frame if `shows_reference_first`."""
    finished = None if kept is None else kept.finished_latents()
    if finished is not None:
        return finished.to(pipeline.execution_device, pipeline.denoiser.dtype)
    shown = maps if pipeline.shows_reference_first else BehindTheFirst(maps)
    inputs = Inputs([Image.fromarray(reference.picture)], [shown])
    report = StepReport(preview, progress=progress, keeper=kept)
    latents = pipeline.animate(inputs, plan, output_type="latent", report=report)
    assert isinstance(latents, Tensor)
    return latents


class BehindTheFirst:
    """Driving maps without the reference's, for families whose videos do not begin with the reference."""

    def __init__(self, maps: DrivingMaps) -> None:
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps) - 1

    def __call__(self, frames: list[int]) -> NDArray[np.uint8]:
        return self._maps([frame + 1 for frame in frames])


def _sound_of(driving: Driving, settings: CaseSettings) -> SoundCheck:
    """Check which audio of the clip can be used, before the expensive stages."""
    clip = driving.clip
    if settings.audio != "keep" or clip is None or not clip.has_audio:
        return SoundCheck(False)
    return check_audio(clip.path, start_s=driving.start_s, duration_s=driving.source_seconds)


def _output(files: ResultFiles, driving: Driving, settings: CaseSettings, *, has_audio: bool) -> Output:
    return Output(
        path=files.video,
        side_by_side=files.side_by_side,
        fps=driving.output_fps(settings),
        crf=settings.crf,
        driving=driving,
        num_frames=driving.num_frames,
        has_audio=has_audio,
    )


def _ordinal(number: int) -> str:
    return f"{number}{ {2: 'nd', 3: 'rd'}.get(number, 'th') }"


def _facts_of(driving: Driving) -> dict[str, Any]:
    return {
        "num_frames": driving.num_frames,
        "clip_fps": driving.source_fps,
        "stride": driving.stride,
        "part_s": [round(second, 3) for second in driving.part_s],
        "part_note": driving.part_note,
    }


def _facts_of_output(output: Output, reference: Reference) -> dict[str, Any]:
    return {
        "file": output.path.name,
        "side_by_side": output.side_by_side.name if output.side_by_side is not None else None,
        "num_frames": output.num_frames,
        "height": reference.height,
        "width": reference.width,
        "fps": float(output.fps),
        "sha256": hash_of_video(output.path),
    }


def _estimator(estimator: str | Estimator, pipeline: AnimationPipeline[Any, Any]) -> Estimator:
    if isinstance(estimator, Estimator):
        return estimator
    return load_estimator(estimator, device="cuda" if pipeline.execution_device.type == "cuda" else "cpu")


def _local(driving: str | os.PathLike[str] | PoseSequence) -> Path | PoseSequence:
    return driving if isinstance(driving, PoseSequence) else local_path(driving)
