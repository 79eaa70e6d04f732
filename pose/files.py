"""How files appear under their names where other programs may have them open."""

from __future__ import annotations

import os
import time

PATIENCE_S = 2.0
_RETRIES_S = (0.05, 0.1, 0.2, 0.4, 0.5)


class FileInUseError(PermissionError):
    """A file or folder that cannot be renamed, because another program has it open."""


def replace(
    source: str | os.PathLike[str], target: str | os.PathLike[str], patience_s: float = PATIENCE_S
) -> None:
    """Rename as `os.replace` does; if that is refused, try again.

    Windows refuses to rename or replace a file that another program has open, for example a virus scanner
    that looks at every new file.

    Args:
        source, target: as of `os.replace`.
        patience_s: how long to try.

    Raises:
        FileInUseError: the rename is still refused.
    """
    waited_s, number = 0.0, 0
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if waited_s >= patience_s:
                raise FileInUseError(
                    error.errno, error.strerror, os.fspath(source), None, os.fspath(target)
                ) from error
        delay_s = _RETRIES_S[min(number, len(_RETRIES_S) - 1)]
        time.sleep(delay_s)
        waited_s, number = waited_s + delay_s, number + 1
