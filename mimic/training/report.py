"""Write a page about a training: the model before, at its best and last, beside the truth, with curves.

The page is made of `log.jsonl` and the videos of validation, and links them by relative paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mimic.files import whole_file
from mimic.metrics.meanings import MEANINGS, Meaning
from mimic.training.logs import LOG_FILE

REPORT_FILE = "report.html"
_WIDTH, _HEIGHT, _MARGIN = 640, 160, 8
_MOST_POINTS = 200
_MOST_DOTS = 24
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dbe0, #3a3d42); --dim: light-dark(#5b6068, #a0a6b0);
  --curve: light-dark(#0b57d0, #8ab4f8); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: light-dark(#1a1a1a, #e8eaee); background: light-dark(#fff, #131417); }
p { max-width: 70ch; } small, figcaption { color: var(--dim); } td small { display: block; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; }
video { width: 100%; max-width: 48rem; display: block; } figure { margin: 1rem 0; }
.columns { display: grid; grid-template-columns: repeat(4, 1fr); max-width: 48rem; font-size: .85rem;
  color: var(--dim); }
.curves { display: grid; gap: 0 2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
svg { width: 100%; height: auto; display: block; border-bottom: 1px solid var(--line); }
polyline { fill: none; stroke: var(--curve); stroke-width: 2; } circle { fill: var(--curve); }
"""


def write_report(folder: Path, *, best_by: str, best_step: int | None, videos: str) -> Path | None:
    """Write `report.html` into a training's folder, in place of an earlier one.

    Args:
        folder: the training's `output_dir`.
        best_by: metric by which the best step was chosen.
        best_step: the best step; None before the first validation.
        videos: name of the folder of validation videos.

    Returns:
        the page; None while nothing has been validated.

    Raises:
        OSError: it cannot be written.
    """
    lines = _lines(folder)
    validated = _validated(lines)
    if not validated:
        return None
    shown = shown_steps(validated, best_step)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>Training {escape(folder.name)}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>',
        f"<h1>Training {escape(folder.name)}</h1>",
        f"<p>{escape(_verdict(validated, best_by, best_step))}</p>",
        _table(validated, shown),
        "<h2>Validation clips</h2><p>The same clips and the same noise at every step.</p>",
        *(_video(folder, videos, step, name) for step, name in shown.items()),
        '<h2>Curves</h2><div class="curves">',
        _curve("training loss", _means([(line["step"], line.get("loss")) for line in lines])),
    ]
    by_level = [(line["step"], line["levels"]) for line in lines if isinstance(line.get("levels"), dict)]
    for name in dict.fromkeys(name for _, figures in by_level for name in figures):
        points = [(step, figures[name]) for step, figures in by_level if name in figures]
        parts.append(_curve(f"training {name}", _means(points)))
    for name in dict.fromkeys(name for figures in validated.values() for name in figures):
        parts.append(_curve(name, [(s, f[name]) for s, f in validated.items() if name in f]))
    with whole_file(folder / REPORT_FILE) as beside:
        beside.write_text("\n".join([*parts, "</div></main></body></html>\n"]), encoding="utf-8")
    return folder / REPORT_FILE


def validations(folder: Path, *, last_step: int) -> dict[int, dict[str, float]]:
    """Return the metrics of each validated step in a training's log, up to a step."""
    return {step: found for step, found in _validated(_lines(folder)).items() if step <= last_step}


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / LOG_FILE
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    )


