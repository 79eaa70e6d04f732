"""What do the presets and their parts cost in quality? Compare them with the exact computation.

    python -m benchmarks.presets --make-start FOLDER
    python -m benchmarks.presets --model FOLDER [--publish] [key=value ...]

The bundled miniature is trained for one step. The first command writes it with settings of 25 steps and
guidance, for `configs/train/mini_many_steps.yaml` to train on; the second measures what that gives.

It runs `configs/compare/presets.yaml` with the given model in place of the miniature, then measures each
variant against the truth, against `exact` (the same clip and seed), and in time. Writes `presets.json` and
`presets.svg`, which shows the frontier: variants that no other one beats in both time and PSNR against the
truth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from benchmarks.gpu.presets import way_of
from benchmarks.speed.run import BASELINE, Job, Parts, random_inputs, sample, with_steps
from mimic.compare.run import compare
from mimic.compare.settings import CompareConfig, load_compare_config
from mimic.families.registry import load_pipeline
from mimic.files import local_path, whole_folder, write_json
from mimic.metrics.image import EQUAL_PSNR, psnr
from mimic.provenance import versions
from mimic.sampling.presets import PRESETS
from mimic.video import read_frames

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "compare" / "presets.yaml"
RESULT, PICTURE = ROOT / "benchmarks" / "results" / "presets.json", ROOT / "docs" / "images" / "presets.svg"
EXACT = "exact"
MANY_STEPS: Mapping[str, Any] = {
    "height": 96,
    "width": 96,
    "num_inference_steps": 25,
    "min_guidance_scale": 1.5,
    "max_guidance_scale": 1.5,
    "noise": "full",  # independent for each frame, as in training
    "description": "A MimicMotion of 96x96 pixels over the whole range of noise, for measurements.",
}
"""Settings stored with the model for which presets are measured."""
RELEASED_NOISE = {"sigma_min": 0.002, "sigma_max": 700.0}
"""Noise levels of its scheduler, as of the released one."""
METRICS = ("psnr", "keypoint_error", "seam_jump")
"""Metrics of a comparison that the table has beside those measured here."""

Row = Mapping[str, Any]


def with_model(config: CompareConfig, model: str) -> CompareConfig:
    """Return the comparison with another model for all variants."""
    variants = tuple(variant.model_copy(update={"model": model}) for variant in config.variants)
    return config.model_copy(update={"variants": variants})


def measure(rows: Sequence[Row], folder: Path) -> dict[str, dict[str, float]]:
    """Measure each variant of a finished comparison; means over clips and seeds, by variant.

    Args:
        rows: lines of `results.jsonl`.
        folder: of the comparison.

    Returns:
        of each variant: `METRICS`, ``psnr_to_exact``, ``denoising_s``, and ``times_faster`` than `exact`.

    Raises:
        ValueError: no cell of `exact` is there.
    """
    exact = {(row["clip"], row["seed"]): row for row in rows if row["variant"] == EXACT}
    if not exact:
        raise ValueError(f"the comparison has no finished cell of the variant {EXACT}.")
    measured: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == name and (row["clip"], row["seed"]) in exact]
        if not own:
            continue
        pairs = [(row, exact[row["clip"], row["seed"]]) for row in own]
        seconds = fmean(_denoising_s(row, folder) for row, _ in pairs)
        measured[name] = {
            **{
                metric: fmean(found)
                for metric in METRICS
                if (found := [row["metrics"][metric] for row in own if metric in row["metrics"]])
            },
            "psnr_to_exact": fmean(_psnr(row, other, folder) for row, other in pairs),
            "denoising_s": seconds,
            "times_faster": fmean(_denoising_s(other, folder) for _, other in pairs) / seconds,
        }
    return measured


def seed_spread(rows: Sequence[Row], folder: Path) -> dict[str, float] | None:
    """How much results of `exact` differ from seed to seed; None for a single seed.

    Returns:
        ``psnr``: mean difference of PSNR against the truth between two seeds; ``psnr_to_exact``: PSNR of one
        seed's videos against the next one's.
    """
    by_clip: dict[str, list[Row]] = {}
    for row in rows:
        if row["variant"] == EXACT:
            by_clip.setdefault(row["clip"], []).append(row)
    pairs = [pair for found in by_clip.values() for pair in pairwise(found)]
    if not pairs:
        return None
    return {
        "psnr": fmean(abs(one["metrics"]["psnr"] - other["metrics"]["psnr"]) for one, other in pairs),
        "psnr_to_exact": fmean(_psnr(one, other, folder) for one, other in pairs),
    }


def frontier(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the variants that no other one beats in both time and PSNR against the truth, slowest first."""
    best = [
        name
        for name, own in measured.items()
        if not any(
            other["times_faster"] >= own["times_faster"]
            and other["psnr"] >= own["psnr"]
            and (other["times_faster"], other["psnr"]) != (own["times_faster"], own["psnr"])
            for other in measured.values()
        )
    ]
    return sorted(best, key=lambda name: measured[name]["times_faster"])


