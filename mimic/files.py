"""Where files are, and how they appear: under their final name only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from pose.files import PATIENCE_S, FileInUseError, replace

__all__ = [
    "ASSETS", "PACKAGE", "FileInUseError", "apply_umask", "bundled_models", "local_path", "remove_begun",
    "remove_partial", "replace", "whole_file", "whole_folder", "without_empty_folders", "write_json",
]  # fmt: skip

PACKAGE = Path(__file__).parent
ASSETS = PACKAGE / "assets"
FULL_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""Errors of writing, which do not say to what file."""
# Names that are given below and by the trainer to what is not whole: the number is that of the process.
_BEGUN = re.compile(r"\.(.+\.)?\d+\.((replaced|mode|old)\.)?partial(\.[^.]+)?|\.engine-\d+\.partial")


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package, without ``bundled:``."""
    return sorted(path.parent.name for path in ASSETS.glob("*/model_index.json"))


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; it gets the final name if the body succeeds.

    The file beside has the same suffix, gets the mode that new files have (`apply_umask`), is flushed to disk
    before it is renamed, and is removed when the body raises, so that no partial file is ever seen under the
    final name.

    Raises:
        OSError: the folder cannot be made, or the file cannot be flushed or renamed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield beside
        apply_umask([beside])
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        replace(beside, path)
    except OSError as error:
        if error.filename is not None or error.errno not in FULL_DISK:
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], *, patience_s: float = PATIENCE_S) -> Iterator[Path]:
    """Give a folder beside ``path`` to fill; it gets the final name if the body succeeds.

    All files in it get the mode that new files have (`apply_umask`) and are flushed to disk before it is
    renamed, and so is the rename. What had the final name before is removed then. When the body raises, or
    the rename is refused, the folder beside is removed and nothing else has changed.

    Args:
        path: the final name.
        patience_s: how long a rename that is refused is tried again.

    Raises:
        OSError: a folder cannot be made, flushed or renamed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.replaced.partial")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        yield beside
        apply_umask(path for path in beside.rglob("*") if path.is_file())
        for place, _, files in os.walk(beside):
            for name in files:
                _flush(os.path.join(place, name))
            _flush(place)
        if path.exists():
            replace(path, replaced, patience_s)
        try:
            replace(beside, path, patience_s)
        except BaseException:
            if replaced.exists() and not path.exists():
                replace(replaced, path)
            raise
        _flush(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if path.exists():  # else what had the name before is all there is
            shutil.rmtree(replaced, ignore_errors=True)


@contextlib.contextmanager
def without_empty_folders(path: str | os.PathLike[str]) -> Iterator[None]:
    """Remove, when the body ends, the folders up to ``path`` that it has made and left empty."""
    folder = Path(path).absolute()
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    finally:
        for place in absent:
            with contextlib.suppress(OSError):  # not empty, or never made
                place.rmdir()


def apply_umask(paths: Iterable[Path]) -> None:
    """Give files of one's own the mode that the umask (or the folder's ACL) gives to new files.

    Libraries that write through a temporary file, safetensors for one, leave a mode of 0600, with which a
    model can be read by its maker alone. Windows has no such modes: files inherit their folder's rights.
    """
    if os.name == "nt":
        return
    modes: dict[Path, int] = {}
    for path in paths:
        if path.is_symlink():
            continue
        if path.parent not in modes:
            # A new file shows the mode; reading the umask would change it for all threads for a moment.
            probe = path.parent / f".{os.getpid()}.{threading.get_ident()}.mode.partial"
            with open(probe, "xb") as file:
                modes[path.parent] = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            probe.unlink()
        if stat.S_IMODE(path.stat().st_mode) != modes[path.parent]:
            path.chmod(modes[path.parent])


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left beside the files and folders that they were writing in ``folder``."""
    for left in Path(folder).glob(".*.partial*"):
        if not _BEGUN.fullmatch(left.name):
            continue  # somebody else's
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def remove_begun(path: str | os.PathLike[str]) -> None:
    """Remove what killed processes left beside one file that they were writing."""
    path = Path(path)
    stem, suffix = re.escape(path.stem), re.escape(path.suffix)
    begun = rf"\.{stem}{suffix}\.\d+\.tmp|\.{stem}(\.unfinished)?\.\d+\.partial{suffix}"
    for left in path.parent.glob(".*"):
        if re.fullmatch(begun, left.name) and left.is_file():
            left.unlink(missing_ok=True)


def _flush(path: str | os.PathLike[str]) -> None:
    """Have the system put a file's content, or a folder's list of names, on the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike[str], content: object) -> Path:
    """Write ``content`` as indented UTF-8 JSON, whole or not at all."""
    with whole_file(path) as beside:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        # A file name that is no UTF-8 comes as lone surrogates; written as \udcff they are valid JSON.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def local_path(text: str | os.PathLike[str]) -> Path:
    """Resolve a user's path: ``bundled:…`` names a file of this package, ``~`` the home directory.

    Raises:
        FileNotFoundError: it begins with ``~nobody``, and there is neither such a user nor such a file.
    """
    name = os.fspath(text)
    if name.startswith("bundled:"):
        return ASSETS / name.removeprefix("bundled:")
    path = Path(os.path.expanduser(name))
    if name.startswith("~") and path == Path(name) and not path.exists():
        raise FileNotFoundError(
            f"{name} names no home directory: there is no user {path.parts[0][1:] or 'with a home'}; "
            "write the whole path, or ./~… for a name with this sign"
        )
    return path
