"""`mimic evaluate`: generated clips against the truth, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic.cli.options import Subparsers, UsageError, add_estimator_options, check_place
from mimic.sampling.windows import WINDOW_LAYOUTS

if TYPE_CHECKING:
    from mimic.metrics.clips import EvaluatedClip, Pair
    from mimic.metrics.protocols import Protocol
    from mimic.metrics.seams import WindowLayout
    from mimic.metrics.tools import Tools

log = logging.getLogger("mimic")

_NETWORKS = {
    "lpips": "VGG-16 or AlexNet with LPIPS weights; the two published files joined by +",
    "fid": "Inception-v3",
    "fid-vid": "3D ResNet-50",
    "fvd": "I3D",
}


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "evaluate",
        parents=[shared],
        help="measure generated clips against the truth",
        description="Pair clips by name and measure them. A metric that cannot be measured is listed with "
        "the reason.",
        epilog="PATH: a video, a folder of pictures (one clip), or a folder of those. Networks: files, or "
        "hf:owner/repository/file, TorchScript or published weights, which `mimic download metrics` fetches.",
    )
    parser.add_argument(
        "--generated", "-g", required=True, type=Path, metavar="PATH", help="what was generated"
    )
    parser.add_argument("--truth", "-t", required=True, type=Path, metavar="PATH", help="what it should be")
    parser.add_argument(
        "--protocol",
        choices=("A", "B", "none"),
        default="none",
        help="rules of published metrics: A (MimicMotion's), B (DisCo's: 256 x 256, PSNR overflow, L1/HW)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="write all metrics here")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a former FILE.json (default: kept if unchanged, else set aside as FILE.1.json)",
    )
    parser.add_argument(
        "--frames",
        choices=("equal", "shortest"),
        default="equal",
        help="clips of unequal length: an error (equal, the default), or cut to the shorter one",
    )
    parser.add_argument("--allow-unpaired", action="store_true", help="leave out clips without a partner")
    for name, what in _NETWORKS.items():
        parser.add_argument(f"--{name}-network", metavar="FILE", help=what)
    parser.add_argument("--pose", action="store_true", help="estimate poses in both clips and compare them")
    add_estimator_options(parser)
    parser.add_argument("--face-model", metavar="FILE.onnx", help="compare faces by this model")
    parser.add_argument(
        "--tile-size",
        type=int,
        metavar="N",
        help="window size that the clips were made with, for seams (default: from the .json beside a clip)",
    )
    parser.add_argument("--tile-overlap", type=int, metavar="N", help="frames that neighbours share")
    parser.add_argument(
        "--windows",
        choices=WINDOW_LAYOUTS,
        help="layout of the windows (default: from the .json beside a clip; without one, reference)",
    )
    parser.add_argument("--device", default="auto", help="device of the networks: auto, cpu, cuda, …")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.files import write_json
    from mimic.metrics.clips import pair_clips
    from mimic.metrics.evaluate import evaluate
    from mimic.metrics.protocols import PROTOCOLS
    from mimic.progress import progress_bar
    from mimic.provenance import versions
    from mimic.results import PlainFiles, set_aside

    protocol = PROTOCOLS[options.protocol]
    layout = _layouts(options)
    _check_output(options.output)
    pairs = pair_clips(
        options.generated,
        options.truth,
        is_shortest_taken=options.frames == "shortest",
        is_subset_allowed=options.allow_unpaired,
        size=protocol.size,
    )
    former = None if options.output is None else _former(options.output)
    tools = _tools(options, protocol)
    identity = _identity(options, pairs, tools)
    if former is not None and former.get("identity") == identity and not options.overwrite:
        log.info("kept, unchanged since it was made")
        print("\n".join([*table(former), str(options.output)]))
        return 0
    with progress_bar("comparing", "frame", is_shown=not options.quiet) as show:
        report = evaluate(pairs, protocol, tools, layout=layout, progress=show)
    report = {
        "generated": str(options.generated),
        "truth": str(options.truth),
        "identity": identity,
        **report,
        "versions": versions(),
    }
    try:
        if options.output is not None:  # before anything is printed, which fails when a pipe is closed
            with set_aside(PlainFiles((options.output,)), is_kept=not options.overwrite) as kept:
                write_json(options.output, report)
            if kept is not None:
                log.info("the former metrics were of other things and are kept as %s", kept.paths[0].name)
    finally:
        print("\n".join(table(report)))
    if options.output is not None:
        print(options.output)
    return 0


def _former(output: Path) -> dict[str, Any] | None:
    """The metrics that are there; None where there are none.

    Raises:
        ResultError: the file is there and holds no metrics of this command.
    """
    from mimic.results import ResultError

    if not os.path.lexists(output):
        return None
    try:
        found = json.loads(output.read_text(encoding="utf-8")) if output.is_file() else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not {"protocol", "clips", "summary", "versions"} <= found.keys():
        raise ResultError(
            f"{output} is there and holds no metrics of `mimic evaluate`; it is not replaced. Choose another "
            "name"
        )
    return found


def _identity(options: argparse.Namespace, pairs: Sequence[Pair], tools: Tools) -> str:
    """A hash of all that makes the figures: the clips and what is beside them, the networks, the options."""
    from mimic.metrics.seams import layout_beside
    from mimic.provenance import estimator_facts
    from mimic.results import identity_of
    from mimic.weights.sources import sha256

    def content(clip: EvaluatedClip) -> list[str]:
        return [sha256(file) for file in clip.pictures or (clip.path,)]

    names = ("protocol", "frames", "allow_unpaired", "tile_size", "tile_overlap", "windows", "pose")
    is_estimating = tools.estimator is not None
    return identity_of(
        {
            "clips": [(pair.name, content(pair.generated), content(pair.truth)) for pair in pairs],
            "layouts": [layout_beside(pair.generated.path) for pair in pairs],
            "tools": tools.facts(),
            "estimator": estimator_facts(options.estimator, options.weights) if is_estimating else None,
            **{name: getattr(options, name) for name in names},
        }
    )


def table(report: dict[str, Any]) -> list[str]:
    """The summary as lines of text."""
    from mimic.progress import counted

    protocol = report["protocol"]
    num_frames = sum(row["num_frames"] for row in report["clips"])
    measured = f"{counted(len(report['clips']), 'clip')}, {counted(num_frames, 'frame')}"
    lines = [
        f"protocol {protocol['name']} ({protocol['title']}); {measured}",
        f"{'metric':<26}{'mean over clips':>16}  {'95 % interval':<22}{'mean over frames':>17}  better",
    ]
    for name, entry in report["summary"].items():
        if entry["value"] is None:
            lines.append(f"{name:<26}{'—':>16}  not measured: {entry['not_measured']}")
            continue
        spread, frames = "", ""
        if "num_features" in entry:
            spread = f"of {entry['num_features']} features"
        elif entry["low"] is not None:
            spread = f"{entry['low']:.5g} … {entry['high']:.5g}"
        if "mean_over_frames" in entry:
            frames = f"{entry['mean_over_frames']:.5g}"
        better = entry["better"] or ""
        lines.append(f"{name:<26}{entry['value']:>16.5g}  {spread:<22}{frames:>17}  {better}".rstrip())
    return [*lines, *(f"note: {note}" for note in report["notes"])]


def _check_output(output: Path | None) -> None:
    if output is None:
        return
    if output.suffix != ".json":
        raise UsageError(f"--output is {output}; metrics are written as .json")
    if output.is_dir():
        raise UsageError(f"--output is {output}, a folder; give the name of a file")
    check_place("--output", output)


def _tools(options: argparse.Namespace, protocol: Protocol) -> Tools:
    from mimic.devices import chosen_device
    from mimic.metrics.tools import MetricSettings, load_tools
    from pose import load_estimator

    device = chosen_device(options.device)
    settings = MetricSettings(**{name: getattr(options, name) for name in MetricSettings.model_fields})
    return load_tools(
        settings,
        protocol,
        device=device,
        estimator=lambda: load_estimator(
            options.estimator, weights=options.weights, device="auto" if device.type == "cuda" else "cpu"
        ),
    )


def _layouts(options: argparse.Namespace) -> Callable[[Pair], WindowLayout | None]:
    """The windows of a clip: as the options say, and the rest from the JSON beside it.

    Raises:
        UsageError: the options do not describe windows.
    """
    from mimic.metrics.seams import WindowLayout, layout_beside

    size, overlap = options.tile_size, options.tile_overlap
    if (size is None) != (overlap is None):
        raise UsageError("--tile-size and --tile-overlap belong together; give both or neither")
    try:
        given = None if size is None else WindowLayout(size, overlap, options.windows or "reference")
    except ValueError as error:
        raise UsageError(f"--tile-size, --tile-overlap: {error}") from error

    def layout(pair: Pair) -> WindowLayout | None:
        beside = layout_beside(pair.generated.path)
        if given is None:
            return None if beside is None else replace(beside, layout=options.windows or beside.layout)
        if beside is None or options.windows is not None:
            return given
        return replace(given, layout=beside.layout)

    return layout
