"""A comparison from its YAML to `results.jsonl` and `report.html`, cell by cell.

A cell is one variant, one clip and one seed. Its folder `cells/<variant>/<clip>/seed_<n>/` holds the video,
the run's own report and `cell.json`, written last. A finished cell is kept as long as nothing that it was
made of has changed (`mimic.compare.cells`). Several processes (`accelerate launch`, torchrun) share the cells
by their number; the one that finishes last finds all of them and writes the page.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from mimic.compare.cells import Cell, cell_is_made_of, finished_row, write_record
from mimic.compare.external import check_external, identity_of_external, make_external
from mimic.compare.inputs import ClipInputs, CompareError, prepare_clips
from mimic.compare.models import Models
from mimic.compare.page import write_page
from mimic.compare.settings import CompareConfig
from mimic.config import CaseSettings
from mimic.config.loading import build
from mimic.devices import missing_cuda
from mimic.files import local_path, remove_partial, whole_file, without_empty_folders
from mimic.generation import generate
from mimic.generation.drivers import DRIVERS
from mimic.locks import locked_folder
from mimic.metrics.clips import Pair, find_clips
from mimic.metrics.evaluate import evaluate
from mimic.metrics.protocols import PROTOCOLS
from mimic.metrics.seams import layout_of_run
from mimic.metrics.tools import NO_TOOLS, SET_METRICS, Tools, load_tools
from mimic.models.densepose_model import DensePoseModel
from mimic.progress import clock, emit
from mimic.provenance import versions
from pose import PoseSequence, load_estimator
from pose.estimators import Estimator

CELLS, RESULTS, REPORT = "cells", "results.jsonl", "report.html"

Say = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Files and counts of a run."""

    results: Path
    report: Path | None
    """None while other processes have not finished their cells."""
    num_made: int
    num_kept: int
    failures: tuple[str, ...]


