"""One HTML file of a comparison that holds everything it shows, to open anywhere, offline.

The text is laid out by `page.html.jinja`, which escapes everything that it is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mimic.compare.inputs import ClipInputs
from mimic.compare.published import PUBLISHED
from mimic.compare.settings import CompareConfig
from mimic.compare.sprites import COLUMNS, Sprite, data_url, make_sprite
from mimic.compare.statistics import (
    MIN_CLIPS_FOR_WINNER,
    MetricLine,
    differing_settings,
    metric_lines,
    verdict,
)
from mimic.files import whole_file
from mimic.metrics.clips import find_clips
from mimic.metrics.meanings import MEANINGS, title_of
from mimic.metrics.protocols import PROTOCOLS
from mimic.metrics.tools import SET_METRICS
from mimic.progress import counted
from mimic.video import read_frames, read_image
from pose import draw_pose

Row = Mapping[str, Any]
Sets = Mapping[str, Mapping[str, Any]]

COLOURS = ("#2f6fde", "#d9822b", "#2a9d5c", "#b5489c", "#8a63d2", "#c0392b", "#14929b", "#8d7b1f")
"""Of the variants, in their order."""

STRIP_LENGTH = 6
"""Frames of a strip, from the first to the last."""

_OPTIONAL = ("lpips", "keypoint_error", "hand_confidence", "identity")
_HERE = Path(__file__).parent
_MAPS_SHORT_SIDE = 480


def write_page(
    path: Path,
    config: CompareConfig,
    clips: Sequence[ClipInputs],
    rows: Sequence[Row],
    sets: Sets,
    *,
    missing: int = 0,
) -> Path:
    """Write `report.html`.

    Args:
        path: the file; videos of the rows are relative to its folder.
        rows: finished cells, as `results.jsonl` has them.
        sets: FID, FID-VID and FVD by variant: entries of `mimic.metrics.evaluate`'s summary.
        missing: number of cells that could not be made.
    """
    own = {v.name: found for v in config.variants if (found := [r for r in rows if r["variant"] == v.name])}
    variants, first = list(own), {name: found[0] for name, found in own.items()}
    protocol, lines = PROTOCOLS[config.protocol], metric_lines(rows, variants)
    set_rows = list(_set_rows(variants, sets))
    sure, unsure = verdict(lines, variants)
    names = [clip.name for clip in clips]
    numbers = (len(own), "variant"), (len(clips), "clip"), (len(config.seeds), "seed")
    counts = f"{', '.join(counted(*each) for each in numbers)}: {counted(len(rows), 'result')}"
    absent = f"; {missing} {'is' if missing == 1 else 'are'} missing" if missing else ""
    text = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=config.title,
            counts=counts + absent,
            protocol=protocol,
            departures=protocol.departures(names),
            sure=sure,
            unsure=unsure,
            seeds=list(config.seeds),
            clips=[
                {
                    "name": clip.name,
                    "fps": f"{clip.fps:g}",
                    "panels": [
                        panel | {"facts": {"id": f"clip-{number}-{place}", **panel["facts"]}}
                        for place, panel in enumerate(_panels(path.parent, clip, rows, variants))
                    ],
                }
                for number, clip in enumerate(clips)
            ],
            strip_length=STRIP_LENGTH,
            variants=variants,
            metrics=[*_metric_rows(lines, variants), *set_rows],
            has_intervals=any(
                interval.low is not None for line in lines for interval in line.intervals.values()
            ),
            min_clips=MIN_CLIPS_FOR_WINNER,
            unmeasured=[
                title_of(name)
                for name in (*_OPTIONAL, *SET_METRICS)
                if name not in {line.metric for line in lines} | {row["metric"] for row in set_rows}
            ],
            colours=COLOURS,
            plots=[_plot(rows, line, variants, names) for line in lines if line.better is not None],
            costs=[_costs(name, found) for name, found in own.items()],
            differences=_differences(rows, first),
            weights=[
                (name, f"{row['model']['name']}: {file}", digest)
                for name, row in first.items()
                for file, digest in row["model"]["weights_sha256"].items()
            ],
            folded={
                title: json.dumps(content, indent=1, ensure_ascii=False, default=str)
                for title, content in (
                    ("The comparison's settings, filled in, as JSON", config.model_dump(mode="json")),
                    (
                        "Each variant's settings, filled in, as JSON",
                        {name: row["settings"] for name, row in first.items()},
                    ),
                    ("Networks of the metrics", rows[0]["networks"]),
                    ("Versions", rows[0]["versions"]),
                )
            },
            published=PUBLISHED,
            style=_own_file("page.css"),
            script=_own_file("page.js").replace("SPRITE_COLUMNS", str(COLUMNS)),
        )
    )
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return path


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _own_file(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def _panels(
    folder: Path, clip: ClipInputs, rows: Sequence[Row], variants: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Players: reference, what drives, truth, then each variant with each seed that it has.

    ``seed`` is None where the panel belongs to all seeds, ``link`` a file beside the page or None.
    """
    reference = read_image(clip.reference)
    height, width = reference.shape[:2]
    yield _panel("reference", Sprite(data_url(reference), width, height, 1))
    _, driving = clip.poses()
    maps = (
        draw_pose(driving[i], height, width, canvas_short_side=_MAPS_SHORT_SIDE)[0]
        for i in range(len(driving))
    )
    yield _panel("driving pose", make_sprite(maps, len(driving)))
    if clip.densepose is not None:
        yield _panel("driving parts", make_sprite(read_frames(clip.densepose), clip.num_frames))
    truth = next(iter(find_clips(clip.truth).values()))
    yield _panel("ground truth", make_sprite(truth.frames(), truth.num_frames))
    for variant in variants:
        own = [row for row in rows if (row["variant"], row["clip"]) == (variant, clip.name)]
        for row in own:
            sprite = make_sprite(read_frames(folder / row["video"]), row["num_frames"])
            has_seeds = len(own) > 1 or row["model"]["pipeline"] != "videos"
            yield _panel(variant, sprite, seed=row["seed"] if has_seeds else None, link=row["video"])


