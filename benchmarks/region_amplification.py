"""Does it pay to amplify the loss of faces beside that of hands? A small training for each choice.

    python -m benchmarks.region_amplification [--steps 40] [--seeds 1]

The bundled miniature, which was trained on whole bodies, is trained further on rendered dancers of which many
are half bodies, busts and close-ups (`world: portraits`), once for each choice of factors, all on the same
clips with the same noise. What is compared are PSNR of other dancers: of whole frames, hands and faces. With
one seed, about five minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mimic.data.batch import Sample, collate
from mimic.data.dataset import build_dataset
from mimic.families.task import TrainingTask
from mimic.files import write_json
from mimic.training.engine import make_optimiser
from mimic.training.order import generator_of
from mimic.training.settings import TrainSettings
from mimic.training.setup import fit_data
from mimic.training.tasks import make_task
from mimic.training.validate import means, measure

RESULT = Path("benchmarks/results/region_amplification.json")
ARMS: dict[str, dict[str, float]] = {
    "hands 10": {"hands": 10.0},
    "hands 10, face 5": {"hands": 10.0, "face": 5.0},
    "hands 10, face 10": {"hands": 10.0, "face": 10.0},
}
FIGURES = ("psnr", "hand_psnr", "face_psnr")
_CLIPS, _VALIDATED, _BATCH = 24, 8, 2


def settings_of(amplification: dict[str, float], *, seed: int) -> TrainSettings:
    """Return the settings of one training; only `amplification` differs between the choices."""
    return TrainSettings.model_validate(
        {
            "family": "mimicmotion",
            "model": "bundled:mini",
            "output_dir": "runs/region_amplification",
            "seed": seed,
            "max_steps": 1,
            "trainable": ["unet", "pose_net"],
            "data": {
                "source": "synthetic",
                "world": "portraits",
                "num_clips": _CLIPS,
                "num_val_clips": _VALIDATED,
                "dancer_seed": seed,
                "height": 192,
                "width": 192,
                "num_frames": 3,
                "stride": 2,
                "canvas_short_side": 480,
                "regions": ["hands", "face"],
            },
            "objective": {
                "P_mean": 3.0,
                "P_std": 0.25,
                "sigma_range": [8.0, 50.0],
                "amplification": amplification,
                "drop_image_embedding": 0.0,
                "drop_reference": 0.0,
                "drop_pose": 0.0,
                "reference_frame_weight": 0.25,
            },
            "optimiser": {"learning_rate": 5.0e-5},
        }
    )


def samples_of(settings: TrainSettings, task: TrainingTask, split: Any) -> list[Sample]:
    """Render all clips of a split."""
    dataset = build_dataset(fit_data(settings.data, task), split=split, seed=settings.seed)
    return [sample for n in range(len(dataset)) if isinstance(sample := dataset[0, n], Sample)]


def figures_of(task: TrainingTask, samples: Sequence[Sample]) -> dict[str, float]:
    """Generate each clip; return the mean figures."""
    measured = [measure(sample, task.generate(sample, seed=n)) for n, sample in enumerate(samples)]
    return {name: round(value, 3) for name, value in means(measured).items() if name in FIGURES}


def train(task: TrainingTask, samples: Sequence[Sample], settings: TrainSettings, *, steps: int) -> None:
    """Make steps on clips whose order and noise depend on nothing but the seed."""
    parameters = {name: p for name, p in task.model.named_parameters() if p.requires_grad}
    optimiser = make_optimiser(parameters, settings)
    task.model.train()
    for step in range(steps):
        chosen = [samples[(step * _BATCH + place) % len(samples)] for place in range(_BATCH)]
        drawn = [
            task.draw(sample, generator_of(settings.seed, step, place)) for place, sample in enumerate(chosen)
        ]
        draws = {name: torch.stack([own[name] for own in drawn]) for name in drawn[0]}
        loss = task.model(task.encode(collate(chosen)), draws).total
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimiser.step()


def main(argv: list[str] | None = None) -> None:
    """Train with all choices and seeds, print a table and write `benchmarks/results`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.region_amplification", description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    began = time.process_time()
    for seed in range(options.seeds):
        task = make_task(settings_of({}, seed=seed))
        clips, others = (samples_of(settings_of({}, seed=seed), task, split) for split in ("train", "val"))
        before = figures_of(task, others)
        print("before", before, f"{time.process_time() - began:.0f} s", file=sys.stderr, flush=True)
        for name, amplification in ARMS.items():
            settings = settings_of(amplification, seed=seed)
            trained = make_task(settings)
            train(trained, clips, settings, steps=options.steps)
            rows.append({"seed": seed, "amplification": name, "before": before})
            rows[-1]["after"] = figures_of(trained, others)
            seconds = round(time.process_time() - began)
            print(rows[-1], f"{seconds} s", file=sys.stderr, flush=True)
            write_json(RESULT, {"steps": options.steps, "unit": "dB", "cpu_seconds": seconds, "rows": rows})
    print(table(rows))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the mean gain of each choice over the model before training, Markdown."""
    lines = [f"| amplification | {' | '.join(FIGURES)} |", "| --- |" + " ---: |" * len(FIGURES)]
    for name in ARMS:
        found = [row for row in rows if row["amplification"] == name]
        gains = [sum(row["after"][f] - row["before"][f] for row in found) / len(found) for f in FIGURES]
        lines.append(f"| {name} | " + " | ".join(f"{gain:+.2f}" for gain in gains) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