def _validated(lines: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    return {
        int(line["step"]): line["validation"]
        for line in lines
        if isinstance(line.get("validation"), dict) and "failed" not in line["validation"]
    }


def shown_steps(validated: Mapping[int, Any], best_step: int | None) -> dict[int, str]:
    """Return the first, best and last validated step, with what each is."""
    names: dict[int, list[str]] = {min(validated): ["before training" if min(validated) == 0 else "first"]}
    if best_step is not None and best_step in validated:
        names.setdefault(best_step, []).append("best")
    names.setdefault(max(validated), []).append("last")
    return {step: " and ".join(names[step]) for step in sorted(names)}


def _verdict(validated: Mapping[int, Mapping[str, float]], best_by: str, best_step: int | None) -> str:
    if best_step is None or best_by not in validated.get(best_step, {}):
        return f"{len(validated)} validations; none has {best_by}, by which the best is chosen."
    best = validated[best_step][best_by]
    meaning = MEANINGS.get(best_by, Meaning(best_by, "", ""))
    text = f"Step {best_step} is the best so far: {meaning.title} {best:.4g} {meaning.unit}".rstrip()
    before = validated.get(0, {}).get(best_by)
    if before is not None:
        text += f", {compared_with_start(best, before)}"
    return f"{text}. On {len(validated)} validations of the same clips."


def compared_with_start(best: float, before: float) -> str:
    """Say whether a model that was trained is better than before, by a metric of which more is better."""
    if best > before:
        return f"{best - before:.3g} above the model before training"
    return f"{before - best:.3g} below the model before training: no improvement by this metric"


def _title(metric: str) -> str:
    """The metric's title and unit."""
    meaning = MEANINGS.get(metric)
    if meaning is None:
        level = re.fullmatch(r"loss_(sigma|t)_(.+)", metric)
        return metric if level is None else f"loss at {level[1]} = {level[2]}"
    return f"{meaning.title}, {meaning.unit}" if meaning.unit else meaning.title


def _table(validated: Mapping[int, Mapping[str, float]], shown: Mapping[int, str]) -> str:
    names = list(dict.fromkeys(name for step in shown for name in validated[step]))
    head = "".join(f"<th>step {step} ({escape(name)})</th>" for step, name in shown.items())
    rows = []
    for name in names:
        values = (validated[step].get(name) for step in shown)
        cells = "".join(f"<td>{'–' if value is None else f'{value:.4g}'}</td>" for value in values)
        text = MEANINGS[name].text if name in MEANINGS else ""
        rows.append(f"<tr><td>{escape(_title(name))}<small>{escape(text)}</small></td>{cells}</tr>")
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Metrics"><table><thead><tr><th>metric</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _video(folder: Path, videos: str, step: int, name: str) -> str:
    path = f"{videos}/step-{step:06d}.mp4"
    caption = f"Step {step}, {name}"
    if not (folder / path).is_file():
        return f"<p>{escape(caption)}: {escape(path)} is not there.</p>"
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="columns"><span>reference</span>'
        "<span>pose</span><span>truth</span><span>generated</span></div>"
        f'<video controls loop muted preload="metadata" src="{escape(path)}" aria-label="{escape(caption)}">'
        "</video></figure>"
    )


def _means(points: Sequence[tuple[int, float | None]]) -> list[tuple[float, float]]:
    """Means over equal stretches, so that a curve has few points, without steps whose loss was not finite."""
    known = [(float(step), value) for step, value in points if value is not None]
    size = -(-len(known) // _MOST_POINTS) or 1
    stretches = [known[start : start + size] for start in range(0, len(known), size)]
    return [
        (stretch[-1][0], sum(value for _, value in stretch) / len(stretch))
        for stretch in stretches
        if stretch
    ]


def _curve(name: str, points: Sequence[tuple[float, float]]) -> str:
    if len(points) < 2:
        return ""
    steps, values = zip(*points)
    (left, right), (low, high) = (min(steps), max(steps)), (min(values), max(values))

    def place(step: float, value: float) -> str:
        x = _MARGIN + (step - left) / max(right - left, 1e-9) * (_WIDTH - 2 * _MARGIN)
        y = _HEIGHT - _MARGIN - (value - low) / max(high - low, 1e-9) * (_HEIGHT - 2 * _MARGIN)
        return f"{x:.1f},{y:.1f}"

    places = [place(step, value) for step, value in points]
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="3"/>' for x, y in (each.split(",") for each in places))
    caption = f"{_title(name)}: {low:.4g} to {high:.4g}, steps {left:g} to {right:g}"
    return (
        f"<figure><figcaption>{escape(caption)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(caption)}">'
        f'<polyline points="{" ".join(places)}"/>{dots if len(places) <= _MOST_DOTS else ""}</svg></figure>'
    )