def _panel(label: str, sprite: Sprite, *, seed: int | None = None, link: str | None = None) -> dict[str, Any]:
    """A player; with its size from the start, so that nothing moves once a picture has been decoded."""
    facts = {"width": sprite.width, "height": sprite.height, "num_frames": sprite.num_frames}
    address = None if link is None else quote(link)
    return {"label": label, "data_url": sprite.data_url, "facts": facts, "seed": seed, "link": address}


def _metric_rows(lines: Sequence[MetricLine], variants: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        cells = []
        for variant in variants:
            interval = line.intervals.get(variant)
            text = None if interval is None else f"{interval.mean:.4g}"
            has_spread = interval is not None and interval.low is not None
            note = f"{interval.low:.4g} … {interval.high:.4g}" if interval is not None and has_spread else ""
            cells.append({"text": text, "note": note, "is_best": line.winner == variant})
        yield _metric_row(line.metric, line.better, cells)


def _set_rows(variants: Sequence[str], sets: Sets) -> Iterator[dict[str, Any]]:
    """Metrics over all clips of a variant, where any variant has a value."""
    absent = {"value": None, "not_measured": "no network is named"}
    for name in SET_METRICS:
        entries = [sets.get(variant, {}).get(name, absent) for variant in variants]
        cells = [
            {"text": None, "note": entry["not_measured"], "is_best": False}
            if entry["value"] is None
            else {
                "text": f"{entry['value']:.4g}",
                "note": counted(entry["num_features"], "feature"),
                "is_best": False,
            }
            for entry in entries
        ]
        if any(cell["text"] is not None for cell in cells):
            yield _metric_row(name, "low", cells)


def _metric_row(metric: str, better: str | None, cells: list[dict[str, Any]]) -> dict[str, Any]:
    meaning = MEANINGS.get(metric)
    unit = f", {meaning.unit}" if meaning is not None and meaning.unit else ""
    return {
        "metric": metric,
        "label": _label(title_of(metric), better) + unit,
        "meaning": "" if meaning is None else meaning.text,
        "cells": cells,
    }


def _plot(
    rows: Sequence[Row], line: MetricLine, variants: Sequence[str], clips: Sequence[str]
) -> dict[str, Any]:
    """A dot a cell: clips from left to right, the metric upwards."""
    measured = [row for row in rows if line.metric in row["metrics"]]
    values = [row["metrics"][line.metric] for row in measured]
    low, high = min(values), max(values)
    width, height, left = 300, 170, 48
    dots = []
    for row, value in zip(measured, values, strict=True):
        place = variants.index(row["variant"])
        shift = (place - (len(variants) - 1) / 2) * min(7, 60 / len(clips) / len(variants))
        x = left + (clips.index(row["clip"]) + 0.5) / len(clips) * (width - left - 8) + shift
        y = 10 + (1 - (value - low) / ((high - low) or 1)) * (height - 40)
        tip = f"{row['variant']}, {row['clip']}, seed {row['seed']}: {value:.4g}"
        dots.append({"x": f"{x:.1f}", "y": f"{y:.1f}", "colour": COLOURS[place % len(COLOURS)], "tip": tip})
    return {
        "metric": title_of(line.metric),
        "label": _label(title_of(line.metric), line.better),
        "width": width,
        "height": height,
        "left": left,
        "base": height - 24,
        "low": f"{low:.3g}",
        "high": f"{high:.3g}",
        "dots": dots,
    }


def _costs(variant: str, rows: Sequence[Row]) -> list[str]:
    def most(name: str) -> str:
        found = [row[name] for row in rows if row[name] is not None]
        return f"{max(found):.0f}" if found else "—"

    timed = [row for row in rows if row["seconds"] is not None]
    return [
        variant,
        f"{np.median([row['seconds'] / row['num_frames'] for row in timed]):.3g}" if timed else "—",
        f"{sum(row['seconds'] for row in timed):.0f}" if timed else "—",
        most("peak_memory_mb"),
        most("peak_gpu_memory_mb"),
        rows[0]["model"]["device"],
    ]


def _differences(rows: Sequence[Row], first: Mapping[str, Row]) -> list[list[str]]:
    found = differing_settings(rows, list(first))
    pipelines = {name: row["model"]["pipeline"] for name, row in first.items()}
    if len(set(pipelines.values())) > 1:
        found = {"family": pipelines, **found}
    return [[key, *(_shown(column.get(name)) for name in first)] for key, column in found.items()]


def _shown(value: object) -> str:
    """A setting's value as a YAML has it."""
    return "—" if value is None else value if isinstance(value, str) else json.dumps(value, default=str)


def _label(metric: str, better: str | None) -> str:
    return metric + {"high": " ↑", "low": " ↓", None: ""}[better]
