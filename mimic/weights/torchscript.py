"""TorchScript files: programs with their weights, as many networks are published."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import torch

from mimic.weights.strict import DAMAGED_TORCH, WeightsError
from pose.text import one_line


def load_torchscript(path: Path, device: torch.device | str) -> torch.jit.ScriptModule:
    """Load a TorchScript module, ready to evaluate.

    The checksums of the file are compared first: torch does not look at them, and a damaged program may end
    the process. A program that somebody has changed on purpose is run as it is; take such files from whom
    you trust.

    Raises:
        WeightsError: the file is damaged, or of a version that torch does not read.
    """
    try:
        _check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the published networks come in this format
            with path.open("rb") as file:  # torch opens no path with letters outside ASCII on Windows
                return torch.jit.load(file, map_location=device).eval()
    except (*DAMAGED_TORCH, *DAMAGED_ZIP) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsError(
            f"{path} is not a TorchScript file that can be read: {one_line(reason)}"
        ) from error


DAMAGED_ZIP = (zipfile.BadZipFile, NotImplementedError, struct.error, zlib.error)
"""What `zipfile` raises for archives that are damaged, or say that they are of a later version."""


def _check_sums(path: Path) -> None:
    """Raise `BadZipFile` if what a part of an archive holds is not what was written."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} in it is damaged")
