"""A contact sheet of a side-by-side video: reference; driving clip and maps above the frames made of them.

Legend: H height, W width. Pictures are RGB uint8.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mimic.files import whole_file
from mimic.generation.panels import STRIP, num_panels
from mimic.results import PlainFiles, ResultError, set_aside
from mimic.video import probe, read_frames
from mimic.video.images import BROKEN
from mimic.weights.sources import sha256

NUM_COLUMNS, NUM_BANDS = 6, 2
CELL_HEIGHT = 192
PAPER = 255
"""Brightness of what shows nothing."""
_MARK = "mimic-sheet-of"
"""PNG text that holds the hash of the video that a sheet shows."""


def check_sheet(path: Path) -> None:
    """Refuse to replace a picture that is not a sheet of ours.

    Raises:
        ResultError: there is such a picture.
    """
    if path.exists() and _shown(path) is None:
        raise ResultError(
            f"{path} is there and is no contact sheet of mimic's; it is not replaced. Choose another output "
            "folder, or move it away"
        )


def write_sheet(video: Path, result: Path, path: Path, *, overwrite: bool = False) -> Path | None:
    """Write the contact sheet of a side-by-side video; a sheet of the same video is kept as it is.

    Args:
        video: the side-by-side video.
        result: the video that it belongs to.
        path: the sheet, ``.png``.
        overwrite: replace a sheet of another video; if false, it is renamed to ``<name>.1.png``.

    Returns:
        the new name of the former sheet, None where there was none or it was not renamed.

    Raises:
        ResultError: there is a picture that is no sheet of ours.
    """
    check_sheet(path)
    of_video = sha256(video)
    if path.exists() and _shown(path) == of_video:
        return None
    sheet = draw_sheet(video, result)
    mark = PngInfo()
    mark.add_text(_MARK, of_video)
    with set_aside(PlainFiles((path,)), is_kept=not overwrite) as former, whole_file(path) as beside:
        Image.fromarray(sheet).save(beside, format="PNG", pnginfo=mark, optimize=True)
    return None if former is None else next(iter(former))


def draw_sheet(video: Path, result: Path) -> NDArray[np.uint8]:
    """Draw moments evenly spread over the side-by-side video of a result, ``H x W x 3``."""
    info, made = probe(video), probe(result)
    num_frames, count = info.num_frames, num_panels(info.width, of_result=(made.height, made.width))
    wanted = np.linspace(0, num_frames - 1, min(num_frames, NUM_COLUMNS * NUM_BANDS)).round().astype(int)
    chosen = set(wanted.tolist())
    columns = [
        _column(frame[STRIP:], count) for number, frame in enumerate(read_frames(video)) if number in chosen
    ]
    num_columns = min(len(columns), NUM_COLUMNS)
    height, width = columns[0][1].shape[:2]
    bands = []
    for first in range(0, len(columns), num_columns):
        moments = [column for _, column in columns[first : first + num_columns]]
        moments += [np.full_like(moments[0], PAPER)] * (num_columns - len(moments))
        reference = np.full((height, width, 3), PAPER, np.uint8)
        reference[height - CELL_HEIGHT :] = columns[0][0]
        bands.append(np.concatenate([reference, *moments], axis=1))
    return np.concatenate(bands)


def _column(panels: NDArray[np.uint8], count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the reference, and the other panels below each other, of a frame without its labels."""
    height, width = panels.shape[:2]
    size = (max(1, round(width / count * CELL_HEIGHT / height)), CELL_HEIGHT)
    reference, *others = (
        np.asarray(cv2.resize(panel, size, interpolation=cv2.INTER_AREA), np.uint8)
        for panel in np.split(panels[:, : width // count * count], count, axis=1)
    )
    return reference, np.concatenate(others)


def _shown(path: Path) -> str | None:
    """Return the hash of the video that a sheet shows; None for other files."""
    try:
        with Image.open(path) as image:
            shown = getattr(image, "text", {}).get(_MARK)
    except BROKEN:
        return None
    return shown if isinstance(shown, str) else None
