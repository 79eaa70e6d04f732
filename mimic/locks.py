"""Which process may write to a folder? The first to lock it; others are told who that is.

The lock is the operating system's (`fcntl` or `msvcrt`), on one byte of a small file in the folder, so that
it ends with its process, however that ends. The file also says who holds it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pose.text import one_line

LOCK_FILE = ".mimic.lock"
_LOCKED_BYTE = 2**30
"""Beyond the text: on Windows no other process can read what is locked."""
_TAKEN = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
_UNSUPPORTED = {
    getattr(errno, name)
    for name in ("ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL")
    if hasattr(errno, name)
}
_held: set[tuple[int, Path]] = set()
"""Process id and folder of each lock that this process holds: the system lets a process lock a file twice."""


class FolderInUseError(OSError):
    """Another process is working in the folder."""


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str], *, work: str, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes that call this out of an existing folder while the body runs.

    Of several processes that work together only one takes the lock.

    Args:
        folder: exists and can be written.
        work: what this process does there, for the message to others: ``training``.
        say: called with a sentence where the file system has no locks; the body runs all the same.

    Raises:
        FolderInUseError: another process, or another call in this one, holds the lock.
        OSError: the lock's file cannot be opened.
    """
    folder = Path(folder).resolve()
    path, mine = folder / LOCK_FILE, (os.getpid(), folder)
    if mine in _held:
        raise FolderInUseError(_refusal(folder, path))
    descriptor = _open_locked(folder, path, say)
    _held.add(mine)
    try:
        if descriptor is not None:
            _describe(descriptor, work)
        yield
    finally:
        _held.discard(mine)
        if descriptor is not None:
            _release(descriptor, path)


def _open_locked(folder: Path, path: Path, say: Callable[[str], None]) -> int | None:
    """The open and locked file; None where there are no locks."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _TAKEN:
                raise FolderInUseError(_refusal(folder, path)) from None
            if error.errno in _UNSUPPORTED:
                with contextlib.suppress(OSError):
                    path.unlink()
                say(
                    f"the file system of {folder} has no locks ({error.strerror or error}); a second process "
                    "in this folder would not be noticed: start none"
                )
                return None
            raise
        if _is_still(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder removed it between our opening and our locking


def _lock(descriptor: int) -> None:
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        # A lock of the process, not of the open file, which processes forked from this one would share.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _describe(descriptor: int, work: str) -> None:
    holder = {
        "work": work,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode() + b"\n")


def _release(descriptor: int, path: Path) -> None:
    """Unlock; the file goes, too."""
    if os.name == "nt":  # removes no open files
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()
        return
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(descriptor)


def _refusal(folder: Path, path: Path) -> str:
    holder: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        holder = content if isinstance(content, dict) else {}
    who = "another process"
    if {"work", "pid", "host", "since"} <= holder.keys():
        work, number, host, since = (one_line(holder[name], 60) for name in ("work", "pid", "host", "since"))
        who = f"{work} of process {number} on {host}, since {since}"
    return f"{folder} is in use by {who}; wait until it ends, stop it, or give another folder"
