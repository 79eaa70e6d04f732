"""A comparison from its YAML to `results.jsonl` and `report.html`, cell by cell.

A cell is one variant, one clip, one seed; its folder `cells/<variant>/<clip>/seed_<n>/` holds the video, the
run's own report and `cell.json`, written last. A cell that is there and was made of the same things is not
made again. Several processes (`accelerate launch`, torchrun) share the cells by their number; whichever ends
last finds all of them and writes the page.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mimic.compare.inputs import ClipInputs, prepare_clips
from mimic.compare.page import write_page
from mimic.compare.settings import CompareConfig, VariantSettings
from mimic.config import CaseSettings
from mimic.config.loading import build
from mimic.devices import chosen_device
from mimic.families.registry import load_pipeline
from mimic.files import local_path, whole_file, write_json
from mimic.generation import generate
from mimic.metrics.clips import Pair, find_clips
from mimic.metrics.evaluate import SET_METRICS, Tools, evaluate
from mimic.metrics.features import FeatureNetwork, PerceptualDistance
from mimic.metrics.identity import FaceModel
from mimic.metrics.protocols import PROTOCOLS
from mimic.metrics.seams import layout_of_run
from mimic.models.densepose_model import DensePoseModel
from mimic.provenance import described_model, versions
from pose import PoseSequence, load_estimator
from pose.estimators import Estimator

Say = Callable[[str], None]
_Key = tuple[str, str | None, str | None]


class CompareError(ValueError):
    """Variants that cannot be compared."""


@dataclass(frozen=True)
class Cell:
    """One variant, one clip, one seed."""

    variant: VariantSettings
    clip: ClipInputs
    seed: int
    folder: Path

    @property
    def video(self) -> Path:
        return self.folder / f"{self.clip.name}.mp4"

    @property
    def record(self) -> Path:
        return self.folder / "cell.json"


@dataclass(frozen=True)
class Comparison:
    """What a run left."""

    results: Path
    report: Path | None
    """None while other processes have not finished their cells."""
    num_made: int
    num_kept: int
    failures: tuple[str, ...]


def compare(config: CompareConfig, *, say: Say = lambda line: None) -> Comparison:
    """Make the cells that are missing, measure them, write the page.

    Raises:
        SourceError, WeightsError: a model or network is not there or does not fit; nothing was made.
        CompareError: the variants make different sizes, or one needs part maps that a clip has not.
        ConfigError, EvaluationError, FileNotFoundError, VideoError, PoseError: an input cannot be used.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    device = f"cuda:{os.environ['LOCAL_RANK']}" if _has_own_gpu(config) else config.device
    folder = local_path(config.output_dir)
    tools = _tools(config, device)
    pipelines = _Pipelines(config, device)
    height, width = _common_size(config, pipelines)
    find_estimator = cache(lambda: _estimator(config))
    clips = prepare_clips(
        config.clips, folder / "clips", height=height, width=width, estimator=find_estimator
    )
    _check_part_maps(clips, config, pipelines)
    cells = [
        Cell(variant, clip, seed, folder / "cells" / variant.name / clip.name / f"seed_{seed}")
        for variant in config.variants
        for clip in clips
        for seed in config.seeds
    ]
    if config.metrics.pose or config.metrics.face_model:
        tools["estimator"] = find_estimator()
    num_made, num_kept, failures = 0, 0, []
    for number, cell in enumerate(cells):
        if number % world != rank:
            continue
        made_of = _made_of(cell, config, pipelines, (height, width))
        if _is_done(cell, made_of):
            num_kept += 1
            continue
        say(f"[{number + 1}/{len(cells)}] {cell.variant.name}, {cell.clip.name}, seed {cell.seed}")
        try:
            _make(cell, config, pipelines, tools, made_of, (height, width))
            num_made += 1
        except (ValueError, OSError, RuntimeError) as error:
            failures.append(f"{cell.variant.name}, {cell.clip.name}, seed {cell.seed}: {error}")
            say(f"failed: {failures[-1]}")
    rows = [json.loads(cell.record.read_text(encoding="utf-8")) for cell in cells if cell.record.is_file()]
    results = folder / "results.jsonl"
    with whole_file(results) as beside:
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    is_complete = len(rows) == len(cells)
    report = None
    if rows and (is_complete or world == 1):
        sets = _set_metrics(cells, config, tools)
        report = write_page(folder / "report.html", config, clips, rows, sets, missing=len(cells) - len(rows))
    return Comparison(results, report, num_made, num_kept, tuple(failures))


