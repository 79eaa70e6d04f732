"""Our own format: a compressed npz with a version, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from pose.formats.json_file import whole_file
from pose.text import one_line, shown
from pose.types import FORMAT_NAME, FORMAT_VERSION, PoseError, PoseSequence

MAX_BYTES = 4 * 2**30
"""Of the unpacked arrays: a million frames of one person. A few megabytes of zeros may unpack to more."""


def write_npz(sequence: PoseSequence, path: Path) -> None:
    header = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "height": int(sequence.height),
        "width": int(sequence.width),
        "fps": float(sequence.fps),
        "metadata": sequence.metadata,
    }
    assert sequence.is_present is not None
    with whole_file(path) as file:
        np.savez_compressed(
            file,
            points=sequence.points,
            scores=sequence.scores,
            is_present=sequence.is_present,
            header=np.array(json.dumps(header)),
        )


def read_npz(path: Path) -> PoseSequence:
    """Read what `write_npz` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        PoseError: the file is no pose file, is damaged, or is of a later version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            unpacked = sum(info.file_size for info in file.zip.infolist())
            if unpacked > MAX_BYTES:
                raise ValueError(f"it unpacks to {unpacked / 2**30:.0f} GiB, more than poses of a clip take")
            header = json.loads(str(file["header"]))
            if header["format"] == FORMAT_NAME and header["version"] <= FORMAT_VERSION:
                arrays = {name: file[name] for name in ("points", "scores", "is_present")}
                settings = {name: header[name] for name in ("height", "width", "fps", "metadata")}
                return PoseSequence(**arrays, **settings)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise PoseError(f"{path} is not a pose file written by `mimic pose`: {one_line(error)}") from error
    if header["format"] != FORMAT_NAME:
        raise PoseError(f"{path} is not a pose file written by `mimic pose`")
    raise PoseError(
        f"{path} has pose format {shown(header['version'])}; this release reads up to {FORMAT_VERSION}. "
        "Update mimic."
    )
