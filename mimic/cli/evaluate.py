"""`mimic evaluate`: generated clips against the truth, as a table and as JSON."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from mimic.cli.commands import UsageError
from mimic.files import write_json
from mimic.metrics.clips import Pair, pair_clips
from mimic.metrics.evaluate import SET_METRICS, Tools, evaluate
from mimic.metrics.features import FeatureNetwork, PerceptualDistance
from mimic.metrics.identity import FaceModel
from mimic.metrics.protocols import PROTOCOLS, Protocol
from mimic.metrics.seams import WindowLayout, layout_beside
from mimic.progress import progress_bar


def run(options: argparse.Namespace) -> int:
    """Pair, measure, write, print."""
    protocol = PROTOCOLS[options.protocol]
    if options.output is not None and options.output.suffix != ".json":
        raise UsageError(f"--output is {options.output}; figures are written as .json")
    if options.face_model is not None:
        options.pose = True
    if (options.tile_size is None) != (options.tile_overlap is None):
        raise UsageError(
            "--tile-size and --tile-overlap belong together: the windows that the clips were made in"
        )
    if options.tile_size is not None:
        try:
            WindowLayout(options.tile_size, options.tile_overlap, options.windows or "reference")
        except ValueError as error:
            raise UsageError(f"--tile-size, --tile-overlap: {error}") from error
    pairs = pair_clips(
        options.generated,
        options.truth,
        is_shortest_taken=options.frames == "shortest",
        is_subset_allowed=options.allow_unpaired,
        size=protocol.size,
    )
    tools = _tools(options, protocol)
    with progress_bar("comparing", "frame", is_shown=not options.quiet) as show:
        report = evaluate(pairs, protocol, tools, progress=show)
    report = {"generated": str(options.generated), "truth": str(options.truth), **report}
    for line in table(report):
        print(line)
    if options.output is not None:
        print(write_json(options.output, report))
    return 0


def table(report: dict[str, Any]) -> list[str]:
    """The summary as lines of text."""
    protocol = report["protocol"]
    num_frames = sum(row["num_frames"] for row in report["clips"])
    lines = [
        f"protocol {protocol['name']} ({protocol['title']}); {len(report['clips'])} clips, "
        f"{num_frames} frames",
        f"{'metric':<28}{'value':>12}  {'95 % over clips':<24}better",
    ]
    for name, entry in report["summary"].items():
        if entry["value"] is None:
            lines.append(f"{name:<28}{'—':>12}  not measured: {entry['not_measured']}")
            continue
        interval = ""
        if entry.get("low") is not None:
            interval = f"{entry['low']:.5g} … {entry['high']:.5g}"
        elif "num_features" in entry:
            interval = f"{entry['num_features']} features"
        lines.append(f"{name:<28}{entry['value']:>12.5g}  {interval:<24}{entry['better'] or ''}".rstrip())
    return [*lines, *(f"note: {note}" for note in report["notes"])]


def _tools(options: argparse.Namespace, protocol: Protocol) -> Tools:
    from mimic.devices import chosen_device

    device = chosen_device(options.device)
    given: dict[str, Any] = {}
    for name in SET_METRICS:
        source = getattr(options, f"{name}_network")
        if source is not None:
            given[name] = FeatureNetwork(name, source, resize=protocol.fid_resize, device=device)
    if options.lpips_network is not None:
        given["lpips"] = PerceptualDistance(
            options.lpips_network, is_range_halved=protocol.is_lpips_range_halved, device=device
        )
    if options.face_model is not None:
        given["face_model"] = FaceModel(options.face_model)
    if options.pose:
        from pose import load_estimator

        given["estimator"] = load_estimator(
            options.estimator, weights=options.weights, device="auto" if device.type == "cuda" else "cpu"
        )
    return Tools(**given, layout=lambda pair: _layout(pair, options))


def _layout(pair: Pair, options: argparse.Namespace) -> WindowLayout | None:
    """The clip's windows: what the options say, the rest from the JSON that `mimic` wrote beside the clip."""
    beside = layout_beside(pair.generated.path)
    if options.tile_size is not None:
        layout = options.windows or (beside.layout if beside is not None else "reference")
        return WindowLayout(options.tile_size, options.tile_overlap, layout)
    return replace(beside, layout=options.windows) if beside is not None and options.windows else beside
