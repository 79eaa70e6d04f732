"""How much computing went into each bundled miniature's denoiser? Operations of a training step, times steps.

    python -m benchmarks.mini_compute

One step of each recipe is made with FLOPs counted: frozen encoders, networks, gradients; rendering and the
optimiser are left out. What had gone into the smaller miniatures, out of which these have grown, is added.
Attention is computed by matrix products while counting, since torch counts none of its fused kernels on a
CPU. How many steps the shipped weights had stands in `SHIPPED`; docs/mini.md and docs/variants.md say how
they came about.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mimic.config.loading import build, read_yaml
from mimic.data.batch import collate
from mimic.data.dataset import build_dataset
from mimic.files import write_json
from mimic.training.order import generator_of
from mimic.training.settings import TrainSettings
from mimic.training.setup import fit_data, make_task

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "train"
RESULT = Path(__file__).parent / "results" / "mini_compute.json"
SMALLER = RESULT.with_name("mini_compute_96.json")
"""Of the miniatures for 96x96 pixels, whose trainings are in the history up to commit 3553a47."""


@dataclass(frozen=True)
class Recipe:
    """Steps that shipped weights had by one training YAML."""

    config: str
    steps: int
    changed: tuple[str, ...] = ()
    """Settings that were others, as ``key=value``; those that change neither computing nor pictures are left
    out."""

    def settings(self) -> TrainSettings:
        path = CONFIGS / f"{self.config}.yaml"
        return build(TrainSettings, read_yaml(path, self.changed), path)


_WHOLE_FRAMES = ("batch_size=2", "objective.decoded_weight=0")
"""Before there was a loss on decoded crops."""
SHIPPED: dict[str, list[Recipe]] = {
    "MimicMotion": [
        Recipe("mini", 6700, _WHOLE_FRAMES),
        Recipe("mini", 1029, ("batch_size=1", "data.references=4")),
        Recipe("mini", 9700, ("batch_size=1",)),
    ],
    "Animate Anyone": [
        Recipe("mini_animate_anyone_stage1", 500, _WHOLE_FRAMES),
        Recipe("mini_animate_anyone_stage1", 4900),
        Recipe("mini_animate_anyone_stage2", 150),
    ],
    "MagicAnimate": [Recipe("mini_magic_animate_stage1", 5000), Recipe("mini_magic_animate_stage2", 150)],
}
"""System to what its miniature has been trained with since those for 96x96 pixels."""


@dataclass(frozen=True)
class Cost:
    """What one step, or a whole training, takes."""

    tflop: float
    targets: int
    """Pictures that the loss is about."""
    dancers: int
    """Dancers seen for the first time."""

    def times(self, steps: int) -> Cost:
        return Cost(self.tflop * steps, self.targets * steps, self.dancers * steps)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.tflop + other.tflop, self.targets + other.targets, self.dancers + other.dancers)


def family_step(settings: TrainSettings) -> Cost:
    """A step of the trainer that all families share."""
    model = "bundled:mini" if settings.family == "mimicmotion" else f"bundled:mini_{settings.family}"
    task = make_task(settings.model_copy(update={"model": model}))
    references = settings.data.references
    dataset = build_dataset(fit_data(settings.data, task), split="train", seed=settings.seed)
    samples = [dataset[0, number] for number in range(settings.batch_size)]
    drawn = [
        task.draw(sample, generator_of(0, 0, references * place + window))
        for place, sample in enumerate(samples)
        for window in range(references)
    ]
    draws = {name: torch.stack([own[name] for own in drawn]) for name in drawn[0]}
    with _counting() as counter:
        task.model(task.encode(collate(samples), references=references), draws).total.backward()
    targets = references * sum(sample.num_frames for sample in samples)
    return Cost(counter.get_total_flops() / 1e12, targets, settings.batch_size)


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    """Counts FLOPs, those of attention too."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def cost_of(recipe: Recipe) -> Cost:
    """A whole training."""
    return family_step(recipe.settings()).times(recipe.steps)


def grown_from() -> dict[str, Cost]:
    """System to the cost of the 96x96 miniature that the shipped one has grown out of."""
    kept = json.loads(SMALLER.read_text(encoding="utf-8"))
    return {system: Cost(**cost) for system, cost in kept.items()}


def main() -> None:
    """Print and keep the figures."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    costs, smaller = {}, grown_from()
    for system, recipes in SHIPPED.items():
        costs[system] = reduce(add, map(cost_of, recipes), smaller[system])
        told = costs[system]
        print(
            f"{system:15s} {told.tflop:7.0f} TFLOP  {told.targets / 1e3:6.1f} thousand pictures of "
            f"{told.dancers / 1e3:5.1f} thousand dancers",
            flush=True,
        )
    write_json(RESULT, {system: asdict(cost) for system, cost in costs.items()})


if __name__ == "__main__":
    main()
