"""Frames to a video file as they come: H.264, VP9 or GIF, sound alongside, the whole file or none."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray

from mimic.files import replace, whole_file
from mimic.video.audio import SAMPLE_RATE, AudioTrack, missing_of
from mimic.video.formats import FORMATS, check_rate, sibling
from mimic.video.palette import with_own_palettes
from pose.video import VideoError
from pose.video.timing import limited

log = logging.getLogger("mimic")

# What x264 writes depends on the number of its threads, which by default is that of the processors.
_NUM_THREADS = 2


class VideoWriteError(OSError):
    """A video could not be written: no space, no permission, no encoder. Nothing is left under its name;
    where finished frames are kept beside it, the message says where."""


class VideoWriter:
    """Encode frames one by one; the file appears when the ``with`` block ends without an error.

    H.264 (libx264; MPEG-4 part 2 where this build of FFmpeg lacks it), yuv420p, BT.709 and tagged so, index
    at the front (faststart); VP9 with Opus in ``.webm``. Their yuv420p needs even sizes: a frame of odd
    height or width is padded by repeating its last row or column. A ``.gif`` has a palette for each frame
    and no sound. The same frames give the same bytes, whatever the number of processors.

    Sound never costs the pictures: where it fails, the video is finished without the rest of it, and
    `missing` says what is not there. With ``keep_unfinished`` an error leaves the finished frames in a
    playable file ``<stem>.unfinished<suffix>`` beside (an mp4 needs room for its index: not on a full disk).

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov``, ``.mkv``, ``.webm`` or ``.gif``.
        height, width: of the frames, pixels.
        fps: frames a second.
        crf: quality, 0 (lossless) to 51; 18 is visually lossless. Not for ``.gif``.
        audio: sound to carry along, drawn from lazily and never longer than the pictures.
        codec: ``auto`` or the name of an encoder.
        keep_unfinished: keep the frames that are finished when an error ends the work.

    Attributes:
        missing: what of the sound is not in the file, in words, once it is written; None where all is.
        has_audio: the file has a sound track.
        unfinished: where the frames are that were finished before an error; None where there are none.

    Raises:
        ValueError: suffix, size or rate is invalid.
        VideoWriteError: the file cannot be written; the message says why.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        height: int,
        width: int,
        fps: float | Fraction,
        crf: int = 18,
        audio: AudioTrack | None = None,
        codec: str = "auto",
        keep_unfinished: bool = False,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in FORMATS:
            raise ValueError(f"cannot write {self.path}: a video's name ends in one of {', '.join(FORMATS)}")
        if height < 1 or width < 1:
            raise ValueError(f"cannot write a video of {width}x{height} pixels")
        check_rate(self.path, fps)
        self._format = FORMATS[self.path.suffix.lower()]
        self.height, self.width = height, width
        self.fps = fps if isinstance(fps, Fraction) else limited(fps)
        self.num_frames = 0
        self._codec = best_codec(self._format.codecs) if codec == "auto" else codec
        self._crf = crf
        self._audio_track = audio if self._format.audio_codec is not None else None
        self._keep_unfinished = keep_unfinished
        self.missing: str | None = None
        self.unfinished: Path | None = None
        self._audio: av.AudioStream | None = None
        self._sound: Iterator[av.AudioFrame] = iter(())
        self._next_sound: av.AudioFrame | None = None

    @property
    def has_audio(self) -> bool:
        """There is a sound track in the file."""
        return self._audio is not None

    @property
    def duration_s(self) -> float:
        """Seconds written so far."""
        return float(self.num_frames / self.fps)

    def __enter__(self) -> VideoWriter:
        if self.path.is_dir():
            raise VideoWriteError(f"{self.path} could not be written: it is a folder. Choose another name")
        with contextlib.ExitStack() as stack, self._explained():
            self._kept = free_name(self.path)
            self._beside = stack.enter_context(whole_file(self._kept))
            self._container = av.open(
                f"file:{self._beside}", "w", format=self._format.muxer, options=self._format.options
            )
            stack.callback(self._close_quietly)
            self._add_streams()
            self._file = stack.pop_all()
        return self

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Add one frame, uint8 ``H x W x 3`` RGB."""
        check_frame(frame, self.height, self.width)
        if self._format.needs_even_size and (self.height % 2 or self.width % 2):
            frame = np.pad(frame, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
        with self._explained():
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            if self._format.pixel_format == "pal8":
                picture = with_own_palettes(picture)
            else:
                picture = picture.reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
            picture.pts = self.num_frames
            picture.time_base = 1 / self.fps
            self._container.mux(self._video.encode(picture))
            self.num_frames += 1
            self._write_audio_until(self.duration_s)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                raise error
            with self._explained():
                self._finish()
                self._file.close()  # flushes the file to disk
                replace(self._kept, self.path)
        except BaseException as failure:
            self._keep()
            if self.unfinished is not None:
                told = (
                    f"the {self.num_frames} frames that were finished are in {self.unfinished}; rerun the "
                    "same command to make the whole video"
                )
                if isinstance(failure, VideoWriteError):
                    raise VideoWriteError(f"{failure}; {told}") from failure
                log.warning(f"{self.path} was not finished; {told}")
            if failure is not error:
                raise

    def _keep(self) -> None:
        """Finish the file of the frames so far under its other name; remove it if that fails."""
        is_whole = self._kept.exists()  # but could not be renamed
        if self._keep_unfinished and self.num_frames and not is_whole:
            with contextlib.suppress(OSError, av.error.FFmpegError):
                self._finish()
                self._file.close()
            if self._format.muxer in ("matroska", "webm", "gif") and self._beside.exists():
                self._close_quietly()  # can be played wherever it ends
                replace(self._beside, self._kept)
        self._file.__exit__(*sys.exc_info())
        self.unfinished = self._kept if self._kept.exists() else None

    def _add_streams(self) -> None:
        video = self._container.add_stream(self._codec, rate=self.fps, options=self._encoder_options())
        assert isinstance(video, av.VideoStream)
        is_padded = self._format.needs_even_size
        video.width = self.width + (self.width % 2 if is_padded else 0)
        video.height = self.height + (self.height % 2 if is_padded else 0)
        video.pix_fmt = self._format.pixel_format
        video.codec_context.time_base = 1 / self.fps
        if video.pix_fmt == "yuv420p":
            video.codec_context.colorspace = Colorspace.ITU709.value
            video.codec_context.color_range = ColorRange.MPEG.value
            video.codec_context.color_primaries = ColorPrimaries.BT709.value
            video.codec_context.color_trc = ColorTrc.BT709.value
        video.codec_context.thread_count = _NUM_THREADS
        if self._codec == "mpeg4":
            video.codec_context.bit_rate = int(self.width * self.height * float(self.fps) * 0.2)
        self._video = video
        self._sound_until_s = 0.0
        if self._audio_track is None:
            return
        self._sound = self._audio_track.frames()
        self._next_sound = self._sound_frame()
        if self._next_sound is None:
            self.missing = self.missing or "its sound has no samples"
            return
        assert self._format.audio_codec is not None
        audio = self._container.add_stream(self._format.audio_codec, rate=SAMPLE_RATE, layout="stereo")
        assert isinstance(audio, av.AudioStream)
        audio.codec_context.bit_rate = 192_000
        self._audio = audio

    def _encoder_options(self) -> dict[str, str]:
        if self._codec == "libx264":
            return {"crf": str(self._crf), "preset": "medium", **_without_avx512()}
        if self._codec.startswith("libvpx"):  # its scale ends at 63, and 0 bits a second means: by quality
            is_lossless = self._crf == 0 and self._codec == "libvpx-vp9"
            quality = {"lossless": "1"} if is_lossless else {"crf": str(round(self._crf * 63 / 51)), "b": "0"}
            return {**quality, "deadline": "good", "cpu-used": "4", "row-mt": "0"}
        return {"qscale": "3"} if self._codec == "mpeg4" else {}

    def _sound_frame(self) -> av.AudioFrame | None:
        """The next frame of the sound; None at its end and where it fails."""
        try:
            return next(self._sound, None)
        except Exception as error:  # whatever it is, the pictures are worth more
            self._note_lost_sound(error)
            return None

    def _note_lost_sound(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, av.error.FFmpegError) else error
        self.missing = f"the sound from {self._sound_until_s:.1f} s on is missing ({reason})"
        log.warning(f"{self.path}: {self.missing}")

    def _write_audio_until(self, time_s: float) -> None:
        """Encode sound up to the end of the last picture, so that both lie side by side in the file."""
        while self._audio is not None and self._next_sound is not None and self._sound_until_s < time_s:
            frame = self._next_sound
            self._mux_sound(frame)
            self._sound_until_s += frame.samples / SAMPLE_RATE
            self._next_sound = self._sound_frame()

    def _mux_sound(self, frame: av.AudioFrame | None) -> None:
        assert self._audio is not None
        try:
            packets = self._audio.encode(frame)
        except (av.error.FFmpegError, ValueError) as error:
            self._note_lost_sound(error)
            return
        self._container.mux(packets)

    def _finish(self) -> None:
        if self.num_frames == 0:
            raise VideoWriteError(f"{self.path} was not written: it would have no frames")
        self._container.mux(self._video.encode(None))
        if self._audio is not None:
            self._mux_sound(None)
        self._container.close()  # writes the index
        if self._audio_track is not None and self.missing is None:
            self.missing = missing_of(self._audio_track)

    def _close_quietly(self) -> None:
        """Close what an error left open; that error is the one to tell."""
        with contextlib.suppress(OSError, av.error.FFmpegError):
            self._container.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (VideoError, VideoWriteError):
            raise
        except (OSError, av.error.FFmpegError) as error:
            raise VideoWriteError(_reason(error, self.path)) from error


def check_frame(frame: NDArray[np.uint8], height: int, width: int) -> None:
    """Raise `ValueError` unless a frame is uint8 ``height x width x 3``."""
    if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.dtype} {frame.shape}; expected uint8 ({height}, {width}, 3)")


def free_name(path: Path) -> Path:
    """``<stem>.unfinished<suffix>`` beside a video, numbered where files of that name are there already."""
    names = (sibling(path, f".unfinished{f'.{n}' if n else ''}") for n in itertools.count())
    return next(place for place in names if not place.exists())


def _without_avx512() -> dict[str, str]:
    """Options that keep x264 from its AVX-512 code; none on a processor without it.

    There, its macroblock-tree reads memory that nobody wrote: with B frames, one encoding in ten of the same
    frames differed. Its code for AVX2 gives the same bytes always, and in the same time.
    """
    import torch  # 1 s to import, so only where a video is written

    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return {"x264-params": "asm=avx2"} if has_avx512 else {}


def best_codec(codecs: tuple[str, ...] = FORMATS[".mp4"].codecs) -> str:
    """The first encoder that this build of FFmpeg has; the last where it has none of them."""
    return next((codec for codec in codecs if codec in av.codecs_available), codecs[-1])


def _reason(error: OSError | av.error.FFmpegError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return f"{path} could not be written: no space is left on the disk. Free some, or write elsewhere"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} could not be written: permission denied. Write elsewhere"
    return f"{path} could not be written: {error.strerror or error}"