class _Pipelines:
    """Each variant's pipeline; variants of one model share it, and one model is held at a time."""

    def __init__(self, config: CompareConfig, device: str) -> None:
        self._dtype, self._device = config.dtype, chosen_device(device)
        self._held: tuple[_Key, Any] | None = None
        self.facts: dict[_Key, dict[str, Any]] = {}
        self.shape: dict[_Key, tuple[int | None, int | None, str]] = {}
        for variant in config.variants:
            key = _key(variant)
            if key not in self.facts:
                pipe = self(variant)
                self.facts[key] = described_model(pipe, checkpoint=variant.checkpoint, name=variant.model)
                defaults = pipe.generation_defaults
                self.shape[key] = (defaults.get("height"), defaults.get("width"), pipe.driven_by)

    def __call__(self, variant: VariantSettings) -> Any:
        key = _key(variant)
        if self._held is None or self._held[0] != key:
            self._held = None  # the old one goes before the new one comes
            dtype = self._dtype if self._dtype != "auto" else None
            pipe = load_pipeline(
                variant.model,
                checkpoint=variant.checkpoint,
                vae=variant.vae,
                dtype=dtype,
                device=self._device,
            )
            pipe.set_progress_bar_config(disable=True)
            self._held = key, pipe
        return self._held[1]

    def facts_of(self, variant: VariantSettings) -> dict[str, Any]:
        return self.facts[_key(variant)]

    def shape_of(self, variant: VariantSettings) -> tuple[int | None, int | None, str]:
        return self.shape[_key(variant)]


def _key(variant: VariantSettings) -> _Key:
    return variant.model, variant.checkpoint, variant.vae


def _make(
    cell: Cell,
    config: CompareConfig,
    pipelines: _Pipelines,
    tools: Mapping[str, Any],
    made_of: str,
    size: tuple[int, int],
) -> None:
    pipe = pipelines(cell.variant)
    reference_pose: PoseSequence | None
    driving: Any
    reference_pose, driving = cell.clip.poses()
    part_model = None
    if pipe.driven_by == "densepose":
        driving, reference_pose = cell.clip.densepose, None
        if driving is None:
            driving, part_model = cell.clip.truth_video, _part_model(config)
    result = generate(
        cell.clip.reference,
        driving,
        pipeline=pipe,
        output=cell.video,
        reference_pose=reference_pose,
        densepose_model=part_model,
        is_progress_shown=False,
        about={"model": pipelines.facts_of(cell.variant)},
        **_case(cell, config, size),
    )
    report = json.loads(result.report.read_text(encoding="utf-8"))
    pair = _pair(cell)
    protocol = PROTOCOLS[config.protocol]
    per_clip = {name: tool for name, tool in tools.items() if name not in SET_METRICS}
    measured = evaluate([pair], protocol, Tools(**per_clip, layout=lambda _: layout_of_run(report)))
    stages = report["stages"]
    gpu = [stage["peak_gpu_memory_mb"] for stage in stages if stage["peak_gpu_memory_mb"] is not None]
    memory = [stage["peak_memory_mb"] for stage in stages if stage["peak_memory_mb"] is not None]
    row = {
        "variant": cell.variant.name,
        "clip": cell.clip.name,
        "seed": cell.seed,
        "made_of": made_of,
        "metrics": measured["clips"][0]["metrics"],
        "not_measured": measured["clips"][0].get("not_measured", {}),
        "seconds": report["seconds"],
        "num_frames": pair.num_frames,
        "peak_memory_mb": max(memory, default=None),
        "peak_gpu_memory_mb": max(gpu, default=None),
        "settings": report["settings"],
        "model": report["model"],
        "protocol": protocol.name,
        "networks": measured["networks"],
        "versions": versions(),
        "video": cell.video.relative_to(cell.folder.parents[3]).as_posix(),
    }
    write_json(cell.record, row)


def _case(cell: Cell, config: CompareConfig, size: tuple[int, int]) -> dict[str, Any]:
    """The case settings of a cell: the poses are the reference person's own, so nothing is fitted."""
    return {
        "align": "none",
        "sample_stride": 1,
        "audio": "drop",
        "crf": 0,
        **config.common,
        **cell.variant.settings,
        "height": size[0],
        "width": size[1],
        "seed": cell.seed,
    }


