"""What a run says of a result: its files and properties."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic.generation.output import Output
from mimic.generation.reference import Reference
from mimic.results import ResultFiles, report_path
from pose import PoseSequence


@dataclass(frozen=True)
class GenerateResult:
    """Result of `generate`: its files and their properties."""

    path: Path
    """The video file."""
    side_by_side: Path | None
    """Video with reference, driving maps and result next to each other; None unless requested."""
    report: Path
    """JSON file with settings, seed, versions, hashes of the weights, time and memory of each stage."""
    num_frames: int
    fps: float
    height: int
    width: int
    has_audio: bool
    seconds: float
    """Duration of the run in seconds."""
    missing: str | None = None
    """Description of what was requested but could not be written, such as audio that cannot be decoded; None
    if nothing is missing."""
    former: Path | None = None
    """New path of a former result with the same name, which was renamed; None if there was none."""
    is_kept: bool = False
    """Whether an existing result with the same settings, inputs and weights was kept and nothing computed."""
    poses: PoseSequence | None = field(default=None, repr=False)
    """Poses passed to the model, frame 0 the reference's; None for models driven by DensePose maps and for
    kept results."""


def unwritten_result(
    output: Output, reference: Reference, *, has_audio: bool, start: float
) -> GenerateResult:
    """Describe a result that another process writes."""
    return GenerateResult(
        path=output.path,
        side_by_side=output.side_by_side,
        report=report_path(output.path),
        num_frames=output.num_frames,
        fps=float(output.fps),
        height=reference.height,
        width=reference.width,
        has_audio=has_audio,
        seconds=time.perf_counter() - start,
    )


def kept_result(files: ResultFiles, report: Mapping[str, Any]) -> GenerateResult:
    """Describe an existing result as its JSON report does."""
    output = report["output"]
    return GenerateResult(
        path=files.video,
        side_by_side=files.side_by_side,
        report=files.report,
        num_frames=output["num_frames"],
        fps=output["fps"],
        height=output["height"],
        width=output["width"],
        has_audio=output["has_audio"],
        seconds=report["seconds"],
        missing=output.get("missing"),
        is_kept=True,
    )
