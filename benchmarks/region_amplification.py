"""Does it pay to amplify the loss of faces beside that of hands? A small training for each choice.

    python -m benchmarks.region_amplification [--steps 60] [--seeds 2]

The bundled miniature, which was trained on whole bodies, is trained further on rendered dancers of which many
are half bodies, busts and close-ups (`world: portraits`), once for each choice of regions and factors, all on
the same clips with the same noise. What is compared are PSNR of other dancers in validation: of whole frames,
hands and faces. A few minutes of one core for each training.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mimic.files import write_json
from mimic.training.loop import train
from mimic.training.settings import TrainSettings

RESULT = Path("benchmarks/results/region_amplification.json")
ARMS: dict[str, dict[str, float]] = {
    "none": {},
    "hands 10": {"hands": 10.0},
    "hands 10, face 5": {"hands": 10.0, "face": 5.0},
    "hands 10, face 10": {"hands": 10.0, "face": 10.0},
}
FIGURES = ("psnr", "hand_psnr", "face_psnr")


def settings_of(folder: Path, amplification: dict[str, float], *, steps: int, seed: int) -> TrainSettings:
    """Return the settings of one training; only `amplification` and `seed` differ between trainings."""
    return TrainSettings.model_validate(
        {
            "family": "mimicmotion",
            "model": "bundled:mini",
            "output_dir": folder,
            "seed": seed,
            "max_steps": steps,
            "batch_size": 2,
            "cpu_threads": 1,
            "tensorboard": False,
            "trainable": ["unet", "pose_net"],
            "data": {
                "source": "synthetic",
                "world": "portraits",
                "num_clips": 48,
                "num_val_clips": 8,
                "height": 96,
                "width": 96,
                "num_frames": 4,
                "stride": 1,
                "canvas_short_side": 480,
                "regions": ["hands", "face"],
            },
            "objective": {
                "P_mean": 2.2,
                "P_std": 1.0,
                "sigma_range": [0.3, 60.0],
                "amplification": amplification,
                "drop_image_embedding": 0.0,
                "drop_reference": 0.0,
                "drop_pose": 0.0,
                "reference_frame_weight": 0.25,
            },
            "optimiser": {"learning_rate": 3.0e-4},
            "schedule": {"name": "cosine", "warmup_steps": 5},
            "validation": {"every": steps, "num_clips": 8, "at_start": True},
            "checkpoints": {"every": steps, "keep": 1},
        }
    )


def run(folder: Path, amplification: dict[str, float], *, steps: int, seed: int) -> dict[str, Any]:
    """Train once; return the figures before and after."""
    began = time.process_time()
    settings = settings_of(folder, amplification, steps=steps, seed=seed)
    train(settings, is_quiet=True, say=lambda line: None)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    before, after = (
        {name: round(line["validation"][name], 3) for name in FIGURES} for line in (lines[0], lines[-1])
    )
    return {"before": before, "after": after, "cpu_seconds": round(time.process_time() - began)}


def main(argv: list[str] | None = None) -> None:
    """Train all choices with all seeds, print a table and write `benchmarks/results`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.region_amplification", description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args(argv)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ARMS}
    for seed in range(options.seeds):
        for name, amplification in ARMS.items():
            with tempfile.TemporaryDirectory() as folder:
                found = run(Path(folder), amplification, steps=options.steps, seed=seed)
            rows[name].append({"seed": seed, **found})
            print(name, rows[name][-1], file=sys.stderr, flush=True)
            content = {"steps": options.steps, "unit": "dB, other dancers", "trainings": rows}
            write_json(RESULT, content)
    print(table(rows))


def table(rows: dict[str, list[dict[str, Any]]]) -> str:
    """Return the mean gain of each choice over the model before training, Markdown."""
    lines = [f"| amplification | {' | '.join(FIGURES)} |", "| --- |" + " ---: |" * len(FIGURES)]
    for name, found in rows.items():
        gains = [
            sum(each["after"][figure] - each["before"][figure] for each in found) / len(found)
            for figure in FIGURES
        ]
        lines.append(f"| {name} | " + " | ".join(f"{gain:+.2f}" for gain in gains) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
