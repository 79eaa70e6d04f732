"""Estimate time and memory of a case from a short piece of it: two denoising steps of one window.

Nothing is written. The piece has the real picture, poses, size and networks, so that what is measured is what
the whole case does again and again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mimic.config import CaseSettings, InferenceConfig
from mimic.devices import chosen_device
from mimic.families.base import AnimationPipeline
from mimic.families.registry import find_sources
from mimic.files import local_path
from mimic.generation.animate import case_plan, sample_latents
from mimic.generation.checks import check_inputs, count_frames, result_files
from mimic.generation.decoding import decoded_frames
from mimic.generation.drivers import Driver
from mimic.generation.ready import Parts, get_ready
from mimic.generation.reference import see_reference
from mimic.generation.run import with_names
from mimic.generation.stages import Stages
from mimic.progress import clock, counted
from pose import PoseSequence

_LATENT_COPIES = 6
"""Tensors of the size of all latents, in float32, that sampling holds at once: latents, the model's input,
the sum of the windows, the step's results."""
_MEASURED_STEPS = 2


@dataclass(frozen=True)
class Estimate:
    """What a case will do, and what that costs here."""

    name: str
    path: Path
    """The result that would be written."""
    num_frames: int
    height: int
    width: int
    fps: float
    num_windows: int
    tile_size: int
    num_steps: int
    seconds: dict[str, float]
    """Seconds of each stage."""
    memory_mb: float | None
    """Peak memory of the process, in MB."""
    gpu_memory_mb: float | None
    """Peak GPU memory, in MB; None without a GPU."""

    @property
    def total_seconds(self) -> float:
        return sum(self.seconds.values())

    def lines(self) -> Iterator[str]:
        """Describe the estimate."""
        yield (
            f"{self.name}: would write {self.path}: {counted(self.num_frames, 'frame')} of "
            f"{self.width}x{self.height} pixels, {round(self.fps, 2):g} fps "
            f"({self.num_frames / self.fps:.1f} s)"
        )
        yield (
            f"{self.name}: {counted(self.num_windows, 'window')} of {counted(self.tile_size, 'frame')}, "
            f"{counted(self.num_steps, 'step')}: "
            f"{counted(self.num_windows * self.num_steps, 'window prediction')}"
        )
        stages = ", ".join(f"{stage} {clock(seconds)}" for stage, seconds in self.seconds.items())
        yield f"{self.name}: estimated time {clock(self.total_seconds)} ({stages})"
        memory = [
            f"{size / 1024:.1f} GB of {kind}"
            for size, kind in ((self.gpu_memory_mb, "GPU memory"), (self.memory_mb, "memory"))
            if size is not None
        ]
        yield f"{self.name}: estimated peak {' and '.join(memory) or 'memory is unknown on this system'}"


def estimate_config(
    config: InferenceConfig, *, output_dir: Path | None = None, say: Callable[[str], None] = lambda line: None
) -> list[Estimate]:
    """Check all cases of a config as `mimic.generation.run_config` does, and estimate each; writes nothing.

    Args:
        config: the model and its cases.
        output_dir: folder to use instead of the config's.
        say: called with lines that describe the progress.

    Raises:
        As `run_config`.
    """
    output_dir = local_path(output_dir or config.output_dir)
    device = chosen_device(config.device)
    config = with_names(config)
    check_inputs(config, output_dir, say=say)
    base, checkpoint = find_sources(config.base_model_path, config.ckpt_path)
    parts = Parts(config, base, checkpoint, device)
    ready = get_ready(config, parts, output_dir=output_dir, say=say)
    say("timing two denoising steps of one window of each case")
    return [
        estimate_case(
            name,
            result_files(output_dir, name, case).video,
            case.ref_image_path,
            case.ref_video_path,
            pipeline=ready.pipeline,
            driver=ready.driver,
            reference_pose=pose,
            num_frames=count_frames(case),
            settings=CaseSettings(**case.model_dump(include=set(CaseSettings.model_fields))),
        )
        for name, case, pose in zip(config.case_names(), config.test_case, ready.reference_poses)
    ]


def estimate_case(
    name: str,
    path: Path,
    reference: str,
    driving: str,
    *,
    pipeline: AnimationPipeline[Any, Any],
    driver: Driver,
    reference_pose: PoseSequence | None,
    num_frames: int,
    settings: CaseSettings,
) -> Estimate:
    """Run a short piece of a case and estimate the whole from it.

    Args:
        name, path: of the case and its result.
        reference, driving: the picture and the clip.
        pipeline, driver: as `generate` takes them.
        reference_pose: pose of the reference; None for models that are not driven by skeletons.
        num_frames: driving frames of the whole case.
        settings: settings of the case.

    Raises:
        As `generate`.
    """
    stages = Stages()
    marks: list[float] = []
    with stages("reference"):
        seen = see_reference(
            reference, pipeline, settings, find_pose=driver.reference_pose, pose=reference_pose
        )
    if seen.padding_note is not None:
        logging.getLogger("mimic").info(seen.padding_note)
    whole = case_plan(pipeline, settings, num_frames, seen.height, seen.width)
    window = max(len(window) for window in whole.windows) - pipeline.shows_reference_first
    num_piece = max(1, min(num_frames, window))
    piece = settings.model_copy(update={"max_frames": num_piece})
    with stages("poses"):
        moves = driver.read(local_path(driving), seen, pipeline, piece)
    num_piece = moves.num_frames
    short = piece.model_copy(update={"num_inference_steps": _MEASURED_STEPS})
    plan = case_plan(pipeline, short, num_piece, seen.height, seen.width)

    with stages("denoising"):
        start = time.perf_counter()
        latents = sample_latents(
            pipeline, plan, seen, moves.maps, progress=lambda done, total: marks.append(_now(pipeline))
        )
    per_window = (marks[-1] - marks[0]) / (len(marks) - 1)
    with stages("decoding"):
        num_decoded = len(list(islice(decoded_frames(pipeline, plan, latents, settings), num_piece)))
    measured = {stage.name: stage for stage in stages.done}
    channels, h, w = pipeline.latent_shape(seen.height, seen.width)
    growth = _LATENT_COPIES * 4 * channels * h * w * max(0, num_frames - num_piece) / 2**20
    on_gpu = measured["denoising"].peak_gpu_memory_mb is not None
    memory = _most(stage.peak_memory_mb for stage in stages.done)
    gpu_memory = _most(stage.peak_gpu_memory_mb for stage in stages.done)
    encoding = max(0.0, marks[0] - start - per_window)
    num_predictions = len(whole.windows) * whole.num_inference_steps
    return Estimate(
        name=name,
        path=path,
        num_frames=num_frames,
        height=seen.height,
        width=seen.width,
        fps=float(moves.output_fps(settings)),
        num_windows=len(whole.windows),
        tile_size=whole.tile_size,
        num_steps=whole.num_inference_steps,
        seconds={
            "poses": measured["reference"].seconds + measured["poses"].seconds / num_piece * num_frames,
            "denoising": encoding + per_window * num_predictions,
            "decoding": measured["decoding"].seconds / max(1, num_decoded) * num_frames,
        },
        memory_mb=memory if memory is None or on_gpu else memory + growth,
        gpu_memory_mb=None if gpu_memory is None else gpu_memory + growth,
    )


def _now(pipeline: AnimationPipeline[Any, Any]) -> float:
    """Return the time at which the device has finished all that it was given."""
    if pipeline.execution_device.type == "cuda":
        torch.cuda.synchronize(pipeline.execution_device)
    return time.perf_counter()


def _most(values: Iterator[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
