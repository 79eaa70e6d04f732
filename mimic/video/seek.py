"""How is one frame in the middle of a clip read? Frame n here is frame n of `read_frames`, to the pixel.

The clip's packets tell where frames and key frames lie; what is wanted is decoded from the key frame before
it. Files of which packets do not tell that for sure (some codecs hide frames, gif has no key frames) are
decoded from the start.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from pose.video import VideoError, VideoInfo, probe, read_frames
from pose.video.film import ONE_FRAME_A_PACKET, Film, open_film

Image = NDArray[np.uint8]

# Open files of a parent process. A forked child must neither use nor close them: their decoder's threads
# do not exist in it, and closing would wait for them.
_INHERITED: list[Any] = []


class _Lost(Exception):
    """Decoding did not come by the frame that the packets promise."""


@dataclass(frozen=True)
class FrameTable:
    """Where the frames of a file lie.

    Args:
        info: what `probe` found.
        stamps: the time stamp of each frame that `read_frames` gives, in units of the stream; of a clip of
            variable rate one stamp may stand for several frames. None: packets do not tell.
        keys: time stamps from which decoding can start, ascending.
        num_frames: frames that `read_frames` gives; where packets do not tell, how many it should give.
    """

    info: VideoInfo
    stamps: NDArray[np.int64] | None
    keys: NDArray[np.int64]
    num_frames: int


def frame_table(path: str | os.PathLike[str]) -> FrameTable:
    """Read a file's packets; nothing is decoded but the first frame.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: the file is no clip that can be read.
    """
    info = probe(path)
    stamps: list[int] = []
    keys: list[int] = []
    is_sure = info.codec in ONE_FRAME_A_PACKET and not info.faults
    base = Fraction(1, 1000)
    with open_film(path) as film:
        if not isinstance(film, Film):
            return FrameTable(info, None, np.zeros(0, np.int64), info.num_frames)
        base = film.time_base
        try:
            for packet in film.packets():
                if packet.size == 0 or packet.stream.index != film.stream.index:
                    continue
                if packet.pts is None:
                    is_sure = False
                    break
                if packet.is_keyframe:
                    keys.append(packet.pts)
                if not packet.is_discard:
                    stamps.append(packet.pts)
        except av.error.FFmpegError:
            is_sure = False  # damaged somewhere; reading from the start says where
    shown = np.unique(np.array(stamps, np.int64))
    is_sure = is_sure and len(keys) > 0 and len(shown) == len(stamps) == info.num_frames
    if info.is_variable_rate and len(shown):
        times = shown.astype(np.float64) * float(base.numerator) / float(base.denominator)
        shown = shown[_on_even_grid(times, info)]
    num_frames = len(shown) if is_sure or info.is_variable_rate else info.num_frames
    return FrameTable(info, shown if is_sure else None, np.unique(np.array(keys, np.int64)), num_frames)


def _on_even_grid(times: NDArray[np.float64], info: VideoInfo) -> NDArray[np.int64]:
    """Which frame each tick of the grid of `read_frames` shows: the last one whose time has come."""
    start, fps = info.start_s, float(info.fps)
    ticks = start + (np.arange(int((times[-1] - start) * fps) + 2) + 0.5) / fps
    num_ticks = int((ticks < times[-1]).sum()) + 1
    shown = np.searchsorted(times, ticks[:num_ticks], side="right") - 1
    shown[-1] = len(times) - 1
    return np.asarray(np.maximum(shown, 0), np.int64)


class FrameReader:
    """A clip that stays open for reading frames in any order.

    Args:
        path: the clip.
        table: what `frame_table(path)` gave, where the caller has it already.
        num_threads: of the decoder.

    Raises:
        FileNotFoundError, VideoError: as `frame_table`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, table: FrameTable | None = None, num_threads: int = 1
    ) -> None:
        self.path = Path(path)
        self.table = table or frame_table(path)
        self._num_threads = num_threads
        self._exit = ExitStack()
        self._film: Any = None
        self._decoded: Iterator[av.VideoFrame] = iter(())
        self._at: int | None = None  # the stamp of the last frame decoded
        self._in_order: Iterator[Image] = iter(())
        self._next_in_order: int | None = None

    def read(self, frames: Sequence[int]) -> list[Image]:
        """Frames by their numbers, in the order asked for, each uint8 ``H x W x 3`` RGB.

        Raises:
            IndexError: the clip has no such frame.
            VideoError: the file is damaged there.
        """
        for number in frames:
            is_beyond = self.table.stamps is not None and number >= self.table.num_frames
            if number < 0 or is_beyond:
                raise IndexError(
                    f"{self.path} has frames 0 to {self.table.num_frames - 1}; there is no frame {number}"
                )
        wanted = sorted(set(frames))
        pictures = self._by_seeking(wanted) if self.table.stamps is not None else None
        if pictures is None:
            pictures = self._by_counting(wanted)
        return [pictures[number] for number in frames]

    def close(self) -> None:
        """Close the file; reading opens it again."""
        self._exit.close()
        self._film = self._at = None
        self._in_order, self._next_in_order = iter(()), None

    def _by_seeking(self, wanted: Iterable[int]) -> dict[int, Image] | None:
        """None where the packets turn out not to tell the truth; the reader counts from then on."""
        assert self.table.stamps is not None
        pictures: dict[int, Image] = {}
        by_stamp: dict[int, Image] = {}
        try:
            for number in wanted:
                stamp = int(self.table.stamps[number])
                if stamp not in by_stamp:
                    by_stamp = {stamp: self._at_stamp(stamp)}
                pictures[number] = by_stamp[stamp]
        except (_Lost, av.error.FFmpegError):
            self.close()
            self.table = FrameTable(self.table.info, None, self.table.keys, self.table.num_frames)
            return None
        return pictures

    def _at_stamp(self, stamp: int) -> Image:
        keys = self.table.keys
        before = int(np.searchsorted(keys, stamp, side="right")) - 1
        is_ahead = self._at is not None and self._at < stamp and (before < 0 or keys[before] <= self._at)
        if is_ahead:
            return self._decode_until(stamp)
        # Containers seek by decoding time or by showing time: where one lands too late, an earlier one helps.
        for key in range(before, max(before - 3, -1), -1):
            self._open_at(int(keys[key]))
            try:
                return self._decode_until(stamp)
            except _Lost:
                continue
        self._open_at(None)
        return self._decode_until(stamp)

    def _open_at(self, key: int | None) -> None:
        if key is None or self._film is None:
            self.close()
            self._film = self._exit.enter_context(open_film(self.path))
            self._film.stream.codec_context.thread_count = self._num_threads
        container, stream = self._film.container, self._film.stream
        if key is not None:
            container.seek(key, stream=stream, backward=True)
        self._decoded = container.decode(stream)
        self._at = None

    def _decode_until(self, stamp: int) -> Image:
        """The frame shown at a stamp, decoding on.

        Raises:
            _Lost: there is none between here and the end.
        """
        for frame in self._decoded:
            if frame.pts is None or frame.interlaced_frame:
                raise _Lost  # what an interlaced frame shows depends on its neighbours
            self._at = frame.pts
            if frame.pts == stamp:
                return np.asarray(self._film.shown(frame), np.uint8)
            if frame.pts > stamp:
                raise _Lost
        self._at = None
        raise _Lost

    def _by_counting(self, wanted: Iterable[int]) -> dict[int, Image]:
        pictures = {}
        for number in wanted:
            if self._next_in_order is None or number < self._next_in_order:
                self._in_order = read_frames(self.path, info=self.table.info)
                self._next_in_order = 0
            picture = None
            while self._next_in_order <= number:
                picture = next(self._in_order, None)
                self._next_in_order += 1
                if picture is None:
                    num_there = self._next_in_order - 1
                    self.close()
                    raise VideoError(f"{self.path} ends after {num_there} frames; there is no frame {number}")
            assert picture is not None
            pictures[number] = picture
        return pictures


class ReaderPool:
    """Clips that stay open between reads, the least recently used closed when there are too many.

    A copy for another process starts with none open, so that processes never share a place in a file.

    Args:
        max_open: files kept open.
    """

    def __init__(self, max_open: int = 8) -> None:
        self.max_open = max_open
        self._forget()

    def read(self, path: str | os.PathLike[str], frames: Sequence[int]) -> list[Image]:
        """As `FrameReader.read` of the file."""
        return self._reader(Path(path)).read(frames)

    def close(self) -> None:
        """Close all files."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def _reader(self, path: Path) -> FrameReader:
        if self._process != os.getpid():
            _INHERITED.append(self._readers)
            self._forget()
        reader = self._readers.pop(path, None)
        if reader is None:
            while len(self._readers) >= self.max_open:
                self._readers.popitem(last=False)[1].close()
            reader = FrameReader(path, table=self._tables.get(path))
            self._tables[path] = reader.table
        self._readers[path] = reader
        return reader

    def _forget(self) -> None:
        self._process = os.getpid()
        self._readers: OrderedDict[Path, FrameReader] = OrderedDict()
        self._tables: dict[Path, FrameTable] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"max_open": self.max_open}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["max_open"])  # type: ignore[misc]
