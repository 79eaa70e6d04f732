"""Run a config: check all cases, load the model once, run one case after another."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch

from mimic.cluster import connected_cluster
from mimic.config import InferenceConfig
from mimic.devices import chosen_device, chosen_dtype, missing_cuda
from mimic.distributed import Ranks, joined_ranks, local_rank
from mimic.families.registry import find_sources
from mimic.files import local_path, without_empty_folders
from mimic.generation.cases import RunResult, Work, run_here
from mimic.generation.checks import check_inputs, result_files
from mimic.generation.on_cluster import device_on, run_on_cluster
from mimic.generation.result import GenerateResult, kept_result
from mimic.generation.unfinished import finish_interrupted, is_interrupted
from mimic.locks import locked_folder
from mimic.provenance import estimator_facts, weights_of
from mimic.results import identity_of, is_same, read_result
from mimic.weights.sources import SHARED_FILE, sha256

Runner = Literal["local", "ray"]
"""Who makes the cases: this process, or the workers of a Ray cluster."""


def run_config(
    config: InferenceConfig,
    *,
    output_dir: Path | None = None,
    overwrite: bool = False,
    is_progress_shown: bool = True,
    say: Callable[[str], None] = lambda line: None,
    runner: Runner = "local",
    num_workers: int | None = None,
) -> RunResult:
    """Run all cases of a config. A failing case does not stop the others.

    An existing result with the same settings, inputs and weights is kept; one with different ones is renamed
    to ``<case>.1.mp4``.

    Args:
        config: the model and its cases.
        output_dir: folder to use instead of the config's.
        overwrite: recompute all results and replace former ones.
        is_progress_shown: show progress: bars on a terminal or in a notebook, lines elsewhere.
        say: called with lines that describe the progress.
        runner: ``local`` runs one case after another here; ``ray`` gives cases to the workers of a Ray
            cluster (see `mimic.cluster`), where a picture or clip that cannot be used fails its case alone.
        num_workers: workers of the cluster; None: one for each GPU, or each core, that it has.

    Raises:
        ConfigError, InputError: settings or inputs of a case are invalid; no case was run.
        FolderInUseError: another process is writing to the output folder; no case was run.
        SourceError, WeightsError: the model is not found or its weights do not fit; no case was run.
        ClusterError: there is no Ray, or no cluster at its address.
    """
    output_dir = local_path(output_dir or config.output_dir)
    if runner == "ray":
        with connected_cluster(num_workers) as cluster:
            device = device_on(cluster, config)
            on_cluster = functools.partial(
                run_on_cluster,
                cluster=cluster,
                num_workers=num_workers,
                is_progress_shown=is_progress_shown,
                say=say,
            )
            return _run(config, output_dir, device, None, overwrite, say, on_cluster)
    with joined_ranks() as ranks:
        if ranks is not None and not ranks.is_first:
            is_progress_shown, say = False, lambda line: None
        device = _device_of(config, ranks)
        if config.device == "auto" and device.type == "cpu" and (note := missing_cuda()):
            say(f"note: {note}")
        here = functools.partial(run_here, ranks=ranks, is_progress_shown=is_progress_shown, say=say)
        return _run(config, output_dir, device, ranks, overwrite, say, here)


def _run(
    config: InferenceConfig,
    output_dir: Path,
    device: torch.device,
    ranks: Ranks | None,
    overwrite: bool,
    say: Callable[[str], None],
    make: Callable[[Work], RunResult],
) -> RunResult:
    """Run all cases in one of the processes `ranks`; the first one decides what is to be done, and writes."""
    config = with_names(config)
    is_first = ranks is None or ranks.is_first
    if is_first:
        _finish_interrupted_results(config, output_dir, say)
        check_inputs(config, output_dir, say=say)
    base, checkpoint = find_sources(config.base_model_path, config.ckpt_path)
    with _folder_of_ours(output_dir, say) if is_first else contextlib.nullcontext():
        kept: dict[str, GenerateResult] = {}
        identities: dict[str, str] = {}
        if is_first:
            identities = case_identities(config, base, checkpoint, device)
            kept = {} if overwrite else _kept_results(config, output_dir, identities, say)
        if ranks is not None:
            identities, kept = ranks.from_first((identities, kept))
        made = RunResult((), ())
        remaining = tuple(case for case in config.test_case if case.name not in kept)
        if remaining:
            remaining_config = config.model_copy(update={"test_case": remaining})
            made = make(Work(remaining_config, base, checkpoint, device, output_dir, identities, overwrite))
    there = {result.path: result for result in (*kept.values(), *made.results)}
    paths = (
        result_files(output_dir, name, case).video
        for name, case in zip(config.case_names(), config.test_case)
    )
    return RunResult(tuple(there[path] for path in paths if path in there), made.failures)


def _device_of(config: InferenceConfig, ranks: Ranks | None) -> torch.device:
    """Return the device of this process: the config's, or with several processes the GPU of its number."""
    if ranks is not None and config.device in ("auto", "cuda") and torch.cuda.is_available():
        return chosen_device(f"cuda:{local_rank()}")
    return chosen_device(config.device)