def compare(
    config: CompareConfig, *, say: Say = lambda line: None, is_progress_shown: bool = False
) -> Comparison:
    """Make the cells that are missing, measure them, write the page.

    Args:
        say: called with a sentence for each cell.
        is_progress_shown: show the progress of a cell that one of our models makes, in the first process.

    Raises:
        SourceError, WeightsError: a model or network is missing or does not fit; nothing was made.
        CompareError: the variants make different sizes, one needs part maps that a clip does not have, or the
            page of another program is in the folder.
        FolderInUseError: another comparison is being made in the folder.
        ConfigError, EvaluationError, FileNotFoundError, VideoError, PoseError: an input cannot be used.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    folder = local_path(config.output_dir)
    if rank != 0:
        return _compare(config, folder, rank, world, say, is_progress_shown=False)
    check_ours(folder)
    with without_empty_folders(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(folder, work="mimic compare", say=say):
            if world == 1:  # else another process may be writing them
                for place in (folder, *folder.glob("clips/*"), *folder.glob("clips/*/truth")):
                    remove_partial(place)
            return _compare(config, folder, rank, world, say, is_progress_shown=is_progress_shown)


def check_ours(folder: Path) -> None:
    """Refuse a folder whose results or page another program wrote.

    Raises:
        CompareError: it is one.
    """
    others = [name for name in (RESULTS, REPORT) if (folder / name).exists()]
    if others and not (folder / CELLS).is_dir():
        raise CompareError(
            f"{folder / others[0]} is there and no comparison wrote it; it is not replaced. Give another "
            "output_dir, or move it away"
        )


def _compare(
    config: CompareConfig, folder: Path, rank: int, world: int, say: Say, *, is_progress_shown: bool
) -> Comparison:
    """Make the cells of one of `world` processes, and the page if all cells are there."""
    models = Models(config, f"cuda:{os.environ['LOCAL_RANK']}" if _has_own_gpu(config) else config.device)
    if rank == 0 and config.device == "auto" and models.device.type == "cpu" and (note := missing_cuda()):
        say(f"note: {note}")
    size = _common_size(config, models)
    find_estimator = cache(lambda: _estimator(config))
    tools = load_tools(
        config.metrics, PROTOCOLS[config.protocol], device=models.device, estimator=find_estimator
    )
    check_external(config.variants, {})
    clips = prepare_clips(config.clips, folder / "clips", size=size, estimator=find_estimator, say=say)
    _check_part_maps(clips, config, models)
    check_external(config.variants, {clip.name: clip.num_frames for clip in clips})
    cells = [
        Cell(variant, clip, seed, folder / CELLS / variant.name / clip.name / f"seed_{seed}")
        for variant in config.variants
        for clip in clips
        for seed in (config.seeds if variant.videos is None else config.seeds[:1])
    ]
    made_of = [
        cell_is_made_of(
            cell,
            config,
            identity_of_external(cell) if cell.variant.model is None else models.identity(cell.variant),
            tools,
            _case(cell, config, size),
        )
        for cell in cells
    ]
    ours = range(rank, len(cells), world)
    missing = [number for number in ours if finished_row(cells[number], made_of[number], say=say) is None]
    num_made, num_kept, failures = 0, len(ours) - len(missing), []
    start = time.monotonic()
    for num_done, number in enumerate(missing):
        cell = cells[number]
        say(f"[{number + 1}/{len(cells)}] {cell.title}{_time_left(num_done, len(missing), start)}")
        try:
            case = _case(cell, config, size)
            made = _make(cell, config, models, tools, case, is_progress_shown=is_progress_shown)
            write_record(cell, made, made_of[number])
            num_made += 1
        except (ValueError, OSError, RuntimeError) as error:
            failures.append(f"{cell.title}: {error}")
            say(f"failed: {failures[-1]}")
    finished = {cell: row for cell, own in zip(cells, made_of) if (row := finished_row(cell, own))}
    rows = list(finished.values())
    results = folder / RESULTS
    (folder / CELLS).mkdir(exist_ok=True)  # of which a later run knows the page as ours
    with whole_file(results) as beside:
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    report = None
    if rows and (len(rows) == len(cells) or world == 1):
        sets = _set_metrics(list(finished), config, tools)
        report = write_page(folder / REPORT, config, clips, rows, sets, missing=len(cells) - len(rows))
    return Comparison(results, report, num_made, num_kept, tuple(failures))


def _make(
    cell: Cell,
    config: CompareConfig,
    models: Models,
    tools: Tools,
    case: Mapping[str, Any],
    *,
    is_progress_shown: bool,
) -> Row:
    """Generate and measure a cell: its row of `results.jsonl`."""
    cell.clear()
    if cell.variant.model is None:
        run = make_external(cell, size=(case["height"], case["width"]))
    else:
        run = _generate(cell, config, models, case, is_progress_shown=is_progress_shown)
    pair = _pair(cell)
    per_clip = replace(tools, **dict.fromkeys(SET_METRICS))
    measured = evaluate([pair], PROTOCOLS[config.protocol], per_clip, layout=lambda _: layout_of_run(run))[
        "clips"
    ][0]
    return {
        "variant": cell.variant.name,
        "clip": cell.clip.name,
        "seed": cell.seed,
        "metrics": measured["metrics"],
        "not_measured": measured.get("not_measured", {}),
        "seconds": run["seconds"],
        "num_frames": pair.num_frames,
        "peak_memory_mb": _most(run["stages"], "peak_memory_mb"),
        "peak_gpu_memory_mb": _most(run["stages"], "peak_gpu_memory_mb"),
        "settings": run["settings"],
        "model": run["model"],
        "protocol": config.protocol,
        "networks": tools.facts(),
        "versions": versions(),
        "video": cell.video.relative_to(cell.folder.parents[3]).as_posix(),
    }


def _time_left(num_done: int, total: int, start: float) -> str:
    """Describe the time that the remaining cells will take, as long as those done on average."""
    seconds = time.monotonic() - start
    left = seconds / num_done * (total - num_done) if num_done else None
    emit("progress", stage="compare", unit="cell", done=num_done, total=total, seconds_left=left)
    return "" if left is None else f" ({clock(left)} left)"


def _generate(
    cell: Cell, config: CompareConfig, models: Models, case: Mapping[str, Any], *, is_progress_shown: bool
) -> dict[str, Any]:
    """Write the cell's video with the variant's model: the run's own JSON."""
    pipe = models(cell.variant)
    reference_pose: PoseSequence | None
    driving: Any
    reference_pose, driving = cell.clip.poses()
    part_model = None
    if not DRIVERS[pipe.driven_by].takes_poses:
        driving, reference_pose = cell.clip.densepose, None
        if driving is None:
            driving, part_model = cell.clip.truth_video, _part_model(config.densepose_model)
    result = generate(
        cell.clip.reference,
        driving,
        pipeline=pipe,
        output=cell.video,
        reference_pose=reference_pose,
        densepose_model=part_model,
        overwrite=True,
        is_progress_shown=is_progress_shown,
        about={"model": models.facts(cell.variant)},
        **case,
    )
    run: dict[str, Any] = json.loads(result.report.read_text(encoding="utf-8"))
    return run


