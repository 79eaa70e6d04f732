"""How do trained weights get to those who use them? In the task for a while, or as files in a folder.

Where several processes hold parts of the weights, a second task, whole and in the main process alone, takes
their place; so it does for the export where frozen weights were cast.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mimic.families.task import TrainingTask
from mimic.files import whole_folder
from mimic.training.engine import is_deepspeed, shares_weights
from mimic.training.lora import adapted_layers, lora_state, merged
from mimic.training.policy import cast_frozen
from mimic.training.run import TrainingRun
from mimic.training.saved import gather
from mimic.training.state import StateError
from mimic.training.tasks import make_task

FINAL = "final"
LORA_FILE = "lora.safetensors"


def is_shared_out(run: TrainingRun) -> bool:
    """Whether no process alone has a model that it could call outside a training step."""
    return shares_weights(run.parameters) or is_deepspeed(run.accelerator)


@contextmanager
def finished(run: TrainingRun, *, is_exact: bool = False) -> Iterator[TrainingTask | None]:
    """The task with the weights that count (averaged, where an average is kept), ready to generate.

    All processes have to enter. Gives None in the processes that have nothing to do: all but the main one,
    where a second task is built.

    Args:
        is_exact: frozen weights as exact as in the model they came from, for export; the task is on the CPU
            then, unless nothing was cast.
    """
    weights = run.average if run.average is not None else run.parameters
    if is_shared_out(run) or (is_exact and run.is_cast):
        whole = gather(weights, is_kept=run.is_main)
        if not run.is_main:
            yield None
            return
        task = make_task(run.settings)
        places = dict(task.model.named_parameters())
        with torch.no_grad():
            for name, tensor in whole.items():
                places[name].copy_(tensor)
        if not (is_exact and run.is_cast):
            cast_frozen(task, run.policy, is_divided=False)
            for module in (task.model, *task.frozen.values()):
                module.to(run.accelerator.device)
        task.model.eval()
        yield task
        return
    run.model.eval()
    _swap(run)
    try:
        yield run.task
    finally:
        _swap(run)
        run.model.train()


def export(task: TrainingTask, folder: Path) -> Path:
    """Write a diffusers folder with one more file in the published checkpoint's layout, and the low-rank
    differences where there are any (all other files have them merged). The same weights give the same bytes.

    Raises:
        StateError: the disk is full or the folder cannot be written. What had its name before stays.
    """
    try:
        with whole_folder(folder) as beside:
            if adapted_layers(task.model):
                own = {name: tensor.cpu().contiguous() for name, tensor in lora_state(task.model).items()}
                save_file(own, beside / LORA_FILE)
            with merged(task.model):
                task.pipeline().save_pretrained(beside)
                for name, tensors in task.released_files().items():
                    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
                    save_file(whole, beside / name, metadata={"format": "pt"})
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
