"""Write a page about a training: the model before, at its best and last, beside the truth, with curves.

The page is made of `log.jsonl` and the videos of validation, and links them by relative paths. It is laid out
by `report.html.jinja`, which escapes everything that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mimic.files import whole_file
from mimic.metrics.meanings import MEANINGS, Meaning
from mimic.training.logs import LOG_FILE, read_log
from pose.text import one_line

REPORT_FILE = "report.html"
_WIDTH, _HEIGHT, _MARGIN = 640, 160, 8
_MOST_POINTS = 200
_MOST_DOTS = 24
_LONGEST_NAME = 60


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
    lines = read_log(folder / LOG_FILE)
    validated = _validated(lines)
    if not validated:
        return None
    shown = shown_steps(validated, best_step)
    curves = [_curve("training loss", _means([(line["step"], _number(line.get("loss"))) for line in lines]))]
    by_level = [(line["step"], line["levels"]) for line in lines if isinstance(line.get("levels"), dict)]
    for name in dict.fromkeys(name for _, figures in by_level for name in figures):
        points = [(s, f[name]) for s, f in by_level if isinstance(f.get(name), int | float)]
        curves.append(_curve(f"training {name}", _means(points)))
    for name in dict.fromkeys(name for figures in validated.values() for name in figures):
        curves.append(_curve(name, [(s, f[name]) for s, f in validated.items() if name in f]))
    text = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=f"Training {folder.name}",
            verdict=_verdict(validated, best_by, best_step),
            shown=shown,
            metrics=_metric_rows(validated, shown),
            clips=[_clip(folder, videos, step, name) for step, name in shown.items()],
            curves=[curve for curve in curves if curve is not None],
            width=_WIDTH,
            height=_HEIGHT,
        )
    )
    with whole_file(folder / REPORT_FILE) as beside:
        beside.write_text(text, encoding="utf-8")
    return folder / REPORT_FILE


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def validations(folder: Path, *, last_step: int) -> dict[int, dict[str, float]]:
    """Return the metrics of each validated step in a training's log, up to a step."""
    validated = _validated(read_log(folder / LOG_FILE))
    return {step: found for step, found in validated.items() if step <= last_step}


def _validated(lines: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    return {
        line["step"]: {
            name: value for name, value in line["validation"].items() if not isinstance(value, str)
        }
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
        return one_line(metric, _LONGEST_NAME) if level is None else f"loss at {level[1]} = {level[2]}"
    return f"{meaning.title}, {meaning.unit}" if meaning.unit else meaning.title


def _metric_rows(
    validated: Mapping[int, Mapping[str, float]], shown: Mapping[int, str]
) -> list[dict[str, Any]]:
    """Rows of the table; a value is None where a step does not have the metric."""
    return [
        {
            "title": _title(name),
            "meaning": MEANINGS[name].text if name in MEANINGS else "",
            "values": [validated[step].get(name) for step in shown],
        }
        for name in dict.fromkeys(name for step in shown for name in validated[step])
    ]


def _clip(folder: Path, videos: str, step: int, name: str) -> dict[str, Any]:
    path = f"{videos}/step-{step:06d}.mp4"
    return {"caption": f"Step {step}, {name}", "path": path, "is_there": (folder / path).is_file()}


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


def _curve(name: str, points: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Places of a curve in the picture, and of its dots where they are few; None for less than two points."""
    if len(points) < 2:
        return None
    steps, values = zip(*points)
    (left, right), (low, high) = (min(steps), max(steps)), (min(values), max(values))
    places = [
        (
            _MARGIN + (step - left) / max(right - left, 1e-9) * (_WIDTH - 2 * _MARGIN),
            _HEIGHT - _MARGIN - (value - low) / max(high - low, 1e-9) * (_HEIGHT - 2 * _MARGIN),
        )
        for step, value in points
    ]
    return {
        "caption": f"{_title(name)}: {low:.4g} to {high:.4g}, steps {left:g} to {right:g}",
        "points": places,
        "dots": places if len(places) <= _MOST_DOTS else [],
    }
