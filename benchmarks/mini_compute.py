"""How much computing went into each bundled miniature's denoiser? Operations of a training step, times steps.

    python -m benchmarks.mini_compute

One step of each recipe is made with FLOPs counted: frozen encoders, networks, gradients; rendering and the
optimiser are left out. Attention is computed by matrix products while counting, since torch counts none of
its fused kernels on a CPU. How many steps the shipped weights had stands in `SHIPPED`; docs/mini.md and
docs/variants.md say how they came about. The steps with which MimicMotion's begins, of its image encoder
alone, count like the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mimic.config.loading import build, read_yaml
from mimic.data.batch import collate
from mimic.data.dataset import build_dataset
from mimic.files import ASSETS, write_json
from mimic.miniature.dancers import RollingBuffer, as_network_input, make_dancer
from mimic.miniature.loss import window_loss
from mimic.miniature.network import Mini, MiniSettings
from mimic.models.mini import MiniTemporalVAE
from mimic.training.order import generator_of
from mimic.training.settings import TrainSettings
from mimic.training.setup import fit_data, make_task

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "train"
RESULT = Path(__file__).parent / "results" / "mini_compute.json"


@dataclass(frozen=True)
class Recipe:
    """Steps that shipped weights had by one training YAML."""

    config: str
    steps: int
    processes: int = 1


SHIPPED = {
    "MimicMotion": [Recipe("mini", 1720 + 4300, processes=2)],
    "Animate Anyone": [
        Recipe("mini_animate_anyone_stage1", 2400 + 5400),
        Recipe("mini_animate_anyone_stage2", 150 + 150),
    ],
    "MagicAnimate": [
        Recipe("mini_magic_animate_stage1", 2400 + 4300),
        Recipe("mini_magic_animate_stage2", 150 + 150),
    ],
}
"""System to what its miniature was trained with."""


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
    task = make_task(settings.model_copy(update={"model": f"bundled:mini_{settings.family}"}))
    dataset = build_dataset(fit_data(settings.data, task), split="train", seed=settings.seed)
    samples = [dataset[0, number] for number in range(settings.batch_size)]
    drawn = [task.draw(sample, generator_of(0, 0, place)) for place, sample in enumerate(samples)]
    draws = {name: torch.stack([own[name] for own in drawn]) for name in drawn[0]}
    with _counting() as counter:
        task.model(task.encode(collate(samples)), draws).total.backward()
    return Cost(
        counter.get_total_flops() / 1e12, sum(sample.num_frames for sample in samples), settings.batch_size
    )


def mini_step(settings: MiniSettings) -> Cost:
    """A step of MimicMotion's miniature in one process."""
    vae = MiniTemporalVAE.from_pretrained(ASSETS / "mini" / "vae").requires_grad_(False)
    model = Mini.for_vae(vae, settings)
    buffer = RollingBuffer(8, np.random.default_rng(0), scaling_factor=float(vae.config["scaling_factor"]))
    num_new = settings.new_dancers_per_step
    with _counting() as counter:
        for number in range(num_new):
            dancer = make_dancer(number, settings.dancers)
            latents = vae.encode(as_network_input(dancer.pictures)).latent_dist.mode()
            buffer.add(dancer, latents)
        window = buffer.draw(settings.batch_size, settings.frames, timing=settings.dancers.timing)
        loss, _ = window_loss(model, window, settings, torch.Generator().manual_seed(0), palette_only=False)
        loss.backward()
    return Cost(counter.get_total_flops() / 1e12, settings.batch_size * (settings.frames - 1), num_new)


@contextmanager
def _counting() -> Iterator[FlopCounterMode]:
    """Counts FLOPs, those of attention too."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


def cost_of(recipe: Recipe) -> Cost:
    """A whole training."""
    content = read_yaml(CONFIGS / f"{recipe.config}.yaml")
    if content.pop("trainer", None) == "mini":
        step = mini_step(build(MiniSettings, content, recipe.config))
    else:
        step = family_step(build(TrainSettings, content, recipe.config))
    return step.times(recipe.steps * recipe.processes)


def main() -> None:
    """Print and keep the figures."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    costs = {}
    for system, recipes in SHIPPED.items():
        costs[system] = reduce(add, map(cost_of, recipes))
        told = costs[system]
        print(
            f"{system:15s} {told.tflop:7.0f} TFLOP  {told.targets / 1e3:6.1f} thousand pictures of "
            f"{told.dancers / 1e3:5.1f} thousand dancers",
            flush=True,
        )
    write_json(RESULT, {system: asdict(cost) for system, cost in costs.items()})


if __name__ == "__main__":
    main()
