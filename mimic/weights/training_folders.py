"""Folders of trainings, which are easily given in place of a model."""

from __future__ import annotations

import re
from pathlib import Path

from mimic.weights.errors import SourceError


def training_step(folder: Path) -> int | None:
    """Return the step of a training's checkpoint folder; None for other folders."""
    named = re.fullmatch(r"checkpoint-(\d+)", folder.absolute().name)
    return int(named[1]) if named is not None and (folder / "facts.json").is_file() else None


def check_is_no_training(folder: Path) -> None:
    """Raise `SourceError` if a folder is a training's, or one of its checkpoints, and not a model."""
    if training_step(folder) is not None:
        raise SourceError(
            f"{folder} is a checkpoint of a training, not a model; `mimic export {folder} OUT` makes one"
        )
    is_model = (folder / "model_index.json").is_file()
    if not is_model and (folder / "final" / "model_index.json").is_file():
        raise SourceError(f"{folder} is the folder of a training; its model is {folder / 'final'}")
    checkpoints = [path for path in folder.glob("checkpoint-*") if training_step(path) is not None]
    if not is_model and checkpoints:
        last = max(checkpoints, key=lambda path: training_step(path) or 0)
        raise SourceError(
            f"{folder} is the folder of a training that has not ended; `mimic export {last} OUT` makes a "
            "model of its last checkpoint"
        )