def _pair(cell: Cell) -> Pair:
    made, true = (next(iter(find_clips(path).values())) for path in (cell.video, cell.clip.truth))
    return Pair(cell.clip.name, made, true, min(made.num_frames, true.num_frames))


def _made_of(cell: Cell, config: CompareConfig, pipelines: _Pipelines, size: tuple[int, int]) -> str:
    """Hash of all that decides a cell's figures."""
    content = {
        "case": _case(cell, config, size),
        "weights": pipelines.facts_of(cell.variant)["weights_sha256"],
        "inputs": cell.clip.fingerprint(),
        "protocol": config.protocol,
        "densepose_model": config.densepose_model,
        "metrics": config.metrics.model_dump(),
        "mimic": versions()["mimic"],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _is_done(cell: Cell, made_of: str) -> bool:
    try:
        return bool(json.loads(cell.record.read_text(encoding="utf-8"))["made_of"] == made_of)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _set_metrics(
    cells: list[Cell], config: CompareConfig, tools: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """FID, FID-VID and FVD of each variant over all its cells: {variant: {metric: entry of a summary}}."""
    networks = {name: tool for name, tool in tools.items() if name in SET_METRICS}
    found: dict[str, dict[str, Any]] = {}
    for variant in config.variants if networks else ():
        pairs = [_pair(cell) for cell in cells if cell.variant == variant and cell.record.is_file()]
        if pairs:
            summary = evaluate(pairs, PROTOCOLS[config.protocol], Tools(**networks))["summary"]
            found[variant.name] = {name: summary[name] for name in SET_METRICS}
    return found


def _common_size(config: CompareConfig, pipelines: _Pipelines) -> tuple[int, int]:
    """Height and width of all results: as set in `common`, or what all the models make of themselves."""
    common = build(CaseSettings, config.common, "common")
    if common.height is not None and common.width is not None:
        return common.height, common.width
    sizes = {variant.name: pipelines.shape_of(variant)[:2] for variant in config.variants}
    known = {size for size in sizes.values() if None not in size}
    if len(known) != 1 or len(set(sizes.values())) != 1:
        told = ", ".join(f"{name}: {height} x {width}" for name, (height, width) in sizes.items())
        raise CompareError(f"the models have no size in common ({told}); set common: {{height: …, width: …}}")
    ((height, width),) = known
    assert height is not None
    assert width is not None
    return height, width


def _check_part_maps(clips: list[ClipInputs], config: CompareConfig, pipelines: _Pipelines) -> None:
    needing = [v.name for v in config.variants if pipelines.shape_of(v)[2] == "densepose"]
    lacking = [clip.name for clip in clips if clip.densepose is None]
    if needing and lacking and config.densepose_model is None:
        raise CompareError(
            f"{', '.join(needing)} is driven by DensePose videos, and {lacking[0]} has none; put "
            f"{lacking[0]}.densepose.mp4 beside the clip, or name a densepose_model"
        )


def _tools(config: CompareConfig, device: str) -> dict[str, Any]:
    chosen, settings, protocol = chosen_device(device), config.metrics, PROTOCOLS[config.protocol]
    given: dict[str, Any] = {}
    for name in SET_METRICS:
        source = getattr(settings, f"{name}_network")
        if source is not None:
            given[name] = FeatureNetwork(name, source, resize=protocol.fid_resize, device=chosen)
    if settings.lpips_network is not None:
        given["lpips"] = PerceptualDistance(
            settings.lpips_network, is_range_halved=protocol.is_lpips_range_halved, device=chosen
        )
    if settings.face_model is not None:
        given["face_model"] = FaceModel(local_path(settings.face_model))
    return given


@cache
def _part_model_of(path: str) -> DensePoseModel:
    return DensePoseModel(local_path(path))


def _part_model(config: CompareConfig) -> DensePoseModel:
    assert config.densepose_model is not None
    return _part_model_of(config.densepose_model)


def _estimator(config: CompareConfig) -> Estimator:
    weights = local_path(config.estimator_weights) if config.estimator_weights is not None else None
    return load_estimator(config.estimator, weights=weights)


def _has_own_gpu(config: CompareConfig) -> bool:
    import torch

    return "LOCAL_RANK" in os.environ and config.device == "auto" and torch.cuda.is_available()
