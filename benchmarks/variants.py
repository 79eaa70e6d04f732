"""The figures of docs/variants.md and docs/mini.md: three miniatures on dancers that none has seen.

    python benchmarks/mini_quality.py --model bundled:mini
    python benchmarks/mini_quality.py --model bundled:mini_animate_anyone
    python benchmarks/mini_quality.py --model bundled:mini_magic_animate
    python -m benchmarks.mini_compute
    make compare
    python benchmarks/variants.py

The last command puts what the others measured into the pages, between their markers, and keeps the
comparison's figures in benchmarks/results/variants.json; without a new comparison it takes the kept ones.
What the miniatures for 96x96 pixels gave is kept in the folders that end in `_96`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel

from mimic.compare.statistics import metric_lines
from mimic.files import write_json
from mimic.metrics.meanings import title_of
from mimic.models.motion_unet import MotionUNet
from mimic.models.pose_guider import PoseGuider
from mimic.models.pose_net import PoseNet
from mimic.models.reference_unet import ReferenceUNet
from mimic.models.svd_unet import PoseConditionedSVDUNet

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "variants.md"
MINI_PAGE = ROOT / "docs" / "mini.md"
KEPT = ROOT / "benchmarks" / "results" / "variants.json"
QUALITY = {
    "MimicMotion": "mini",
    "Animate Anyone": "mini_animate_anyone",
    "MagicAnimate": "mini_magic_animate",
}
"""System to the folder of `benchmarks/results` with its figures."""
_COLUMNS = {
    "psnr": "PSNR, dB", "figure_psnr": "figure", "hands_psnr": "hands", "silhouette_iou": "silhouette IoU",
}  # fmt: skip


def size_table() -> str:
    """Millions of parameters of the networks that each system trains, at full size (nothing is allocated)."""
    with torch.device("meta"):
        networks = {
            "MimicMotion": {"UNet": PoseConditionedSVDUNet(), "PoseNet": PoseNet()},
            "Animate Anyone": {
                "UNet": MotionUNet(), "ReferenceNet": ReferenceUNet(), "pose guider": PoseGuider()
            },
            "MagicAnimate": {
                "UNet": MotionUNet(use_motion_mid_block=False, residual_norms="clip"),
                "appearance encoder": ReferenceUNet(ends_with_norm=True),
                "ControlNet": ControlNetModel(cross_attention_dim=768),
            },
        }  # fmt: skip
    lines = ["| | millions of parameters | in all |", "| --- | --- | --- |"]
    for system, parts in networks.items():
        counts = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in parts.items()}
        told = ", ".join(f"{name} {count:.4g}" for name, count in counts.items())
        lines.append(f"| {system} | {told} | {sum(counts.values()):.0f} |")
    return "\n".join(lines)


def quality_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Each miniature against its own baselines.

    Args:
        results: system to the content of its `figures.json`.
    """
    lines = [
        f"| | {' | '.join(_COLUMNS.values())} | flicker, grey levels |",
        f"|{' --- |' * (len(_COLUMNS) + 2)}",
    ]
    for name, result in results.items():
        flicker = f"{result['flicker_on_a_still_pose_grey_levels']:.2f}"
        lines.append(f"| **{name}** | {_cells(result['figures']['model'])} | {flicker} |")
        lines.append(f"| its frames by wrong poses | {_cells(result['figures']['wrong poses'])} | |")
    first = next(iter(results.values()))
    lines.append(f"| reference copied | {_cells(first['figures']['copied reference'])} | |")
    lines.append(f"| VAE alone (all three have it) | {_cells(first['figures']['vae'])} | |")
    return "\n".join(lines)


