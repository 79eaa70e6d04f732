"""One HTML file of a comparison, with everything that it shows inside it: open it anywhere, offline."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimic.compare.inputs import ClipInputs
from mimic.compare.published import PUBLISHED
from mimic.compare.settings import CompareConfig
from mimic.compare.sprites import COLUMNS, Sprite, data_url, make_sprite
from mimic.compare.statistics import MIN_CLIPS_FOR_WINNER, MetricLine, differing_settings, metric_lines
from mimic.files import whole_file
from mimic.metrics.clips import find_clips
from mimic.metrics.protocols import PROTOCOLS, Protocol
from mimic.video import read_frames, read_image
from pose import draw_pose

Row = Mapping[str, Any]

COLOURS = ("#2f6fde", "#d9822b", "#2a9d5c", "#b5489c", "#8a63d2", "#c0392b", "#14929b", "#8d7b1f")
"""One a variant, in their order; told apart by the legend beside each plot as well."""

STRIP_LENGTH = 6
"""Frames of a strip, from the first to the last."""

_HERE = Path(__file__).parent
_MAPS_SHORT_SIDE = 480


def write_page(
    path: Path,
    config: CompareConfig,
    clips: Sequence[ClipInputs],
    rows: Sequence[Row],
    sets: Mapping[str, Mapping[str, Any]],
    *,
    missing: int = 0,
) -> Path:
    """Write `report.html`.

    Args:
        path: the file; videos of the rows are relative to its folder.
        rows: finished cells, as `results.jsonl` has them.
        sets: FID, FID-VID and FVD by variant: entries of `mimic.metrics.evaluate`'s summary.
        missing: cells that could not be made.
    """
    variants = [
        variant.name for variant in config.variants if any(r["variant"] == variant.name for r in rows)
    ]
    protocol = PROTOCOLS[config.protocol]
    lines = metric_lines(rows, variants)
    parts = [
        f"<h1>{html.escape(config.title)}</h1>",
        f"<p class=dim>{_counted(len(variants), 'variant')}, {_counted(len(clips), 'clip')}, "
        f"{_counted(len(config.seeds), 'seed')}: {len(rows)} "
        f"results{f'; {missing} are missing' if missing else ''}. Same reference, driving clip, frames, size "
        "and seeds for all.</p>",
        _protocol(protocol, [clip.name for clip in clips]),
        "<h2>Side by side</h2>",
        *(_clip(path.parent, clip, rows, variants, config.seeds[0]) for clip in clips),
        "<h2>Figures</h2>",
        _metric_table(lines, variants, sets),
        "<h2>Clip by clip</h2>",
        _plots(rows, lines, variants, [clip.name for clip in clips]),
        "<h2>Time and memory</h2>",
        _cost_table(rows, variants),
        "<h2>What differs by design</h2>",
        _difference_table(rows, variants),
        "<h2>Weights and settings</h2>",
        _provenance(rows, variants, config),
        "<h2>Published figures, for context</h2>",
        _published(protocol),
    ]
    body = "\n".join(parts)
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    script = (_HERE / "page.js").read_text(encoding="utf-8").replace("SPRITE_COLUMNS", str(COLUMNS))
    with whole_file(path) as beside:
        beside.write_text(
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
            '<meta name=viewport content="width=device-width, initial-scale=1">'
            '<link rel=icon href="data:,">'
            f"<title>{html.escape(config.title)}</title><style>{style}</style></head>\n"
            f"<body>{body}\n<script>{script}</script></body></html>\n",
            encoding="utf-8",
        )
    return path


def _protocol(protocol: Protocol, names: list[str]) -> str:
    departures = "".join(f" {html.escape(text.capitalize())}." for text in protocol.departures(names))
    return (
        f"<p><b>Protocol {protocol.name}: {html.escape(protocol.title)}.</b> {html.escape(protocol.about)}"
        f"{departures}</p>"
    )


def _clip(folder: Path, clip: ClipInputs, rows: Sequence[Row], variants: Sequence[str], seed: int) -> str:
    """The players of one clip and their strips; of several seeds the first is shown."""
    shown = list(_panels(folder, clip, rows, variants, seed))
    figures, data, strips = [], [], []
    for number, (label, sprite) in enumerate(shown):
        name = f"{clip.name}-{number}"
        facts = json.dumps(
            {"id": name, "width": sprite.width, "height": sprite.height, "num_frames": sprite.num_frames}
        )
        data.append(f'<script type="text/plain" id="{name}">{sprite.data_url}</script>')
        canvas = f"data-sprite='{html.escape(facts)}' role=img aria-label=\"{html.escape(label)}\""
        # With its size from the start, so that nothing moves when a picture has been decoded.
        size = "width={} height={}".format
        figures.append(
            f"<figure class=panel><canvas {size(sprite.width, sprite.height)} {canvas}></canvas>"
            f"<figcaption>{html.escape(label)}</figcaption></figure>"
        )
        if sprite.num_frames > 1:
            strips.append(
                f"<figure><canvas class=strip {size(STRIP_LENGTH * sprite.width, sprite.height)} {canvas}>"
                "</canvas>"
                f"<figcaption>{html.escape(label)}</figcaption></figure>"
            )
    return (
        f'<section class=clip data-fps="{clip.fps:g}"><h3>{html.escape(clip.name)} '
        f"<small>seed {seed}</small></h3>"
        f"{''.join(data)}<div class=panels>{''.join(figures)}</div>"
        "<div class=bar><button type=button>Play</button>"
        f'<input type=range min=0 value=0 aria-label="frame of {html.escape(clip.name)}">'
        "<output></output></div>"
        f"<details open><summary>Frame strips</summary>{''.join(strips)}</details></section>"
    )


def _panels(
    folder: Path, clip: ClipInputs, rows: Sequence[Row], variants: Sequence[str], seed: int
) -> Iterator[tuple[str, Sprite]]:
    """(label, sprite): reference, what drives, truth, each variant."""
    reference = read_image(clip.reference)
    height, width = reference.shape[:2]
    yield "reference", Sprite(data_url(reference), width, height, 1)
    _, driving = clip.poses()
    maps = (
        draw_pose(driving[i], height, width, canvas_short_side=_MAPS_SHORT_SIDE)[0]
        for i in range(len(driving))
    )
    yield "driving pose", make_sprite(maps, len(driving))
    if clip.densepose is not None:
        yield "driving parts", make_sprite(read_frames(clip.densepose), clip.num_frames)
    truth = next(iter(find_clips(clip.truth).values()))
    yield "ground truth", make_sprite(truth.frames(), truth.num_frames)
    for variant in variants:
        for row in rows:
            if (row["variant"], row["clip"], row["seed"]) == (variant, clip.name, seed):
                yield variant, make_sprite(read_frames(folder / row["video"]), row["num_frames"])


def _metric_table(
    lines: Sequence[MetricLine], variants: Sequence[str], sets: Mapping[str, Mapping[str, Any]]
) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in variants)
    rows = []
    for line in lines:
        cells = ""
        for variant in variants:
            interval = line.intervals.get(variant)
            if interval is None:
                cells += "<td class=none>not measured</td>"
                continue
            spread = (
                "" if interval.low is None else f"<small>{interval.low:.4g} … {interval.high:.4g}</small>"
            )
            best = " class=best" if line.winner == variant else ""
            cells += f"<td{best}>{interval.mean:.4g}{spread}</td>"
        rows.append(f"<tr><td>{_label(line.metric, line.better)}</td>{cells}</tr>")
    for name, title in (("fid", "FID"), ("fid_vid", "FID-VID"), ("fvd", "FVD")):
        cells = ""
        for variant in variants:
            entry = sets.get(variant, {}).get(name)
            if entry is None or entry["value"] is None:
                reason = "no network is named" if entry is None else entry["not_measured"]
                cells += f'<td class=none title="{html.escape(reason)}">not measured</td>'
            else:
                cells += f"<td>{entry['value']:.4g}<small>{entry['num_features']} features</small></td>"
        rows.append(f"<tr><td>{_label(title, 'low')}</td>{cells}</tr>")
    measured = {line.metric for line in lines}
    others = [
        name for name in ("lpips", "keypoint_error", "hand_confidence", "identity") if name not in measured
    ]
    rest = f" Not measured here: {', '.join(others)}." if others else ""
    return (
        f"<div class=wide><table><thead><tr><th>metric</th>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div><p class=dim>Means over clips (seeds of a clip averaged first) with 95 % percentile "
        "bootstrap intervals. The best is coloured only where the interval of its paired difference from "
        f"each other variant leaves out 0, on {MIN_CLIPS_FOR_WINNER} clips or more.{rest}</p>"
    )


def _plots(
    rows: Sequence[Row], lines: Sequence[MetricLine], variants: Sequence[str], clips: Sequence[str]
) -> str:
    legend = "".join(
        f'<span><i style="background:{_colour(i)}"></i>{html.escape(name)}</span>'
        for i, name in enumerate(variants)
    )
    plots = [_plot(rows, line, variants, clips) for line in lines if line.better is not None]
    return f"<div class=legend>{legend}</div><div class=plots>{''.join(plots)}</div>"


def _plot(rows: Sequence[Row], line: MetricLine, variants: Sequence[str], clips: Sequence[str]) -> str:
    """A dot a cell: clips from left to right, the metric upwards."""
    values = [row["metrics"][line.metric] for row in rows if line.metric in row["metrics"]]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    width, height, left = 300.0, 170.0, 48.0
    dots = []
    for row in rows:
        if line.metric not in row["metrics"]:
            continue
        value, place = row["metrics"][line.metric], variants.index(row["variant"])
        shift = (place - (len(variants) - 1) / 2) * min(7, 60 / len(clips) / len(variants))
        x = left + (clips.index(row["clip"]) + 0.5) / len(clips) * (width - left - 8) + shift
        y = 10 + (1 - (value - low) / span) * (height - 40)
        tip = html.escape(f"{row['variant']}, {row['clip']}, seed {row['seed']}: {value:.4g}")
        dots.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_colour(place)}"><title>{tip}</title></circle>'
        )
    base = height - 24
    return (
        f"<figure><figcaption>{_label(line.metric, line.better)}</figcaption>"
        f'<svg viewBox="0 0 {width:g} {height:g}" role=img aria-label="{html.escape(line.metric)} by clip">'
        f'<line x1="{left}" y1="{base}" x2="{width}" y2="{base}"/>'
        f'<line x1="{left}" y1="4" x2="{left}" y2="{base}"/>'
        f'<text x="{left - 4}" y="14" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 4}" y="{base - 4}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{len(clips)} clips</text>'
        f"{''.join(dots)}</svg></figure>"
    )


def _cost_table(rows: Sequence[Row], variants: Sequence[str]) -> str:
    lines = []
    for variant in variants:
        own = [row for row in rows if row["variant"] == variant]
        seconds = [row["seconds"] / row["num_frames"] for row in own]
        memory = [row["peak_memory_mb"] for row in own if row["peak_memory_mb"] is not None]
        gpu = [row["peak_gpu_memory_mb"] for row in own if row["peak_gpu_memory_mb"] is not None]
        lines.append(
            f"<tr><td>{html.escape(variant)}</td><td>{np.median(seconds):.3g}</td>"
            f"<td>{sum(row['seconds'] for row in own):.0f}</td><td>{_most(memory)}</td><td>{_most(gpu)}</td>"
            f"<td>{html.escape(own[0]['model']['device'])}</td></tr>"
        )
    return (
        "<div class=wide><table><thead><tr><th>variant</th><th>s a frame (median)</th><th>s in all</th>"
        f"<th>peak memory, MB</th><th>peak GPU memory, MB</th><th>device</th></tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _difference_table(rows: Sequence[Row], variants: Sequence[str]) -> str:
    found = differing_settings(rows, variants)
    pipelines = {row["variant"]: row["model"]["pipeline"] for row in rows}
    if len(set(pipelines.values())) > 1:
        found = {"family": pipelines, **found}
    if not found:
        return "<p>Nothing but the weights: all settings are equal.</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in variants)
    lines = "".join(
        f"<tr><td>{html.escape(key)}</td>"
        + "".join(f"<td>{html.escape(str(column.get(name)))}</td>" for name in variants)
        + "</tr>"
        for key, column in found.items()
    )
    return (
        f"<div class=wide><table><thead><tr><th>setting</th>{head}</tr></thead><tbody>{lines}</tbody></table>"
        "</div>"
    )


def _provenance(rows: Sequence[Row], variants: Sequence[str], config: CompareConfig) -> str:
    lines = []
    for variant in variants:
        model = next(row["model"] for row in rows if row["variant"] == variant)
        for name, digest in model["weights_sha256"].items():
            lines.append(
                f"<tr><td>{html.escape(variant)}</td><td class=long>{html.escape(str(model['name']))}: "
                f"{html.escape(name)}</td><td class=long><code>{digest}</code></td></tr>"
            )
    effective = {
        variant: next(row["settings"] for row in rows if row["variant"] == variant) for variant in variants
    }
    networks = next(iter(rows))["networks"]
    return (
        "<details><summary>SHA-256 of each file of weights</summary><div class=wide><table><thead><tr>"
        f"<th>variant</th><th>file</th><th>SHA-256</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        "</details>"
        + _folded("The comparison's YAML, filled in", config.model_dump(mode="json"))
        + _folded("Each variant's settings, filled in", effective)
        + _folded("Networks of the metrics", networks)
        + _folded("Versions", next(iter(rows))["versions"])
    )


def _folded(title: str, content: Any) -> str:
    text = html.escape(json.dumps(content, indent=1, ensure_ascii=False, default=str))
    return (
        f"<details><summary>{html.escape(title)}</summary><div class=wide><pre><code>{text}</code></pre>"
        "</div></details>"
    )


def _published(protocol: Protocol) -> str:
    tables = []
    for table in PUBLISHED:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
        lines = "".join(
            f"<tr><td>{html.escape(name)}</td>"
            + "".join(f"<td>{'—' if value is None else f'{value:.4g}'}</td>" for value in values)
            + "</tr>"
            for name, values in table.rows
        )
        relation = (
            "the rules of this comparison; comparable on that test set alone"
            if table.protocol == protocol.name
            else "other rules than this comparison's: not comparable"
        )
        remark = f" {html.escape(table.remark)}" if table.remark else ""
        tables.append(
            f"<h3>{html.escape(table.source)}</h3><p class=dim>Published, not measured here. Protocol "
            f"{table.protocol}: {relation}.{remark}</p><div class=wide><table><thead><tr><th>method</th>"
            f"{head}</tr></thead><tbody>{lines}</tbody></table></div>"
        )
    return "".join(tables)


def _label(metric: str, better: str | None) -> str:
    arrow = {"high": " ↑", "low": " ↓", None: ""}[better]
    return html.escape(metric) + arrow


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _most(values: Sequence[float]) -> str:
    return f"{max(values):.0f}" if values else "—"
