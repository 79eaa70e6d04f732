"""From the cells' metrics to a table: means with intervals, and a best one only where it is sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic.metrics.evaluate import BETTER
from mimic.metrics.intervals import Interval, bootstrap_difference, bootstrap_mean
from mimic.metrics.meanings import MEANINGS, title_of
from mimic.progress import counted

Row = Mapping[str, Any]

MIN_CLIPS_FOR_WINNER = 6
"""Of fewer clips even unanimous ones may agree by chance (five: once in 16 times), and a bootstrap of them
is too narrow."""


@dataclass(frozen=True)
class MetricLine:
    """One metric over all variants."""

    metric: str
    better: str | None
    intervals: dict[str, Interval]
    """By variant; one that lacks the metric is not in it."""
    winner: str | None
    """The variant whose paired difference from each other one excludes 0, all in its favour."""


def metric_lines(rows: Sequence[Row], variants: Sequence[str]) -> list[MetricLine]:
    """A line a metric that any cell has, in the order of `BETTER` and then by name.

    Cells of one clip with several seeds count as one value: their mean.

    Args:
        rows: finished cells, as `results.jsonl` has them.
    """
    names = {name for row in rows for name in row["metrics"]}
    order = [name for name in BETTER if name in names] + sorted(names - set(BETTER))
    return [_line(name, rows, variants) for name in order]


def _line(metric: str, rows: Sequence[Row], variants: Sequence[str]) -> MetricLine:
    values: dict[str, dict[tuple[str, int], float]] = {
        variant: {
            (row["clip"], row["seed"]): row["metrics"][metric]
            for row in rows
            if row["variant"] == variant and metric in row["metrics"]
        }
        for variant in variants
    }
    values = {variant: found for variant, found in values.items() if found}
    intervals = {
        variant: bootstrap_mean(list(found.values()), groups=[clip for clip, _ in found])
        for variant, found in values.items()
    }
    return MetricLine(metric, BETTER.get(metric), intervals, _winner(metric, values, intervals))


def _winner(
    metric: str,
    values: Mapping[str, Mapping[tuple[str, int], float]],
    intervals: Mapping[str, Interval],
) -> str | None:
    """The best variant, if it is better than each other one beyond doubt on the cells that both have."""
    direction = BETTER.get(metric)
    if direction is None or len(values) < 2:
        return None
    sign = 1 if direction == "high" else -1
    best = max(intervals, key=lambda variant: sign * intervals[variant].mean)
    for other in values:
        if other == best:
            continue
        common = sorted(set(values[best]) & set(values[other]))
        if not common:
            return None
        difference = bootstrap_difference(
            [sign * values[best][cell] for cell in common],
            [sign * values[other][cell] for cell in common],
            groups=[clip for clip, _ in common],
        )
        if difference.num < MIN_CLIPS_FOR_WINNER or difference.low is None or difference.low <= 0:
            return None
    return best


def verdict(lines: Sequence[MetricLine], variants: Sequence[str]) -> tuple[list[str], list[str]]:
    """What the comparison says in words: sentences that are sure, and what remains open.

    Args:
        lines: result of `metric_lines`; metrics without a direction say nothing here.
    """
    judged = [line for line in lines if line.better is not None and line.intervals]
    if len(variants) < 2:
        return [], ["One variant alone is not compared with anything; its metrics are below."]
    sure = [_sentence(line) for line in judged if line.winner is not None]
    num_clips = max((interval.num for line in judged for interval in line.intervals.values()), default=0)
    if num_clips < MIN_CLIPS_FOR_WINNER:
        return sure, [
            f"{counted(num_clips, 'clip')} {'is' if num_clips == 1 else 'are'} too few to call any variant "
            f"the best; at least {MIN_CLIPS_FOR_WINNER} are needed."
        ]
    names = [title_of(line.metric) for line in judged if line.winner is None]
    open_ = (
        f"By {', '.join(names)} no variant is surely the best: differences may be chance." if names else ""
    )
    return sure, [open_] if open_ else []


def _sentence(line: MetricLine) -> str:
    assert line.winner is not None
    sign = 1 if line.better == "high" else -1
    first, second = sorted(line.intervals, key=lambda name: -sign * line.intervals[name].mean)[:2]
    unit = MEANINGS[line.metric].unit if line.metric in MEANINGS else ""
    unit = "" if unit.startswith("of ") else unit
    best, next_ = (line.intervals[name] for name in (first, second))
    return (
        f"{first} has the best {title_of(line.metric)}: {best.mean:.4g}{' ' + unit if unit else ''}; next is "
        f"{second} with {next_.mean:.4g} ({counted(best.num, 'clip')})."
    )


def differing_settings(rows: Sequence[Row], variants: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings that are not the same for all variants that have any: key to (variant to value)."""
    by_variant = {
        variant: found[0]
        for variant in variants
        if (found := [row["settings"] for row in rows if row["variant"] == variant and row["settings"]])
    }
    keys = dict.fromkeys(key for settings in by_variant.values() for key in settings if key != "seed")
    differing = {}
    for key in keys:
        column = {variant: settings.get(key) for variant, settings in by_variant.items()}
        if len({str(value) for value in column.values()}) > 1:
            differing[key] = column
    return differing