def growth_table(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> str:
    """The miniatures for 96x96 pixels beside those for 192x192, measured at 96x96, and their baselines.

    Args:
        before: system to the content of `figures.json` of its miniature for 96x96 pixels.
        after: the same, of that for 192x192.
    """
    lines = [
        "| | PSNR at 96x96, dB | figure at 96x96 | figure at 192x192 | hands at 192x192 | silhouette IoU "
        "| flicker, grey levels |",
        f"|{' --- |' * 7}",
    ]
    for system, old in before.items():
        new = after[system]
        for title, result in ((f"{system}, 96x96", old), (f"**{system}, 192x192**", new)):
            flicker = f"{result['flicker_on_a_still_pose_grey_levels']:.2f}"
            lines.append(f"| {title} | {_grown(result['figures']['model'])} | {flicker} |")
    baselines = next(iter(after.values()))["figures"]
    for title, name in (
        ("reference copied to every frame", "copied reference"),
        ("MimicMotion, another dancer's poses", "wrong poses"),
        ("VAE alone (the ceiling)", "vae"),
    ):
        lines.append(f"| {title} | {_grown(baselines[name])} | |")
    return "\n".join(lines)


def _grown(figures: Mapping[str, float]) -> str:
    """Cells of a row of `growth_table`; a model for 96x96 pixels has no figures at twice that."""
    if "figure_psnr_96" in figures:
        names = ("psnr_96", "figure_psnr_96", "figure_psnr", "hands_psnr")
        cells = [f"{figures[name]:.2f}" for name in names]
    else:
        cells = [f"{figures['psnr']:.2f}", f"{figures['figure_psnr']:.2f}", "", ""]
    return " | ".join([*cells, f"{figures['silhouette_iou']:.2f}"])


def _cells(figures: Mapping[str, float]) -> str:
    return " | ".join(f"{figures[name]:.2f}" for name in _COLUMNS)


def comparison_table(kept: Mapping[str, Any]) -> str:
    """The comparison's metrics, with intervals, the sure winner in bold."""
    variants = kept["variants"]
    lines = [f"| | {' | '.join(variants)} |", f"|{' --- |' * (len(variants) + 1)}"]
    for metric in kept["metrics"]:
        cells = [_interval(metric, variant) for variant in variants]
        better = {"low": ", less is better", "high": ", more is better"}.get(metric["better"], "")
        lines.append(f"| {title_of(metric['metric'])}{better} | {' | '.join(cells)} |")
    for title, name in (("s a frame, median", "seconds_a_frame"), ("peak memory, MB", "peak_memory_mb")):
        lines.append(f"| {title} | {' | '.join(f'{kept[name][variant]:.3g}' for variant in variants)} |")
    return "\n".join(lines)


def _interval(metric: Mapping[str, Any], variant: str) -> str:
    if variant not in metric["intervals"]:
        return "not measured"
    mean, low, high = metric["intervals"][variant]
    text = f"{mean:.4g}" if low is None else f"{mean:.4g} ({low:.4g} … {high:.4g})"
    return f"**{text}**" if metric["winner"] == variant else text


def compute_table(costs: Mapping[str, Mapping[str, float]]) -> str:
    """What each miniature's denoiser was trained with.

    Args:
        costs: system to the fields of `benchmarks.mini_compute.Cost`.
    """
    lines = [
        "| | TFLOP | pictures in the loss, thousands | dancers, thousands |",
        f"|{' --- |' * 4}",
    ]
    for system, cost in costs.items():
        counts = " | ".join(f"{cost[name] / 1e3:.0f}" for name in ("targets", "dancers"))
        lines.append(f"| {system} | {cost['tflop']:.0f} | {counts} |")
    return "\n".join(lines)


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is kept of a comparison's `results.jsonl`."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    own = {variant: [row for row in rows if row["variant"] == variant] for variant in variants}
    return {
        "variants": variants,
        "num_clips": len({row["clip"] for row in rows}),
        "num_seeds": len({row["seed"] for row in rows}),
        "weights": {variant: own[variant][0]["model"]["weights_sha256"] for variant in variants},
        "metrics": [
            {
                "metric": line.metric,
                "better": line.better,
                "winner": line.winner,
                "intervals": {
                    variant: [interval.mean, interval.low, interval.high]
                    for variant, interval in line.intervals.items()
                },
            }
            for line in metric_lines(rows, variants)
        ],
        "seconds_a_frame": {
            variant: statistics.median(row["seconds"] / row["num_frames"] for row in own[variant])
            for variant in variants
        },
        "peak_memory_mb": {
            variant: max(row["peak_memory_mb"] or 0 for row in own[variant]) for variant in variants
        },
    }


def quality_of_all(suffix: str = "") -> dict[str, Any]:
    """System to the content of its `figures.json`; with ``_96``, of its miniature for 96x96 pixels."""
    files = {
        name: ROOT / "benchmarks" / "results" / f"{place}{suffix}" / "figures.json"
        for name, place in QUALITY.items()
    }
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}


def between_markers(text: str, name: str, content: str) -> str:
    """The text with `content` between `<!-- name -->` and `<!-- end -->`.

    Raises:
        ValueError: the marker is not there.
    """
    start = f"<!-- {name} -->\n"
    before, found, rest = text.partition(start)
    _, ended, after = rest.partition("<!-- end -->")
    if not found or not ended:
        raise ValueError(f"there is no {start.strip()} … <!-- end --> in the page")
    return f"{before}{start}{content}\n<!-- end -->{after}"


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "outputs/compare/synthetic/results.jsonl")
    options = parser.parse_args()
    if options.results.is_file():
        rows = [json.loads(line) for line in options.results.read_text(encoding="utf-8").splitlines()]
        write_json(KEPT, summarise(rows))
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    folder = ROOT / "benchmarks" / "results"
    quality = quality_of_all()
    page = PAGE.read_text(encoding="utf-8")
    page = between_markers(page, "sizes", size_table())
    page = between_markers(page, "quality", quality_table(quality))
    page = between_markers(page, "comparison", comparison_table(kept))
    costs = json.loads((folder / "mini_compute.json").read_text(encoding="utf-8"))
    page = between_markers(page, "compute", compute_table(costs))
    PAGE.write_text(page, encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")
    grown = between_markers(
        MINI_PAGE.read_text(encoding="utf-8"), "growth", growth_table(quality_of_all("_96"), quality)
    )
    MINI_PAGE.write_text(grown, encoding="utf-8")
    print(f"written: {MINI_PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
