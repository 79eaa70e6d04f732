"""What a training must remember to go on as if it had never stopped, and how that reaches the disk whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mimic.files import whole_folder


class StateError(OSError):
    """A checkpoint that is not there, not whole, or cannot be written."""


def save_state(
    folder: Path,
    step: int,
    *,
    tensors: dict[str, dict[str, Tensor]],
    facts: dict[str, Any],
    keep: int = 2,
    also_keep: Collection[int] = (),
    add: Callable[[Path], None] | None = None,
) -> Path:
    """Write `checkpoint-<step>/` under `folder`: one safetensors file a group and a JSON of facts.

    The folder is written under another name, flushed, then renamed: a checkpoint that has its name is whole.

    Args:
        tensors: group (model, optimiser, ...) to its tensors.
        keep: how many checkpoints stay; older ones are removed after the new one is whole.
        also_keep: steps whose checkpoints stay besides.
        add: writes more into the folder, before it gets its name.

    Raises:
        StateError: the disk is full or the folder cannot be written. Earlier checkpoints stay as they are.
    """
    final = folder / f"checkpoint-{step}"
    with _explained(final), whole_folder(final) as beside:
        for group, values in tensors.items():
            own = {name: value.detach().contiguous() for name, value in values.items()}
            save_file(own, beside / f"{group}.safetensors")
        (beside / "facts.json").write_text(json.dumps(facts | {"step": step}))
        if add is not None:
            add(beside)
    for old in checkpoints(folder)[:-keep]:
        if step_of(old) not in also_keep:
            _remove(old)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """How many steps a checkpoint's training has made."""
    return int(checkpoint.name.split("-")[1])


def load_state(checkpoint: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors by group and the facts of a checkpoint.

    Raises:
        StateError: the checkpoint is missing or damaged.
    """
    try:
        facts = json.loads((checkpoint / "facts.json").read_text())
        tensors = {file.stem: load_file(file) for file in sorted(checkpoint.glob("*.safetensors"))}
    except Exception as error:
        raise StateError(f"{checkpoint} is not a whole checkpoint: {error}") from error
    return tensors, facts


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors, `<parameter number>.<name>`."""
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_optimiser_tensors(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": state})


@contextlib.contextmanager
def _explained(final: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        text = " ".join(str(error).split())
        raise StateError(
            f"checkpoint {final} could not be written: {text}. Earlier checkpoints are untouched; make room "
            "or give another output_dir, then the same command goes on from the last one."
        ) from error


def _remove(checkpoint: Path) -> None:
    """Take its name from it first: what has the name is whole, even if we are killed in between."""
    nameless = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.old.partial")
    with contextlib.suppress(OSError):
        os.replace(checkpoint, nameless)
        shutil.rmtree(nameless, ignore_errors=True)