def _frames(row: Row, folder: Path) -> np.ndarray:
    return np.stack(list(read_frames(folder / row["video"])))


def _psnr(one: Row, other: Row, folder: Path) -> float:
    return min(psnr(_frames(one, folder), _frames(other, folder)), EQUAL_PSNR)


def _denoising_s(row: Row, folder: Path) -> float:
    run = json.loads((folder / row["video"]).with_suffix(".json").read_text(encoding="utf-8"))
    return float(sum(stage["seconds"] for stage in run["stages"] if stage["name"] == "denoising"))


_WIDTH, _HEIGHT, _LEFT, _TOP = 720, 400, 70, 30


def plot(measured: Mapping[str, Mapping[str, float]], spread: Mapping[str, float] | None) -> str:
    """Draw PSNR against the truth over the speed of each variant, the frontier as a line; returns SVG.

    The band around `exact` is as high as the difference from seed to seed.
    """
    xs = [own["times_faster"] for own in measured.values()]
    ys = [own["psnr"] for own in measured.values()]
    margin = max(0.5, 0.2 * (max(ys) - min(ys)))
    low, high = min(ys) - margin, max(ys) + margin
    left, right = min(xs) * 0.9, max(xs) * 1.15

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left) * (_WIDTH - _LEFT - 30)
        return round(_LEFT + across, 1), round(_TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - 50), 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-label="PSNR against the truth over speed" font-family="sans-serif" font-size="12">',
        "<style>text { fill: #222222; } .page { fill: #ffffff; } .axis { fill: #555555; } "
        ".seeds { fill: #e8eef7; } .frontier { stroke: #2a6fbb; fill: none; } circle { fill: #2a6fbb; } "
        "@media (prefers-color-scheme: dark) { text { fill: #e6e8ee; } .page { fill: #1e2129; } "
        ".axis { fill: #a9afbc; } .seeds { fill: #2b3446; } .frontier { stroke: #7fb2ee; } "
        "circle { fill: #7fb2ee; } }</style>",
        f'<rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
    ]
    if spread is not None:
        top, bottom = (
            place(left, min(high, max(low, measured[EXACT]["psnr"] + side * spread["psnr"])))[1]
            for side in (1, -1)
        )
        lines.append(
            f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH - _LEFT - 30}" height="{round(bottom - top, 1)}" '
            'class="seeds"/>'
        )
    path = " ".join(
        f"{x},{y}"
        for x, y in (
            place(measured[name]["times_faster"], measured[name]["psnr"]) for name in frontier(measured)
        )
    )
    lines.append(f'<polyline class="frontier" points="{path}" stroke-width="1.5"/>')
    dots = [place(own["times_faster"], own["psnr"]) for own in measured.values()]
    taken = [(x - 5, x + 5, y + 5) for x, y in dots]  # left and right end and baseline of dots and labels
    for name, own in sorted(measured.items(), key=lambda item: item[1]["times_faster"]):
        x, y = place(own["times_faster"], own["psnr"])
        end = x + 6 + 7 * len(name)
        free = (
            at
            for at in (y + sign * step for step in range(6, 400, 13) for sign in (-1, 1))
            if all(end < first or x > last or abs(at - other) >= 13 for first, last, other in taken)
        )
        at = round(next(free), 1)
        taken.append((x, end, at))
        lines.append(f'<circle cx="{x}" cy="{y}" r="4"/>')
        lines.append(f'<path d="M{x},{y} L{x + 6},{round(at - 4, 1)}" stroke="#8aa4c0" stroke-width="0.7"/>')
        lines.append(f'<text x="{x + 7}" y="{at}">{escape(name)}</text>')
    for value in np.linspace(low, high, 5):
        lines.append(f'<text class="axis" x="8" y="{place(left, float(value))[1]}">{value:.1f} dB</text>')
    for value in np.linspace(left, right, 5):
        lines.append(
            f'<text class="axis" x="{place(float(value), low)[0]}" y="{_HEIGHT - 30}">{value:.1f}x</text>'
        )
    lines.append(f'<text x="{_LEFT}" y="{_HEIGHT - 10}">times faster than exact (denoising)</text>')
    lines.append('<text x="8" y="18">PSNR against the truth</text></svg>')
    return "\n".join(lines) + "\n"


