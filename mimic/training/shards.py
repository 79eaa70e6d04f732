"""How do processes write their parts of a checkpoint? The storage of `torch.distributed.checkpoint`.

Files are safetensors. A process writes one for each group of tensors, ``weights.safetensors``, or
``weights-00002-of-00008.safetensors`` where there are several processes. A file that holds only a part of a
tensor says in its header where the part belongs.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from mimic.files import FileInUseError, whole_folder
from mimic.training.state import HASHES, write_facts
from mimic.weights.sources import sha256

PATIENCE_S = 60.0
"""How long the rename of a checkpoint that is refused is tried again, in the background."""
OFFSETS = "mimic.offsets"
"""Key of a file's header: JSON with shape and offset of each tensor of which the file has a part."""


class CheckpointWriter(StorageWriter):
    """Writes a checkpoint of groups of tensors; its folder gets its name when it is whole.

    It also copies tensors to main memory, so that `torch.distributed.checkpoint.async_save` can write them
    while the training changes them.

    Args:
        checkpoint: the final folder.
        facts: content of its `facts.json`; only those of the main process count.
        add: writes more into the folder before it gets its name; in the main process.
        finished: called in the main process after the folder has its name.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        facts: Mapping[str, Any],
        add: Callable[[Path], None] | None = None,
        finished: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._checkpoint, self._facts, self._add, self._finished = checkpoint, facts, add, finished
        self._beside: Path | None = None
        self._open = ExitStack()

    # Copying

    _synchronize_after_execute = False
    should_synchronize_after_execute = False

    def stage(self, state_dict: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
        """Copy tensors, or the parts that this process holds, to main memory."""
        return {
            group: {name: tensor.detach().to("cpu", copy=True) for name, tensor in own.items()}
            for group, own in state_dict.items()
        }

    def synchronize_staging(self) -> None:
        """Do nothing: `stage` returns when all is copied."""

    def close(self) -> None:
        """Do nothing: the copies are freed with the state that holds them."""

    def discard(self, error: BaseException) -> None:
        """Remove what was written of a checkpoint that did not become whole."""
        self._open.__exit__(type(error), error, error.__traceback__)

    # Writing

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Do nothing: a writer writes one checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the main process makes the folder when all are ready."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Leave a process's plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the folder and tell every process its place in it."""
        self._beside = self._open.enter_context(whole_folder(self._checkpoint, patience_s=PATIENCE_S))
        places = [(str(self._beside), number, len(plans)) for number in range(len(plans))]
        return [replace(plan, storage_data=place) for plan, place in zip(plans, places)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this process's files and flush them to disk."""
        folder, number, count = plan.storage_data
        suffix = "" if count == 1 else f"-{number + 1:05d}-of-{count:05d}"
        groups: dict[str, dict[str, Tensor]] = {}
        offsets: dict[str, dict[str, Any]] = {}
        sizes: list[tuple[MetadataIndex, int, str]] = []
        for item in plan.items:
            group, name = item.index.fqn.split(".", 1)
            tensor = planner.resolve_data(item)
            assert isinstance(tensor, Tensor)
            assert item.tensor_data is not None
            groups.setdefault(group, {})[name] = tensor.detach().contiguous()
            whole, chunk = item.tensor_data.size, item.tensor_data.chunk
            if chunk.sizes != whole:
                offsets.setdefault(group, {})[name] = {"shape": list(whole), "offset": list(chunk.offsets)}
            sizes.append((item.index, tensor.nbytes, f"{group}{suffix}.safetensors"))
        hashes: dict[str, str] = {}
        for group, tensors in groups.items():
            file = Path(folder) / f"{group}{suffix}.safetensors"
            header = {OFFSETS: json.dumps(offsets[group])} if group in offsets else None
            save_file(tensors, file, metadata=header)
            with open(file, "rb+") as written:
                os.fsync(written.fileno())
            hashes[file.name] = sha256(file)
        done: Future[list[WriteResult]] = Future()
        done.set_result([WriteResult(index, size, (name, hashes[name])) for index, size, name in sizes])
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the facts and give the folder its name."""
        assert self._beside is not None
        hashes = dict(sorted(result.storage_data for own in results for result in own))
        write_facts(self._beside, {**self._facts, "files": list(hashes), HASHES: hashes})
        if self._add is not None:
            self._add(self._beside)
        self._open.close()
        if self._finished is not None:
            self._finished()

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return False: the folder is given when a writer is made."""
        return False


def is_refused_rename(error: BaseException) -> bool:
    """Whether a checkpoint was written and only its rename was refused, because a program has it open."""
    failures = error.failures.values() if isinstance(error, CheckpointException) else [(error, None)]
    return all(isinstance(failure, FileInUseError) for failure, _ in failures)


def reasons(error: CheckpointException) -> str:
    """Return what went wrong, in each process where something did, as one line."""
    lines = []
    for failure, _ in error.failures.values():
        text = " ".join(str(failure).split())
        is_of_files = isinstance(failure, OSError | SafetensorError)
        lines.append(text if is_of_files else f"{type(failure).__name__}: {text}")
    return "; ".join(dict.fromkeys(lines))


def ignore_single_process() -> None:
    """Keep `torch.distributed.checkpoint` from warning that there is a single process."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninit")
