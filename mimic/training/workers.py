"""How do processes that load clips behave? They hand errors over whole, and end when their training does."""

from __future__ import annotations

import pickle
import signal
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from mimic.data.batch import AnySample
from mimic.data.processes import end_with_parent
from mimic.training.signals import INTERRUPTS

_SIGNS_OF_A_DEAD_WORKER = ("DataLoader worker", "unable to write to file", "shared memory")


class WorkerError(RuntimeError):
    """A process that loads data was ended by the system."""


@dataclass(frozen=True)
class Unreadable:
    """An error in place of a sample, so that `DataLoader` does not wrap it in its worker's traceback."""

    error: Exception
    trace: str
    """The worker's traceback, which does not travel with the error."""


class HandingOver(Dataset[Any]):
    """A dataset whose errors are values.

    Args:
        dataset: of samples.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __getitem__(self, place: Any) -> AnySample | Unreadable:
        try:
            return self._dataset[place]
        except Exception as error:  # all of them: they are raised again in the process that trains
            return Unreadable(_portable(error), traceback.format_exc())


def samples_or_raise(batches: Iterable[list[AnySample | Unreadable]]) -> Iterator[list[AnySample]]:
    """Batches of a `HandingOver`.

    Raises:
        Exception: the error of the first sample that could not be made, with the worker's traceback as its
            cause.
        WorkerError: a worker ended without an error of its own.
    """
    for batch in _explained(batches):
        for sample in batch:
            if isinstance(sample, Unreadable):
                raise sample.error from RuntimeError(f"in a process that loads data:\n{sample.trace}")
        yield [sample for sample in batch if not isinstance(sample, Unreadable)]


def _explained(batches: Iterable[list[Any]]) -> Iterator[list[Any]]:
    try:
        yield from batches
    except RuntimeError as error:
        text = str(error)
        if not any(sign in text for sign in _SIGNS_OF_A_DEAD_WORKER):
            raise
        raise WorkerError(
            "a process that loads data was ended by the system, most likely for want of shared memory "
            "(/dev/shm, 64 MB in a container by default) or memory; start the container with "
            "--shm-size=8g, or set num_workers=0"
        ) from error


def set_up_worker(worker: int) -> None:
    """Prepare a process that loads data: for `DataLoader`'s `worker_init_fn`."""
    _leave_signals_to_the_parent()
    end_with_parent()


def _leave_signals_to_the_parent() -> None:
    """Ctrl+C and Ctrl+Break reach workers as well, but they are needed for the current step."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _portable(error: Exception) -> Exception:
    """The error itself, or one that says the same where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an unknown class's own methods raise
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