def run(config: CompareConfig) -> tuple[dict[str, Any], str]:
    """Make the comparison, or what is missing of it; returns the result and its picture."""
    folder = local_path(config.output_dir)
    outcome = compare(config, say=print)
    rows = [json.loads(line) for line in outcome.results.read_text(encoding="utf-8").splitlines()]
    measured, spread = measure(rows, folder), seed_spread(rows, folder)
    clips = {"num_clips": len({row["clip"] for row in rows}), "num_frames": rows[0]["num_frames"]}
    result = {
        "model": config.variants[0].model,
        "job": {**clips, "seeds": list(config.seeds)},
        "variants": measured,
        "settings": {variant.name: variant.settings for variant in config.variants},
        "num_inference_steps": {row["variant"]: row["settings"]["num_inference_steps"] for row in rows},
        "seed_spread": spread,
        "frontier": frontier(measured),
        "times_faster_than_released": over_released(config.variants[0].model, rows[0]["num_frames"]),
        "failures": list(outcome.failures),
        "versions": versions(),
    }
    return result, plot(measured, spread)


def over_released(model: str, num_frames: int, *, rounds: int = 3) -> dict[str, float]:
    """How many times faster than the released way are the presets? Medians of denoising, in alternation.

    Args:
        model: a MimicMotion; its own steps, guidance and windows are used.
        num_frames: of the video, without the reference.
    """
    pipe = load_pipeline(model, dtype="float32", device="cpu")
    plan = pipe.plan(num_frames=num_frames + 1)
    scales = plan.guidance_scales
    job = Job(
        num_frames=num_frames + 1,
        tile_size=plan.tile_size,
        tile_overlap=plan.tile_overlap,
        num_steps=plan.num_inference_steps,
        min_guidance=float(scales.min()),
        max_guidance=float(scales.max()),
    )
    parts = Parts(pipe.unet, pipe.pose_net, pipe.vae, pipe.scheduler)
    given = random_inputs(parts, job, plan.height, plan.width)
    ways = {"released": (BASELINE, job.num_steps)}
    for name, settings in PRESETS.items():
        way, num_steps = way_of(dict(settings), job.num_steps)
        ways[name] = (replace(way, batches_guidance=True), num_steps)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, num_steps) in ways.items():
            start = time.perf_counter()
            sample(parts, with_steps(job, num_steps), given, way)
            seconds[name].append(time.perf_counter() - start)
    released = median(seconds["released"])
    return {name: released / median(own) for name, own in seconds.items() if name != "released"}


def make_start(folder: Path) -> Path:
    """Write the bundled miniature with settings of 96x96 pixels, 25 steps and guidance, to be trained on."""
    pipe = load_pipeline("bundled:mini", dtype="float32", device="cpu")
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **RELEASED_NOISE)
    pipe.generation_defaults = {**pipe.generation_defaults, **MANY_STEPS}
    with whole_folder(folder) as beside:
        pipe.save_pretrained(beside)
    return folder


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, print a line for each variant, and write table and picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.presets", description=__doc__)
    parser.add_argument("--make-start", type=Path, metavar="FOLDER", help="write the model to train, no more")
    parser.add_argument("--config", default=str(CONFIG))
    parser.add_argument("--model", help="folder, hub id or bundled:…; by default as in the YAML")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write into benchmarks/results and docs/images, for docs/speed.md",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the comparison")
    options = parser.parse_intermixed_args(argv)
    if options.make_start is not None:
        print(f"written to {make_start(options.make_start)}")
        return
    config = load_compare_config(options.config, options.overrides)
    if options.model is not None:
        config = with_model(config, options.model)
    result, picture = run(config)
    for name, own in result["variants"].items():
        print(name, *(f"{metric} {value:.3g}" for metric, value in own.items()), sep="\t")
    folder = local_path(config.output_dir)
    table, drawn = (RESULT, PICTURE) if options.publish else (folder / "presets.json", folder / "presets.svg")
    write_json(table, result)
    drawn.write_text(picture, encoding="utf-8", newline="\n")
    print(f"written to {table} and {drawn}")


if __name__ == "__main__":
    main()
