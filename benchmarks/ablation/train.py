"""How are the arms trained? By the miniature's own trainer, on the same dancers, nothing else differing."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.ablation.dancers import load
from benchmarks.ablation.settings import ARMS, AblationSettings
from mimic.training.mini_unet import MiniSettings, train_mini
from mimic.training.state import checkpoints


def arms_of(settings: AblationSettings) -> list[tuple[str, int]]:
    """Every arm with every seed, a seed after the other."""
    return [(arm, seed) for seed in settings.seeds for arm in ARMS]


def train_common(settings: AblationSettings, *, progress: bool = True) -> Path:
    """Train what all arms start from, or go on with it; under torchrun, by all its processes."""
    return _train(settings, settings.common, "sure", progress=progress)


def train_arm(settings: AblationSettings, arm: str, seed: int, *, progress: bool = True) -> Path:
    """Train one arm, or go on with it; returns its last checkpoint.

    Arms of a seed start from the same weights and meet the same windows with the same noise, step by step.
    """
    return _train(settings, settings.training(arm, seed), ARMS[arm][0], progress=progress)


def _train(settings: AblationSettings, training: MiniSettings, mode: str, *, progress: bool) -> Path:
    found = checkpoints(training.output_dir)
    if found and found[-1].name == f"checkpoint-{training.max_steps}":
        return found[-1]
    torch.set_num_threads(1)
    return train_mini(training, progress=progress, buffer=load(settings, mode))
