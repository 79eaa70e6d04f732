"""Frames to a folder of pictures as they come, or to a video: whichever the name asks for."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mimic.files import whole_folder
from mimic.video.audio import AudioTrack
from mimic.video.formats import check_format, is_folder_name
from mimic.video.images import write_image
from mimic.video.write import VideoWriteError, VideoWriter, check_frame, free_name

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger("mimic")


class FrameWriter(Protocol):
    """What takes frames one by one; the result appears when the ``with`` block ends without an error."""

    missing: str | None

    @property
    def has_audio(self) -> bool:
        """Whether the result has a sound track."""

    def __enter__(self) -> Self: ...

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add one frame, uint8 ``H x W x 3`` RGB."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_writer(
    path: Path,
    *,
    height: int,
    width: int,
    fps: float | Fraction,
    crf: int = 18,
    audio: AudioTrack | None = None,
    keep_unfinished: bool = False,
) -> FrameWriter:
    """Return the writer of a result: a `FolderWriter` for a folder's name, else a `VideoWriter`.

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov``, ``.mkv``, ``.webm`` or ``.gif``; or a folder, which gets one PNG
            for each frame and no sound.
        height, width, fps, crf, audio, keep_unfinished: as `VideoWriter` takes them.

    Raises:
        ValueError: suffix, size or rate is invalid.
    """
    check_format(path)
    if is_folder_name(path):
        return FolderWriter(path, height=height, width=width, keep_unfinished=keep_unfinished)
    return VideoWriter(
        path,
        height=height,
        width=width,
        fps=fps,
        crf=crf,
        audio=audio,
        keep_unfinished=keep_unfinished,
    )


class FolderWriter:
    """Write frames as ``00001.png``, ``00002.png``, …; the folder appears when all of them are there.

    Args:
        path: the folder; one of that name is replaced.
        height, width: of the frames, pixels.
        keep_unfinished: keep the frames that are finished when an error ends the work, in
            ``<name>.unfinished`` beside.

    Raises:
        VideoWriteError: a file cannot be written; the message says why.
    """

    has_audio = False
    missing: str | None = None

    def __init__(self, path: Path, *, height: int, width: int, keep_unfinished: bool = False) -> None:
        self.path, self.height, self.width = path, height, width
        self.num_frames = 0
        self._keep_unfinished = keep_unfinished

    def __enter__(self) -> FolderWriter:
        if self.path.is_file():
            raise VideoWriteError(f"{self.path} could not be written: it is a file. Choose another name")
        with contextlib.ExitStack() as stack, self._explained():
            self._beside = stack.enter_context(whole_folder(self.path))
            self._folder = stack.pop_all()
        return self

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add one frame, uint8 ``H x W x 3`` RGB."""
        check_frame(frame, self.height, self.width)
        with self._explained():
            write_image(self._beside / f"{self.num_frames + 1:05d}.png", frame)
        self.num_frames += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._keep_unfinished and self.num_frames:
            kept = free_name(self.path)
            with contextlib.suppress(OSError):
                os.replace(self._beside, kept)
                told = f"its {self.num_frames} finished frames are in {kept}"
                log.warning(f"{self.path} was not finished; {told}")
        with self._explained():
            self._folder.__exit__(kind, error, trace)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except VideoWriteError:
            raise
        except OSError as error:
            raise VideoWriteError(f"{self.path} could not be written: {error.strerror or error}") from error
