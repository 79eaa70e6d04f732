"""Checkpoint folders: their names, their facts, and which stay; and checkpoints of a single process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mimic.files import replace, whole_file, whole_folder
from mimic.weights.strict import DAMAGED_SAFETENSORS
from pose.text import one_line, shown

_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]*)")
"""Of the folders that are the trainer's; all others, whatever their names begin with, are the user's."""
_FACTS = "facts.json"
HASHES = "hashes"
"""Key of the facts: the SHA-256 of each file of tensors by its name. Earlier formats have none."""


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
) -> Path:
    """Write `checkpoint-<step>/` under `folder`: one safetensors file a group and a JSON of facts.

    The folder is written under another name, flushed, then renamed: a checkpoint that has its name is whole.

    Args:
        tensors: group (model, optimiser, ...) to its tensors.
        keep: how many checkpoints stay; older ones are removed after the new one is whole.
        also_keep: steps whose checkpoints stay as well.

    Raises:
        StateError: the disk is full or the folder cannot be written. Earlier checkpoints stay as they are.
    """
    final = folder / f"checkpoint-{step}"
    with explained(final), whole_folder(final) as beside:
        for group, values in tensors.items():
            own = {name: value.detach().contiguous() for name, value in values.items()}
            save_file(own, beside / f"{group}.safetensors")
        write_facts(beside, facts | {"step": step, "groups": sorted(tensors)})
    remove_old(folder, keep=keep, also_keep=also_keep)
    return final


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts of a checkpoint into a folder that is not whole yet."""
    (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")


def update_facts(checkpoint: Path, changes: Mapping[str, Any]) -> None:
    """Change some of the facts of a checkpoint, all or none of them.

    Raises:
        StateError: the facts are damaged, or cannot be written.
    """
    facts = {**load_facts(checkpoint), **changes}
    with explained(checkpoint), whole_file(checkpoint / _FACTS) as beside:
        beside.write_text(json.dumps(facts), encoding="utf-8")


def remove_old(folder: Path, *, keep: int, also_keep: Collection[int] = ()) -> None:
    """Remove all checkpoints but the last `keep` and those of the steps `also_keep`.

    Folders of such a name without facts are another program's, and stay.
    """
    ours = [path for path in checkpoints(folder) if (path / _FACTS).is_file()]
    for old in ours[:-keep]:
        if step_of(old) not in also_keep:
            _remove(old)


def checkpoints(folder: Path) -> list[Path]:
    """The folders named exactly ``checkpoint-<number>``, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """How many steps a checkpoint's training has made."""
    return int(checkpoint.name.split("-")[1])


def load_state(checkpoint: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The tensors by group and the facts of a checkpoint.

    Raises:
        StateError: the checkpoint is missing or damaged; the message says what is wrong with it.
    """
    facts = load_facts(checkpoint)
    tensors = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        try:
            tensors[file.stem] = load_file(file)
        except (OSError, *DAMAGED_SAFETENSORS) as error:
            raise damage(checkpoint, f"{file.name} cannot be read ({one_line(error)})") from error
    missing = [group for group in facts.get("groups", []) if group not in tensors]
    if missing:
        raise damage(checkpoint, f"{missing[0]}.safetensors is missing")
    return tensors, facts


def load_facts(checkpoint: Path) -> dict[str, Any]:
    """The facts of a checkpoint, `step` among them.

    Raises:
        StateError: they are missing or damaged.
    """
    try:
        facts = json.loads((checkpoint / _FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise damage(checkpoint, f"{_FACTS} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise damage(checkpoint, f"{_FACTS} cannot be read ({one_line(error)})") from error
    if not isinstance(facts, dict):
        raise damage(checkpoint, f"{_FACTS} holds no JSON object")
    step = facts.get("step")
    if type(step) is not int or step < 0:
        raise damage(checkpoint, f"step in {_FACTS} is {shown(step)}; expected a number of steps")
    for name in ("groups", "files"):
        names = facts.get(name, [])
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise damage(checkpoint, f"{name} in {_FACTS} is {shown(names)}; expected a list of names")
    hashes = facts.get(HASHES, {})
    if not isinstance(hashes, dict) or not all(isinstance(each, str) for each in hashes.values()):
        raise damage(checkpoint, f"{HASHES} in {_FACTS} is {shown(hashes)}; expected a hash for each file")
    return facts


def damage(checkpoint: Path, what: str) -> StateError:
    """The error that says what is wrong with a checkpoint."""
    return StateError(f"{checkpoint} is not a whole checkpoint: {one_line(what, 600)}")


def set_aside(checkpoint: Path) -> Path:
    """Rename a damaged checkpoint, so that it is neither resumed from nor counted nor removed.

    Returns:
        its new place, ``checkpoint-<number>-damaged``, or that with another number after it.

    Raises:
        OSError: another program has it open.
    """
    names = (f"{checkpoint.name}-damaged{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    free = next(name for name in names if not os.path.lexists(checkpoint.with_name(name)))
    replace(checkpoint, checkpoint.with_name(free))
    return checkpoint.with_name(free)


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
def explained(final: Path) -> Iterator[None]:
    """Raise errors of writing a checkpoint as `StateError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise not_written(final, str(error)) from error


def not_written(final: Path, reason: str) -> StateError:
    """Return the error that says why a checkpoint could not be written."""
    return StateError(
        f"checkpoint {final} could not be written: {' '.join(reason.split())}. Earlier checkpoints are "
        "untouched; make room or give another output_dir, then rerun the command to resume from the last one"
    )


def _remove(checkpoint: Path) -> None:
    """Take its name from it first: what has the name is whole, even if we are killed in between."""
    nameless = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.old.partial")
    with contextlib.suppress(OSError):
        replace(checkpoint, nameless)
        shutil.rmtree(nameless, ignore_errors=True)
