"""`mimic compare`: run models side by side and write a page."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from mimic.cli.options import Subparsers


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "compare",
        parents=[shared],
        help="run models side by side and write a page",
        description="Run variants x clips x seeds of a YAML; write results.jsonl and report.html. Rerun the "
        "command to resume; results whose settings, clips and weights have not changed are kept.",
    )
    parser.add_argument(
        "--config",
        required=True,
        type=Path,
        metavar="FILE",
        help="the YAML; bundled:compare/NAME is one that `mimic configs` lists",
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="settings that replace the YAML's"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.compare.run import compare
    from mimic.compare.settings import load_compare_config

    log = logging.getLogger("mimic")
    config = load_compare_config(options.config, options.overrides)
    outcome = compare(config, say=log.info, is_progress_shown=not options.quiet)
    log.info("%d made, %d kept, %d failed", outcome.num_made, outcome.num_kept, len(outcome.failures))
    print(outcome.results)
    if outcome.report is not None:
        print(outcome.report)
    for failure in outcome.failures:
        log.error("failed: %s", failure)
    return 1 if outcome.failures else 0
