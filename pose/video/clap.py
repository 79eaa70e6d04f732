"""Which part of a stored frame an mp4 or mov file says is to be shown: its ``clap`` box."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from pose.video.shown import Crop

_MAX_INDEX_BYTES = 256 * 2**20
_ENTRY_BYTES = 78  # of a picture's sample entry, before the boxes in it


def clean_aperture(path: Path, track_id: int, height: int, width: int) -> Crop | None:
    """The clean aperture of a track (ISO/IEC 14496-12, 12.1.4) within frames of this size; None for all."""
    index = _index_of(path)
    for track in _named(index, b"trak"):
        header = next(_named(track, b"tkhd"), b"")
        number = header[20:24] if header[:1] == b"\1" else header[12:16]
        if int.from_bytes(number, "big") != track_id:
            continue
        for entries in _inside(track, b"mdia", b"minf", b"stbl", b"stsd"):
            for _, entry in _boxes(entries[8:]):
                for box in _named(entry[_ENTRY_BYTES:], b"clap"):
                    return _crop(box, height, width)
    return None


def _crop(box: bytes, height: int, width: int) -> Crop | None:
    if len(box) < 32:
        return None
    numbers = struct.unpack(">IIIIiIiI", box[:32])
    if 0 in numbers[1::2]:
        return None
    shown_width, shown_height, off_x, off_y = (numbers[i] / numbers[i + 1] for i in (0, 2, 4, 6))
    wide, high = round(shown_width), round(shown_height)
    left, top = round((width - shown_width) / 2 + off_x), round((height - shown_height) / 2 + off_y)
    is_inside = left >= 0 and top >= 0 and left + wide <= width and top + high <= height
    if not is_inside or wide < 1 or high < 1 or (wide, high) == (width, height):
        return None
    return Crop(left, top, wide, high)


def _index_of(path: Path) -> bytes:
    """The content of the ``moov`` box."""
    with open(path, "rb") as file:
        while len(head := file.read(8)) == 8:
            size, kind = struct.unpack(">I4s", head)
            length = size - 8
            if size == 1:
                length = int.from_bytes(file.read(8), "big") - 16
            if kind == b"moov" and 0 <= length <= _MAX_INDEX_BYTES:
                return file.read(length)
            if size == 0 or length < 0:
                break
            file.seek(length, 1)
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the boxes that lie side by side."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size


def _named(data: bytes, name: bytes) -> Iterator[bytes]:
    return (content for kind, content in _boxes(data) if kind == name)


def _inside(data: bytes, *names: bytes) -> Iterator[bytes]:
    """Contents of the boxes at the end of a path of names."""
    if not names:
        yield data
        return
    for content in _named(data, names[0]):
        yield from _inside(content, *names[1:])
