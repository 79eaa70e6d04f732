"""From a YAML to a training: which trainer, with which settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimic.config.loading import ConfigError, build, read_yaml


def main(argv: Sequence[str] | None = None) -> int:
    """Run `train.py --config FILE [key=value ...]`.

    Raises:
        ConfigError: the file, a key or a value is wrong.
    """
    parser = argparse.ArgumentParser(prog="train.py", description="Train a model as a YAML says.")
    parser.add_argument("--config", required=True, type=Path, help="a YAML of configs/train")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that replace the YAML's")
    options = parser.parse_args(argv)
    train(options.config, options.overrides)
    return 0


def train(config: Path, overrides: Sequence[str] = ()) -> Path:
    """Run the trainer that the YAML's `trainer` names; returns the folder of what was trained."""
    content = read_yaml(config, overrides)
    trainer = content.pop("trainer", None)
    settings, run = _trainer(trainer, content, config)
    return run(settings)


def settings_of(config: Path, overrides: Sequence[str] = ()) -> Any:
    """The checked settings of a training YAML, without running anything."""
    content = read_yaml(config, overrides)
    return _trainer(content.pop("trainer", None), content, config)[0]


def _trainer(trainer: Any, content: dict[str, Any], config: Path) -> tuple[Any, Any]:
    if trainer == "mini_vae":
        from mimic.training.mini_vae import MiniVAESettings, train_mini_vae

        return build(MiniVAESettings, content, config), train_mini_vae
    if trainer == "mini":
        from mimic.training.mini_unet import MiniSettings, train_mini

        return build(MiniSettings, content, config), train_mini
    raise ConfigError(f"{config}: trainer is {trainer!r}; use mini_vae or mini")
