"""Save checkpoints while the training continues: copy to main memory, then write in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import async_save

from mimic.training.shards import CheckpointWriter, ignore_single_process, is_refused_rename, reasons
from mimic.training.state import StateError, not_written

_LONGEST = timedelta(hours=2)


class Saving:
    """Writes checkpoints in the background, one at a time. All processes of a training make one together.

    A checkpoint gets its name when all processes have written and flushed their parts.
    """

    def __init__(self, say: Callable[[str], None] = lambda line: None) -> None:
        self._say = say
        self.is_lost = False
        """Whether the last checkpoint was given up, because its rename was refused."""
        self.processes: Any = None
        """Process group of its own, so that its exchanges do not mix with those of training; None alone."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.processes = torch.distributed.new_group(backend="gloo", timeout=_LONGEST)
        self._future: Future[Any] | None = None
        self._writer: CheckpointWriter | None = None
        self._checkpoint = Path()

    def start(
        self,
        checkpoint: Path,
        groups: Mapping[str, Mapping[str, Tensor]],
        *,
        facts: Mapping[str, Any],
        add: Callable[[Path], None] | None = None,
        finished: Callable[[], None] | None = None,
    ) -> None:
        """Copy tensors to main memory and begin to write them. All processes have to call this.

        Args:
            checkpoint: the final folder.
            groups: by group and name, what this process writes: sharded tensors, and its share of those that
                all processes hold.
            facts, add, finished: of `CheckpointWriter`.

        Raises:
            StateError: the previous checkpoint could not be written.
        """
        self.wait(is_needed=False)
        self._checkpoint, self.is_lost = checkpoint, False
        self._writer = CheckpointWriter(checkpoint, facts=facts, add=add, finished=finished)
        ignore_single_process()
        started = async_save(
            {group: dict(tensors) for group, tensors in groups.items()},
            storage_writer=self._writer,
            process_group=self.processes,
        )
        assert isinstance(started, Future)
        self._future = started

    @property
    def has_failed(self) -> bool:
        """Whether the last checkpoint could not be written, as far as this process knows."""
        return self._future is not None and self._future.done() and self._future.exception() is not None

    def wait(self, *, is_needed: bool = True) -> None:
        """Wait until the last checkpoint is whole.

        Args:
            is_needed: raise also if nothing but its rename was refused; else say so, and the training
                continues without it.

        Raises:
            StateError: in all processes, if it could not be written in one of them.
        """
        future, self._future = self._future, None
        if future is None:
            return
        assert self._writer is not None
        error = future.exception()
        if error is None:
            return
        self._writer.discard(error)
        if not is_needed and is_refused_rename(error):
            self.is_lost = True
            self._say(
                f"{self._checkpoint.name} is given up: its rename was refused for a minute, because another "
                "program has it open; the training continues, and the next checkpoint is tried"
            )
            return
        text = reasons(error) if isinstance(error, CheckpointException) else str(error)
        raise not_written(self._checkpoint, text) from error

    def close(self) -> None:
        """Wait until nothing is written any more, when another error has ended the training already."""
        with suppress(StateError):
            self.wait()
