"""Start method, maximum number and lifetime of worker processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import Connection, wait
from typing import Literal

from pose.session import available_cores
from pose.text import shown

WINDOWS_LIMIT = 61
"""Windows can wait for 63 handles at once, of which a process pool itself needs two."""
_PROCESSES_A_CORE = 4
_ALWAYS_ALLOWED = 32


class ProcessCountError(ValueError):
    """An invalid number of worker processes for this machine."""


def start_method() -> Literal["forkserver", "spawn"]:
    """Return the multiprocessing start method: `forkserver` if the system has it, else `spawn`.

    Never `fork`: a forked process inherits the locks of its parent's threads (OpenCV, ONNX Runtime) but not
    the threads, and waits for them forever.
    """
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def most_processes() -> int:
    """Return the maximum number of worker processes on this machine."""
    most = max(_ALWAYS_ALLOWED, _PROCESSES_A_CORE * available_cores())
    return min(most, WINDOWS_LIMIT) if sys.platform == "win32" else most


def check_num_processes(count: int, name: str, *, least: int = 0) -> None:
    """Check a number of worker processes before any is started.

    Args:
        count: the number asked for.
        name: name of the setting, for the message.
        least: the smallest number allowed.

    Raises:
        ProcessCountError: it is not a whole number, or outside the allowed range.
    """
    most = most_processes()
    if isinstance(count, bool) or not isinstance(count, int) or not least <= count <= most:
        raise ProcessCountError(
            f"{name} is {shown(count)}; expected a whole number from {least} to {most} on this machine, "
            f"which has {available_cores()} cores"
        )


def end_with_parent(stop: Connection | None = None) -> None:
    """End the calling process as soon as its parent process ends, even if the parent is killed.

    Call it in a process that `multiprocessing` started; elsewhere it does nothing. A thread waits for the
    parent. No clean-up runs when the process ends, so files must be written whole (`mimic.files`).

    Args:
        stop: a connection; the process also ends when this becomes readable.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    handles: list[int | Connection] = [parent.sentinel] if stop is None else [parent.sentinel, stop]
    threading.Thread(target=_end_after, args=(handles,), name="end with parent", daemon=True).start()


def _end_after(handles: list[int | Connection]) -> None:
    wait(handles)
    os._exit(1)
