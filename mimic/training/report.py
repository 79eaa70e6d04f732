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
from mimic.progress import counted
from mimic.training.logs import LOG_FILE, read_log
from pose.text import one_line

REPORT_FILE = "report.html"
_WIDTH, _HEIGHT = 320, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 8, 10, 24
"""Margins of a curve; left and below are the labels of its axes."""
_LEAST_RANGE = 0.02
"""Least range of a curve's axis, as a share of its largest magnitude."""
_MOST_POINTS = 200
_MOST_DOTS = 24
_LONGEST_NAME = 60


def write_report(
    folder: Path, *, best_by: str, best_step: int | None, videos: str, is_finished: bool = False
) -> Path | None:
    """Write `report.html` into a training's folder, in place of an earlier one.

    Args:
        folder: the training's `output_dir`.
        best_by: metric by which the best step was chosen.
        best_step: the best step; None before the first validation.
        videos: name of the folder of validation videos.
        is_finished: whether the training has made its last step, so that no validation follows.

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
        curves.append(_curve(f"training {_title(name)}", _means(points)))
    for name in dict.fromkeys(name for figures in validated.values() for name in figures):
        curves.append(_curve(_title(name), [(s, f[name]) for s, f in validated.items() if name in f]))
    text = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=f"Training {folder.name}",
            verdict=_verdict(validated, best_by, best_step, is_finished=is_finished),
            shown=shown,
            metrics=_metric_rows(validated, shown),
            clips=[_clip(folder, videos, step, name) for step, name in shown.items()],
            curves=[curve for curve in curves if curve is not None],
            width=_WIDTH,
            height=_HEIGHT,
            left=_LEFT,
            top=_TOP,
            base=_HEIGHT - _BOTTOM,
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


def _verdict(
    validated: Mapping[int, Mapping[str, float]], best_by: str, best_step: int | None, *, is_finished: bool
) -> str:
    is_one = len(validated) == 1
    made = f"There {'was' if is_one else 'were'} {counted(len(validated), 'validation')}"
    if best_step is None or best_by not in validated.get(best_step, {}):
        lacks = "it has no" if is_one else "none has"
        return f"{made}; {lacks} {best_by}, by which the best step is chosen."
    best = validated[best_step][best_by]
    meaning = MEANINGS.get(best_by, Meaning(best_by, "", ""))
    rank = "the best" if is_finished else "the best so far"
    text = f"Step {best_step} is {rank}: {meaning.title} {best:.4g} {meaning.unit}".rstrip()
    before = validated.get(0, {}).get(best_by)
    if before is not None:
        text += f", {compared_with_start(best, before)}"
    return f"{text}. {made}{'' if is_one else ', all on the same validation set'}."


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


def _curve(title: str, points: Sequence[tuple[float, float]]) -> dict[str, Any] | None:
    """Places of a curve in the picture, of its dots where they are few, and the labels of its axes.

    The vertical axis reaches from the lowest to the highest value. Where these differ by less than
    `_LEAST_RANGE` of the larger magnitude, it is widened to that range around them, so that a curve of noise
    looks flat.

    Returns:
        what the page draws; None for less than two points.
    """
    if len(points) < 2:
        return None
    steps, values = zip(*points)
    (first, last), (low, high) = (min(steps), max(steps)), (min(values), max(values))
    bottom, top = _axis(low, high)
    base = _HEIGHT - _BOTTOM
    places = [
        (
            _LEFT + (step - first) / max(last - first, 1e-9) * (_WIDTH - _LEFT - _RIGHT),
            base - (value - bottom) / (top - bottom) * (base - _TOP),
        )
        for step, value in points
    ]
    lowest, highest = f"{low:.4g}", f"{high:.4g}"
    values_told = f"{lowest} throughout" if lowest == highest else f"{lowest} to {highest}"
    return {
        "caption": f"{title}: {values_told}, steps {first:g} to {last:g}",
        "points": places,
        "dots": places if len(places) <= _MOST_DOTS else [],
        "top": f"{top:.4g}",
        "bottom": f"{bottom:.4g}",
        "first": f"step {first:g}",
        "last": f"step {last:g}",
    }


def _axis(low: float, high: float) -> tuple[float, float]:
    """Ends of an axis for values from `low` to `high`; see `_curve`."""
    magnitude = max(abs(low), abs(high))
    missing = (_LEAST_RANGE * magnitude if magnitude else 1.0) - (high - low)
    return (low - missing / 2, high + missing / 2) if missing > 0 else (low, high)
