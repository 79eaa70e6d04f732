"""Formats of results, by the suffix of their name: videos, animated pictures, folders of pictures."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True)
class VideoFormat:
    """How a file of one suffix is encoded."""

    muxer: str
    codecs: tuple[str, ...]
    """Encoders by preference; the first that this build of FFmpeg has is used."""
    audio_codec: str | None = None
    """Encoder of the sound; None for formats without sound."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of the muxer."""
    pixel_format: str = "yuv420p"
    needs_even_size: bool = False


_H264 = ("libx264", "mpeg4")
_INDEX_AT_THE_FRONT = {"movflags": "+faststart"}
_NO_RANDOM_IDS = {"fflags": "+bitexact"}

FORMATS = {
    ".mp4": VideoFormat("mp4", _H264, "aac", _INDEX_AT_THE_FRONT, needs_even_size=True),
    ".m4v": VideoFormat("mp4", _H264, "aac", _INDEX_AT_THE_FRONT, needs_even_size=True),
    ".mov": VideoFormat("mov", _H264, "aac", _INDEX_AT_THE_FRONT, needs_even_size=True),
    ".mkv": VideoFormat("matroska", _H264, "aac", _NO_RANDOM_IDS, needs_even_size=True),
    ".webm": VideoFormat("webm", ("libvpx-vp9", "libvpx"), "libopus", _NO_RANDOM_IDS, needs_even_size=True),
    ".gif": VideoFormat("gif", ("gif",), pixel_format="pal8"),
}
"""Formats of one file, by suffix."""

PICTURE_FOLDER = "png"
"""Name of the format that is a folder with one PNG for each frame."""


def is_folder_name(path: Path) -> bool:
    """Whether a result of this name is a folder of pictures: its suffix is none of a video."""
    return path.suffix.lower() not in FORMATS


def stem_of(path: Path) -> str:
    """A result's name without the suffix of a video; a folder's name may have full stops in it."""
    return path.name if is_folder_name(path) else path.stem


def sibling(path: Path, ending: str) -> Path:
    """The name of another result of the same format: ``dance.gif`` with ``_2`` is ``dance_2.gif``."""
    return path.with_name(f"{stem_of(path)}{ending}{'' if is_folder_name(path) else path.suffix}")


def check_format(path: Path) -> None:
    """Raise `ValueError` if a result cannot have this name: it ends like a file of another kind, or like a
    video misspelt. It would be a folder of pictures, which is hardly meant."""
    is_bare = path.name.lower() in FORMATS  # `.mp4`, which is a hidden file without a suffix
    if is_bare or (path.suffix.lower() not in FORMATS and _SUFFIX.fullmatch(path.suffix)):
        raise ValueError(
            f"cannot write {path}: a result's name ends in one of {', '.join(FORMATS)}; without a suffix, it "
            "is a folder with one PNG for each frame"
        )


_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,6}|\.(?:3gp2?|3g2|7z)", re.IGNORECASE)
"""What looks like the suffix of a file, other than a number: ``take.2`` is a folder's name."""
MAX_NAME_BYTES = 200
"""Of a result's name: what is added to it fits into the 255 bytes that file systems take."""


def check_place(path: Path) -> None:
    """Raise `ValueError` if no file can have this name: it is a folder's, too long, or lies in a file."""
    if path.is_dir() and not is_folder_name(path):
        raise ValueError(f"cannot write {path}: it is a folder. Choose another name")
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise ValueError(
            f"cannot write {path}: its name takes {len(os.fsencode(path.name))} bytes, at most "
            f"{MAX_NAME_BYTES} are left for it"
        )
    there = next(place for place in path.absolute().parents if os.path.lexists(place))
    if not there.is_dir():
        raise ValueError(f"cannot write {path}: {there} is no folder. Choose another place")


MIN_FPS, MAX_FPS = 1e-4, 1000.0
"""Rates that files can have: beyond them muxers give up."""
MAX_GIF_FPS = 50
"""Browsers show frames of less than 20 ms for 100 ms."""


def check_rate(path: Path, fps: float | Fraction) -> None:
    """Raise `ValueError` if a result of this name cannot have this frame rate."""
    if is_folder_name(path):
        return
    if not MIN_FPS <= fps <= MAX_FPS:
        raise ValueError(
            f"cannot write {path} at {float(fps):g} frames a second; expected {MIN_FPS:g} to {MAX_FPS:g}. "
            "Set fps"
        )
    if path.suffix.lower() == ".gif" and fps > MAX_GIF_FPS:
        raise ValueError(
            f"cannot write {path} at {float(fps):g} frames a second; players show a GIF at "
            f"{MAX_GIF_FPS} at most. Use a smaller fps or a larger sample_stride, or write a video"
        )
