"""Write docs/speed.md from the results of the measurements of speed.

python -m benchmarks.speed.page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mimic.metrics.image import EQUAL_PSNR
from mimic.sampling.presets import PRESETS

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
PAGE = HERE.parents[1] / "docs" / "speed.md"


def main() -> None:
    """Write the page."""
    results = (_read(name) for name in ("speed_cpu", "speed_operators", "speed_gpu"))
    PAGE.write_text(page(*results), encoding="utf-8", newline="\n")
    print(f"written to {PAGE}")


def page(cpu: Any, operators: Any, gpu: Any) -> str:
    """Return the page.

    Args:
        cpu: result of `python -m benchmarks.speed`.
        operators: result of `python -m benchmarks.speed.operators`.
        gpu: result of `python -m benchmarks.gpu`; None if no GPU has run.
    """
    content = {
        "presets": _presets(),
        "presets_measured": presets_measured(_read("presets")),
        "job": _job(cpu),
        "cpu": _cpu(cpu),
        "gpu": _gpu(gpu),
        "devices": "; ".join(
            f"{name}: {rate / 1e12:.0f} TFLOP/s, {bandwidth / 1e12:.2f} TB/s"
            for name, (rate, bandwidth) in operators["devices"].items()
        ),
        "operators": _operators(operators),
        "shares": _shares(operators),
        **_broadcast(operators),
    }
    text = (HERE / "page.md").read_text(encoding="utf-8")
    for name, value in content.items():
        text = text.replace(f"@{name}@", value)
    return text


def _read(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _presets() -> str:
    lines = []
    for name, settings in PRESETS.items():
        told = (f"`{key}: {list(v) if isinstance(v, tuple) else v}`" for key, v in settings.items())
        lines.append(f"| `{name}` | {', '.join(told) or 'all steps in full'} |")
    return "\n".join(lines)


def presets_measured(result: Any) -> str:
    """Return a table of what presets and their parts cost; what is missing if `result` is None.

    Args:
        result: of `python -m benchmarks.presets`.
    """
    if result is None:
        return (
            "**Their effect on quality has not been measured on released weights, nor on a miniature\n"
            "trained for many steps.** `python -m benchmarks.presets --model FOLDER --publish` measures\n"
            "presets and each of their parts (`configs/compare/presets.yaml`) and draws the frontier; this\n"
            "page then shows both."
        )
    columns = {
        "psnr": "PSNR, dB",
        "psnr_to_exact": "PSNR to exact, dB",
        "keypoint_error": "keypoint error",
        "seam_jump": "seam jump",
        "times_faster": "times faster",
    }
    columns = {
        key: title for key, title in columns.items() if any(key in own for own in result["variants"].values())
    }
    lines = [f"| | steps | {' | '.join(columns.values())} |", "| --- | ---: |" + " ---: |" * len(columns)]
    for name, own in result["variants"].items():
        numbers = [own.get(key) for key in columns]
        cells = ["–" if number in (None, EQUAL_PSNR) else f"{number:.3g}" for number in numbers]
        lines.append(f"| `{name}` | {result['num_inference_steps'][name]} | {' | '.join(cells)} |")
    job, spread = result["job"], result["seed_spread"]
    told = (
        f"Measured by `python -m benchmarks.presets --model {result['model']} --publish "
        f"clips.num_clips={job['num_clips']} clips.num_frames={job['num_frames']}`, "
        f"{len(job['seeds'])} seeds, float32, on a CPU; "
        "times are of denoising alone."
    )
    if spread is not None:
        told += (
            f" From seed to seed, PSNR of `exact` differs by {spread['psnr']:.2g} dB, and its videos have a "
            f"PSNR of {spread['psnr_to_exact']:.3g} dB to each other."
        )
    faster = result.get("times_faster_than_released", {})
    if faster:
        shown = ", ".join(f"`{name}` {factor:.1f}" for name, factor in faster.items())
        told += f" Times faster than the released way, in alternation in one run: {shown}."
    best = ", ".join(f"`{name}`" for name in result["frontier"])
    picture = "![PSNR over speed, with the frontier](images/presets.svg)"
    return "\n".join([*lines, "", f"{told} On the frontier: {best}.", "", picture])


def _job(result: Any) -> str:
    job, machine = result["job"], result["machine"]
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    trial = " (a trial with `--small`, shorter than the measurement itself)" if job["is_small"] else ""
    return (
        f"{job['num_frames']} frames in windows of {job['tile_size']} with overlap {job['tile_overlap']}, "
        f"{job['num_steps']} steps, guidance 2, float32, {threads}, torch "
        f"{machine['torch']}{trial}"
    )


def _cpu(result: Any) -> str:
    columns = ("rounds", "CPU seconds", "times faster (CPU)", "times faster (wall)", "difference of latents")
    lines = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for name, row in result["ways"].items():
        if "not run" in row:
            lines.append(f"| {name} | not run: {row['not run']} | | | | |")
            continue
        faster, difference = row["times faster"], row["relative difference of latents"]
        lines.append(
            f"| {name} | {row['rounds']} | {row['seconds']['cpu']:.1f} | {faster['cpu']:.2f} | "
            f"{faster['wall']:.2f} | {difference:.1e} |"
        )
    if "ours, compiled" not in result["ways"]:
        lines += ["", "The compiled networks were not measured."]
    return "\n".join(lines)


def _gpu(result: Any) -> str:
    if result is None or not str(result.get("device", "")).startswith("cuda"):
        return (HERE / "no_gpu.md").read_text(encoding="utf-8").strip()
    device = result["parts"].get("a", {}).get("device", {})
    lines = ["## On a GPU", "", f"{device.get('name', result['device'])}; `python -m benchmarks.gpu`.", ""]
    for letter, entries in result["parts"].items():
        lines += [f"### ({letter})", "", "| | |", "| --- | --- |"]
        for name, value in entries.items():
            is_table = isinstance(value, dict)
            told = "; ".join(f"{key}: {item}" for key, item in value.items()) if is_table else value
            lines.append(f"| {name} | {told} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _operators(result: Any) -> str:
    devices = list(result["devices"])
    lines = [
        "| | TFLOP | GB | " + " | ".join(f"bound on {device}, ms" for device in devices) + " |",
        "| --- | ---: | ---: |" + " ---: |" * len(devices),
    ]
    for name, kinds in result["passes"].items():
        total = {key: sum(cost[key] for cost in kinds.values()) for key in ("flop", "num_bytes")}
        bounds = {device: sum(cost["bound_s"][device] for cost in kinds.values()) for device in devices}
        lines.append(_row(f"**{name}**", {**total, "bound_s": bounds}))
        lines += [_row(kind, cost) for kind, cost in kinds.items()]
    return "\n".join(lines)


def _row(name: str, cost: Any) -> str:
    bounds = " | ".join(f"{1e3 * bound:.0f}" for bound in cost["bound_s"].values())
    return f"| {name} | {cost['flop'] / 1e12:.1f} | {cost['num_bytes'] / 1e9:.0f} | {bounds} |"


def _broadcast(result: Any) -> dict[str, str]:
    """What it would take to keep the outputs of attention, and the share of operations that it would save."""
    kinds = result["passes"]["72 frames, ours"]
    # Of self-attention, queries, keys, values and outputs have equal sizes; cross-attention is not computed.
    share = kinds["attention"]["flop"] / sum(cost["flop"] for cost in kinds.values())
    gb = kinds["attention"]["num_bytes"] / 4 / 1e9
    return {"pab_gb": f"{gb:.1f}", "pab_share": f"{100 * share:.0f}"}


def _shares(result: Any) -> str:
    kinds = result["passes"]["72 frames, ours"].values()
    shares = []
    for device, (rate, _) in result["devices"].items():
        bound = sum(cost["bound_s"][device] for cost in kinds)
        shares.append(f"{100 * sum(cost['flop'] for cost in kinds) / bound / rate:.0f} % on {device}")
    return ", ".join(shares)


if __name__ == "__main__":
    main()
