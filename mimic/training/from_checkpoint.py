"""Make a model folder of a training's checkpoint (`mimic export`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic.config.loading import ConfigError, build
from mimic.data.settings import foreign_to
from mimic.training.card import facts_of, model_card
from mimic.training.checkpoints import AVERAGE, WEIGHTS, newest_whole
from mimic.training.export import check_replaceable, export
from mimic.training.report import validations
from mimic.training.saved import restore_tensors
from mimic.training.settings import TrainSettings
from mimic.training.tasks import make_task
from mimic.weights.training_folders import training_step


def export_checkpoint(checkpoint: Path, folder: Path, *, overwrite: bool = False) -> Path:
    """Write the model of a checkpoint as a folder that `load_pipeline` and YAMLs take.

    The weights are those that the training would have exported at that step: their average, where it keeps
    one. The model that was trained further has to be there, as for resuming.

    Args:
        checkpoint: a folder ``checkpoint-<step>``.
        folder: the model folder to write.
        overwrite: replace a model folder of that name.

    Raises:
        StateError: the checkpoint is damaged, or the folder cannot be written.
        ConfigError: there is no checkpoint, `folder` is there already, or the checkpoint's settings cannot be
            used.
        SourceError, WeightsError: the model that was trained further is missing or does not fit.
    """
    if not checkpoint.is_dir() or training_step(checkpoint) is None:
        what = "is no checkpoint of a training" if checkpoint.exists() else "is not there"
        raise ConfigError(
            f"{checkpoint} {what}; expected a folder checkpoint-<step> that `mimic train` wrote"
        )
    _check_free(folder, overwrite=overwrite)
    (stored, facts, progress), _ = newest_whole([checkpoint])
    settings = settings_of_checkpoint(facts["settings"], checkpoint)
    task = make_task(settings)
    trained = {name: weight for name, weight in task.model.named_parameters() if weight.requires_grad}
    restore_tensors(trained, stored, AVERAGE if AVERAGE in stored.groups else WEIGHTS)
    task.model.eval()
    of_weights = facts_of(settings, task, progress.step)
    validated = validations(checkpoint.absolute().parent, last_step=progress.step)
    card = model_card(of_weights, settings, best=progress.best, validated=validated)
    return export(task, folder, facts=of_weights, card=card)


def settings_of_checkpoint(stored: Mapping[str, Any], checkpoint: Path) -> TrainSettings:
    """Return the settings that a checkpoint was trained with.

    A checkpoint has every setting at its value, also those that have no effect with its source of clips,
    which a YAML must not name.

    Args:
        stored: the settings in the checkpoint's facts.
        checkpoint: its folder, for messages.

    Raises:
        ConfigError: they cannot be used.
    """
    foreign = foreign_to(stored["data"]["source"])
    data = {key: value for key, value in stored["data"].items() if key not in foreign}
    return build(TrainSettings, {**stored, "data": data}, source=f"{checkpoint}, its settings")


def _check_free(folder: Path, *, overwrite: bool) -> None:
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not overwrite:
        raise ConfigError(f"{folder} is there already; choose another name, or give --overwrite")
    check_replaceable(folder)
