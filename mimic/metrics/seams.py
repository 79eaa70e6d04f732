"""Which windows was a clip made in? From the JSON that `mimic` wrote beside it to the steps of its seams."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.metrics.video import seam_steps
from mimic.results import report_path
from mimic.sampling.windows import WINDOW_LAYOUTS, lay_windows

_RELEASED_LAYOUTS = {
    "MimicMotionPipeline": "reference",
    "AnimateAnyonePipeline": "closed",
    "MagicAnimatePipeline": "closed",
}
"""Layouts of pipelines whose JSON does not name one (written by earlier versions)."""

_ALWAYS_IN_ORDER = ("progressive", "none")
"""Ways of fusing that took sliding windows while earlier versions wrote `closed`."""


@dataclass(frozen=True)
class WindowLayout:
    """The windows of a clip.

    Raises:
        ValueError: a number is out of range, or the layout is not one of `WINDOW_LAYOUTS`.
    """

    size: int
    overlap: int
    layout: str

    def __post_init__(self) -> None:
        lay_windows(1, self.size, self.overlap, self.layout)

    def seams(self, num_frames: int) -> list[range]:
        """Steps of each seam (`seam_steps`) of a clip of `num_frames`, the reference's own not counted."""
        first = 1 if self.layout == "reference" else 0
        return seam_steps(
            lay_windows(num_frames + first, self.size, self.overlap, self.layout), first_frame=first
        )


def layout_of_run(run: Mapping[str, Any]) -> WindowLayout | None:
    """The windows of a run, from the JSON written beside its video; None where it does not tell."""
    try:
        settings, pipeline = run["settings"], run["model"]["pipeline"]
        size, overlap = int(settings["tile_size"]), int(settings["tile_overlap"])
        layout = settings.get("windows") or _RELEASED_LAYOUTS.get(pipeline)
        if layout == "closed" and settings.get("fusion") in _ALWAYS_IN_ORDER:
            layout = "sliding"
        return None if layout not in WINDOW_LAYOUTS else WindowLayout(size, min(overlap, size - 1), layout)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def layout_beside(clip: Path) -> WindowLayout | None:
    """`layout_of_run` of the JSON beside a video or a folder of pictures."""
    of_others = clip.with_name(f"{clip.name if clip.is_dir() else clip.stem}.json")
    path = next((path for path in (report_path(clip), of_others) if path.is_file()), None)
    try:
        return None if path is None else layout_of_run(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None
