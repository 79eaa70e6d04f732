"""Make trained weights usable: in the task for validation, or as files in a folder.

Where processes hold shards of the weights, the main process has a second task with whole networks; for the
export it builds one where frozen weights were cast.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from mimic.config.loading import ConfigError
from mimic.families.adapters import LORA_FILE
from mimic.families.stored import DEFAULTS_FILE
from mimic.families.task import TrainingTask
from mimic.files import whole_folder
from mimic.training.engine import is_deepspeed, shares_weights
from mimic.training.lora import adapted_layers, lora_state, merged
from mimic.training.run import TrainingRun
from mimic.training.saved import gather
from mimic.training.state import StateError
from mimic.weights.licences import CARD_FILE
from mimic.weights.metadata import save_weights

_WEIGHTS = (".safetensors", ".bin", ".pth", ".ckpt")
FINAL = "final"


def is_shared_out(run: TrainingRun) -> bool:
    """Whether no process alone has a model that it could call outside a training step."""
    return shares_weights(run.parameters) or is_deepspeed(run.accelerator)


@contextmanager
def finished(run: TrainingRun, *, is_exact: bool = False) -> Iterator[TrainingTask | None]:
    """The task with the weights that count (averaged, where an average is kept), ready to generate.

    All processes have to enter. Gives None in the processes that have nothing to do: all but the main one,
    where a second task is built.

    Args:
        is_exact: frozen weights as exact as in the model they came from, for export; a second task is on the
            CPU then.
    """
    weights = run.average if run.average is not None else run.parameters
    if is_shared_out(run) or (is_exact and run.is_cast):
        whole = gather(weights, is_kept=run.is_main)
        if not run.is_main:
            yield None
            return
        is_rebuilt = run.whole_task is None or (is_exact and run.is_cast)
        task = run.make_task(run.settings) if is_rebuilt else run.whole_task
        assert task is not None
        places = dict(task.model.named_parameters())
        with torch.no_grad():
            for name, tensor in whole.items():
                places[name].copy_(tensor)
        task.model.eval()
        if is_exact:
            yield task
            return
        task.model.to(run.accelerator.device)
        try:
            yield task
        finally:
            task.model.to("cpu")
        return
    run.model.eval()
    _swap(run)
    try:
        yield run.task
    finally:
        _swap(run)
        run.model.train()


def check_replaceable(folder: Path) -> None:
    """Check that a model may be written in place of what is there: nothing, an empty folder or a model.

    Raises:
        ConfigError: something else is there, or the model's folder holds other files than a model's.
    """
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        index = None
    if not isinstance(index, dict) or "_class_name" not in index:
        raise ConfigError(f"{folder} is no model folder; it is not replaced. Choose another name")
    own = {*index, "model_index.json", DEFAULTS_FILE, CARD_FILE, ".gitattributes"}
    others = sorted(
        path.name for path in folder.iterdir() if path.name not in own and path.suffix not in _WEIGHTS
    )
    if others:
        raise ConfigError(
            f"{folder} holds {', '.join(others[:8])}, which mimic did not write; it is not replaced. Move "
            "that away, or choose another name"
        )


def export(
    task: TrainingTask, folder: Path, *, facts: Mapping[str, str] | None = None, card: str | None = None
) -> Path:
    """Write a diffusers folder, one more file in the published checkpoint's layout, and, for LoRA, a file of
    the LoRA alone (all other files have it merged). The same weights give the same bytes.

    Args:
        task: with the trained weights.
        folder: its path; what is there is replaced.
        facts: for the files of weights (`mimic.training.card.facts_of`).
        card: text of the model card.

    Raises:
        StateError: the disk is full or the folder cannot be written. What had its name before stays.
    """
    facts = facts or {}
    try:
        with whole_folder(folder) as beside:
            if adapted_layers(task.model):
                save_weights(beside / LORA_FILE, lora_state(task.model), facts)
            with merged(task.model):
                task.pipeline().save_pretrained(beside)
                for name, tensors in task.released_files().items():
                    save_weights(beside / name, tensors, facts)
            if card is not None:
                (beside / CARD_FILE).write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise StateError(
            f"the finished model {folder} could not be written: {' '.join(str(error).split())}. Checkpoints "
            "are untouched; make room, then rerun the command to write it"
        ) from error
    return folder


def _swap(run: TrainingRun) -> None:
    """The averaged weights in place of the trained ones, or back; nothing is copied."""
    if run.average is not None:
        for name, parameter in run.parameters.items():
            parameter.data, run.average[name] = run.average[name], parameter.data