def with_names(config: InferenceConfig) -> InferenceConfig:
    """Return the config with an explicit name for each case."""
    named = (
        case.model_copy(update={"name": name}) for name, case in zip(config.case_names(), config.test_case)
    )
    return config.model_copy(update={"test_case": tuple(named)})


def _finish_interrupted_results(
    config: InferenceConfig, output_dir: Path, say: Callable[[str], None]
) -> None:
    """Finish moving complete results to their places where a run was interrupted while doing so."""
    every = [
        result_files(output_dir, name, case) for name, case in zip(config.case_names(), config.test_case)
    ]
    if any(is_interrupted(files) for files in every):
        with locked_folder(output_dir, work="mimic infer", say=say):
            for files in every:
                finish_interrupted(files)


@contextlib.contextmanager
def _folder_of_ours(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Create and lock the folder inside the context; remove it afterwards if it is new and empty."""
    with without_empty_folders(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(folder, work="mimic infer", say=say):
            yield


def case_identities(
    config: InferenceConfig, base: Path, checkpoint: Path | None, device: torch.device
) -> dict[str, str]:
    """Return the identity of each case: a hash of the contents of its settings, inputs and weights."""
    vae, part_model = (
        None if path is None else local_path(path) for path in (config.vae_path, config.densepose_model)
    )
    texts = sorted(path for path in base.rglob("*.json") if path.name != SHARED_FILE)  # counted as weights
    shared = {
        "model": {path.relative_to(base).as_posix(): sha256(path) for path in texts},
        "weights": weights_of(base, checkpoint),
        "vae": weights_of(vae, None),
        "dtype": str(chosen_dtype(config.dtype, device))
        + (" fp8" if config.fp8_weights else "")
        + (f" {config.torchao}" if config.torchao else ""),
        "device": device.type,
        "estimator": estimator_facts(config.estimator, config.estimator_weights),
        "densepose_model": None if part_model is None else sha256(part_model),
    }
    return {
        name: identity_of(
            {
                **shared,
                "settings": case.model_dump(exclude={"name", "ref_image_path", "ref_video_path"}),
                "reference": sha256(local_path(case.ref_image_path)),
                "driving": sha256(local_path(case.ref_video_path)),
            }
        )
        for name, case in zip(config.case_names(), config.test_case)
    }


def _kept_results(
    config: InferenceConfig, output_dir: Path, identities: Mapping[str, str], say: Callable[[str], None]
) -> dict[str, GenerateResult]:
    """Return existing results with the same settings, inputs and weights, by name of the case."""
    kept: dict[str, GenerateResult] = {}
    for name, case in zip(config.case_names(), config.test_case):
        files = result_files(output_dir, name, case)
        report = read_result(files, is_writing=True)
        if is_same(report, files, identities[name]):
            assert report is not None
            kept[name] = kept_result(files, report)
            say(f"{name}: kept, settings and inputs are unchanged ({files.video})")
    return kept
