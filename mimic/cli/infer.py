"""`mimic infer`: run the cases of a YAML."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mimic.cli.options import Subparsers, UsageError, add_run_options, add_runner, check_workers
from mimic.cli.stopping import signals_raise

if TYPE_CHECKING:
    from mimic.config import InferenceConfig


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "infer",
        parents=[shared],
        help="run the cases of a YAML",
        description="Make the videos that a YAML asks for; the released test.yaml runs as it is.",
        epilog="`mimic configs --keys infer` lists all settings, `mimic configs` the YAMLs to begin with.",
    )
    parser.add_argument(
        "--config",
        "--inference_config",
        required=True,
        type=Path,
        metavar="FILE",
        help="the YAML with the cases; bundled:NAME is one that `mimic configs` lists",
    )
    add_run_options(parser)
    add_runner(parser)
    parser.add_argument(
        "--no_use_float16", action="store_true", help="compute in float32 (the released script's name for it)"
    )
    parser.add_argument("--log_file", type=Path, metavar="FILE", help="also append the messages to this file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.config import load_inference_config

    check_workers(options)
    if options.workers is not None and options.runner != "ray":
        raise UsageError("--workers belongs to --runner ray; without it one case is made after another")
    overrides = [*options.overrides, *(["dtype=float32"] if options.no_use_float16 else [])]
    config = load_inference_config(options.config, overrides)
    if options.log_file is not None:
        _log_to(options.log_file, [options.config, *_inputs(config)])
    return run_cases(config, options)


def _log_to(path: Path, inputs: Iterable[str | Path]) -> None:
    """Append messages to a file, which is none of those that are read.

    Raises:
        UsageError: it is one of them, or no file.
    """
    from mimic.results import ResultError, check_inputs_stay

    try:
        check_inputs_stay([path], inputs)
    except ResultError as error:
        raise UsageError(f"--log_file: {error}") from error
    if path.exists() and not path.is_file():
        raise UsageError(f"--log_file is {path}, which is no file; give the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("mimic").addHandler(logging.FileHandler(path, encoding="utf-8"))


def _inputs(config: InferenceConfig) -> Iterator[str]:
    for case in config.test_case:
        yield from (case.ref_image_path, case.ref_video_path)


def run_cases(config: InferenceConfig, options: argparse.Namespace) -> int:
    """Run all cases and print the videos; returns the exit code."""
    missing = config.missing_inputs()
    if missing:  # reported before torch is imported, which takes seconds
        raise UsageError("\n".join(missing))
    from dataclasses import asdict

    from mimic.generation import estimate_config, run_config
    from mimic.generation.cases import why_failed
    from mimic.progress import emit

    log = logging.getLogger("mimic")
    is_first = os.environ.get("RANK", "0") == "0"  # of several processes
    if not is_first:
        log.setLevel(logging.WARNING)
    if options.dry_run:
        for estimate in estimate_config(config, output_dir=options.output_dir, say=log.info):
            emit("estimate", **asdict(estimate), total_seconds=estimate.total_seconds)
            print(*estimate.lines(), sep="\n")
        return 0
    with signals_raise():
        outcome = run_config(
            config,
            output_dir=options.output_dir,
            overwrite=options.overwrite,
            is_progress_shown=not options.quiet,
            say=log.info,
            runner=getattr(options, "runner", "local"),
            num_workers=getattr(options, "workers", None),
        )
    if outcome.failures and (options.debug or len(config.test_case) == 1):
        raise outcome.failures[0].error
    if outcome.results:
        log.info("look at:")
    for result in outcome.results if is_first else ():
        facts = {key: value for key, value in vars(result).items() if key != "poses"}
        emit("result", **facts)
        print(result.side_by_side or result.path)
    for failure in outcome.failures:
        log.error("failed: %s: %s", failure.name, why_failed(failure.error))
    return 1 if outcome.failures else 0
