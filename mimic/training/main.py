"""From a YAML to a training: which trainer, with which settings."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.config.loading import Config, ConfigError, build, check_kind, read_yaml
from pose.text import shown

OTHER_TRAINERS = {
    "mini_vae": "mimic.miniature.train_vae:TRAINER",
}
"""`trainer` of a YAML without `family`, to the `Trainer` that runs it."""


@dataclass(frozen=True)
class Trainer:
    """A trainer beside the families' one."""

    Settings: type[Config]
    """The keys of its YAML."""
    run: Callable[..., Path]
    """``run(settings, progress=True)`` trains and gives the folder of the result."""


def train(
    config: Path, overrides: Sequence[str] = (), *, is_dry_run: bool = False, is_quiet: bool = False
) -> Path:
    """Run the trainer that the YAML names; returns the folder of what was trained."""
    settings, run = _trainer(read_yaml(config, overrides), config)
    if is_dry_run and not hasattr(settings, "family"):
        raise ConfigError(f"{config}: --dry-run is of trainings with `family`; this one has `trainer`")
    return run(settings, is_dry_run, is_quiet)


def settings_of(config: Path, overrides: Sequence[str] = ()) -> Any:
    """The checked settings of a training YAML, without running anything."""
    return _trainer(read_yaml(config, overrides), config)[0]


def _trainer(content: dict[str, Any], config: Path) -> tuple[Any, Callable[[Any, bool, bool], Path]]:
    check_kind(content, config, "train")
    if "family" in content:
        return _family_settings(content, config), _train_family
    name = content.pop("trainer", None)
    if name is None:
        raise ConfigError(
            f"{config} has no family; `family: mimicmotion` trains a MimicMotion, and `mimic configs` lists "
            "whole YAMLs"
        )
    if not isinstance(name, str) or name not in OTHER_TRAINERS:
        raise ConfigError(
            f"{config}: trainer is {shown(name)}; use {' or '.join(OTHER_TRAINERS)}, or "
            "`family: mimicmotion` instead"
        )
    trainer = trainer_named(name)
    settings = build(trainer.Settings, content, config)
    return settings, lambda settings, _, is_quiet: trainer.run(settings, progress=not is_quiet)


def trainer_named(name: str) -> Trainer:
    """Return one of `OTHER_TRAINERS`."""
    module, _, attribute = OTHER_TRAINERS[name].partition(":")
    trainer: Trainer = getattr(importlib.import_module(module), attribute)
    return trainer


def _family_settings(content: dict[str, Any], config: Path) -> Any:
    from mimic.families.registry import load_task, trained_families
    from mimic.training.settings import TrainSettings

    if "trainer" in content:
        raise ConfigError(f"{config}: has both family and trainer; leave one out")
    settings = build(TrainSettings, content, config)
    if settings.family not in trained_families():
        known = ", ".join(trained_families())
        raise ConfigError(f"{config}: family is {shown(settings.family)}; those that train are {known}")
    build(load_task(settings.family).Settings, settings.objective, f"{config}, in objective")
    return settings


def _train_family(settings: Any, is_dry_run: bool, is_quiet: bool) -> Path:
    from mimic.training.loop import train as train_task

    outcome = train_task(settings, is_dry_run=is_dry_run, is_quiet=is_quiet)
    return Path(settings.output_dir) if outcome.final is None else outcome.final