def _most(stages: list[dict[str, Any]], name: str) -> float | None:
    return max((stage[name] for stage in stages if stage[name] is not None), default=None)


def _case(cell: Cell, config: CompareConfig, size: tuple[int, int]) -> dict[str, Any]:
    """Case settings of a cell. Nothing is fitted, since the driving poses are the same person's."""
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


def _set_metrics(cells: list[Cell], config: CompareConfig, tools: Tools) -> dict[str, dict[str, Any]]:
    """FID, FID-VID and FVD of each variant over all its cells: {variant: {metric: entry of a summary}}."""
    networks = {name: getattr(tools, name) for name in SET_METRICS if getattr(tools, name) is not None}
    found: dict[str, dict[str, Any]] = {}
    for variant in config.variants if networks else ():
        pairs = [_pair(cell) for cell in cells if cell.variant == variant]
        if pairs:
            summary = evaluate(pairs, PROTOCOLS[config.protocol], replace(NO_TOOLS, **networks))["summary"]
            found[variant.name] = {name: summary[name] for name in SET_METRICS}
    return found


def _common_size(config: CompareConfig, models: Models) -> tuple[int, int]:
    """Height and width of all results: those in `common`, or the ones that all models default to."""
    common = build(CaseSettings, config.common, "common")
    if common.height is not None and common.width is not None:
        return common.height, common.width
    ours = [variant for variant in config.variants if variant.model is not None]
    if not ours:
        raise CompareError("no variant has a model that gives the size; set common: {height: …, width: …}")
    sizes = {variant.name: models.size(variant) for variant in ours}
    (size, *others) = set(sizes.values())
    if others or size is None:
        told = ", ".join(f"{name}: {' x '.join(map(str, size or ['none']))}" for name, size in sizes.items())
        raise CompareError(
            f"the models' default sizes (height x width) are not one size ({told}); set common: {{height: …, "
            "width: …}"
        )
    return size


def _check_part_maps(clips: list[ClipInputs], config: CompareConfig, models: Models) -> None:
    needing = [
        variant.name
        for variant in config.variants
        if variant.model is not None and not DRIVERS[models.driven_by(variant)].takes_poses
    ]
    lacking = [clip.name for clip in clips if clip.densepose is None]
    if needing and lacking and config.densepose_model is None:
        raise CompareError(
            f"{', '.join(needing)} is driven by DensePose videos, and {lacking[0]} has none; put "
            f"{lacking[0]}.densepose.mp4 beside the clip, or name a densepose_model"
        )


@cache
def _part_model(path: str) -> DensePoseModel:
    return DensePoseModel(local_path(path))


def _estimator(config: CompareConfig) -> Estimator:
    weights = local_path(config.estimator_weights) if config.estimator_weights is not None else None
    return load_estimator(config.estimator, weights=weights)


def _has_own_gpu(config: CompareConfig) -> bool:
    import torch

    return "LOCAL_RANK" in os.environ and config.device == "auto" and torch.cuda.is_available()
