"""Make Linux refuse what Windows refuses; Python imports this file if PYTHONPATH has its folder.

Files that this process has open or mapped into memory cannot be renamed, replaced or removed, a rename does
not replace a folder, and processes are started by spawn only. Files outside $MIMIC_WINDOWS_FOLDER are free.
"""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

FOLDER = os.path.realpath(os.environ["MIMIC_WINDOWS_FOLDER"])


def held() -> set[str]:
    """Files below FOLDER that this process has open or mapped."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        found |= {line.split(None, 5)[5].strip() for line in maps if line.count("/")}
    return {path for path in found if path.startswith(FOLDER + os.sep)}


def refuse_if_held(path: Any) -> None:
    """Raise PermissionError if a file, or one in a folder, is held."""
    full = os.path.realpath(os.fspath(path))
    if full.startswith(FOLDER):
        for each in held():
            if each == full or each.startswith(full + os.sep):
                raise PermissionError(13, f"used by another process: {each}", os.fspath(path))


def refusing(original: Callable[..., Any], num_paths: int) -> Callable[..., Any]:
    """Return the function, with a check of its first paths."""

    def checked(*arguments: Any, **options: Any) -> Any:
        if not options.get("dir_fd"):
            for path in arguments[:num_paths]:
                refuse_if_held(path)
        if num_paths == 2 and os.path.isdir(arguments[1]):
            raise PermissionError(13, "the folder exists", os.fspath(arguments[1]))
        return original(*arguments, **options)

    return checked


os.replace, os.rename = refusing(os.replace, 2), refusing(os.rename, 2)
os.unlink = os.remove = refusing(os.unlink, 1)
if hasattr(os, "sched_getaffinity"):
    del os.sched_getaffinity
multiprocessing.get_all_start_methods = lambda: ["spawn"]
