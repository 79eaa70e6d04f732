"""The film of an open file: what its packets tell, and its frames as they are decoded, in order."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import numpy as np
from numpy.typing import NDArray

from pose.video.clap import clean_aperture
from pose.video.interlaced import deinterlaced
from pose.video.packets import JoinedPackets
from pose.video.shown import Crop, Orientation, shown_size, upright_rgb
from pose.video.source import film_of, open_container, sound_tracks
from pose.video.timing import Timing
from pose.video.webp import AnimatedWebP, is_animated_webp

# Codecs of which every packet that is not discarded gives one frame, at the packet's time.
ONE_FRAME_A_PACKET = {
    *("av1", "libdav1d", "ffv1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4"),
    *("dnxhd", "huffyuv", "png", "prores", "rawvideo", "vp9"),
}


class Film:
    """The film of an open container.

    Attributes:
        codec: name of the codec.
        has_audio: there is a sound track that has a decoder.
    """

    def __init__(self, path: Path, container: av.container.InputContainer) -> None:
        self.path, self.container = path, container
        self.stream = film_of(container, path)
        self.sound = sound_tracks(container)
        self.codec: str = self.stream.codec_context.name
        self.has_audio = bool(self.sound)
        self._crop: Crop | None = None
        self._orientation = Orientation()
        self._pixel_ratio: Fraction | None = None
        self._is_ratio_known = False
        if "mp4" in container.format.name:
            self._crop = clean_aperture(
                path, self.stream.id, self.stream.codec_context.height, self.stream.codec_context.width
            )

    @property
    def time_base(self) -> Fraction:
        """Seconds of a tick of the stream's stamps."""
        return self.stream.time_base or Fraction(1, 1000)

    def packets(self) -> JoinedPackets:
        """The packets of film and sound, with stamps that never begin anew."""
        return JoinedPackets(self.container, self.stream, list(self.sound))

    def timing(self) -> Timing:
        """Read all packets; nothing is decoded."""
        packets = self.packets()
        stamps: list[int] = []
        num_frames = num_before_key = num_presented = 0
        has_key = False
        try:
            for packet in packets:
                if packet.stream.index != self.stream.index or packet.size == 0:
                    continue
                if packet.is_keyframe and not has_key:
                    has_key, num_before_key = True, num_frames
                num_frames += 1
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None and not packet.is_discard and not self._is_cut(packet):
                    stamps.append(stamp)
                    num_presented += packet.pts is not None
        except av.error.FFmpegError:
            pass  # what lies behind the damage is missing; what lies before is used
        stated = self.stream.average_rate or self.stream.guessed_rate
        is_even = not stamps or not self.time_base
        if is_even:  # raw streams: frames follow one another at the rate that the codec's header states
            stated = self.stream.guessed_rate or self.stream.average_rate
            times = np.arange(num_frames) / float(stated or 25)
        else:
            times = np.sort(np.array(stamps, dtype=np.float64)) * float(self.time_base)
        lasts = self.stream.duration
        is_timed = "matroska" in self.container.format.name and not self.container.streams.subtitles
        ends = (self.container.duration or 0) / av.time_base if is_timed else 0.0
        return Timing(
            times=times,
            rate=Fraction(stated) if stated else None,
            # avi states the order of decoding alone
            is_stamped=num_presented == len(stamps) > 0 and self.container.format.name != "avi",
            num_cut_off=self._num_cut_off(),
            missing_s=ends - packets.end_s,
            num_stated=self.stream.frames,
            stated_s=float(lasts * self.time_base) if lasts is not None else 0.0,
            num_recordings=len(packets.offsets),
            num_undecodable=num_before_key if has_key else 0,
            is_stream=packets.may_leap,
            is_even=is_even,
        )

    def frames(self, *, is_lenient: bool = False) -> Iterator[av.VideoFrame]:
        """Decode in order, from the first key frame on, interlaced frames made whole.

        Args:
            is_lenient: leave out what cannot be decoded.

        Raises:
            av.error.FFmpegError: a packet cannot be decoded, and this is not the lenient pass.
        """
        return deinterlaced(self._decoded(is_lenient=is_lenient))

    @property
    def pixel_ratio(self) -> Fraction | None:
        """Width of a pixel over its height, as known with the first frame; None for 1."""
        return self._pixel_ratio if self._is_ratio_known else self.stream.sample_aspect_ratio

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(height, width) of a frame as it is shown."""
        return shown_size(frame, self.pixel_ratio, self._crop, matrix=self._orientation(frame))

    def shown(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """A frame as it is shown, uint8 ``H x W x 3`` RGB."""
        return upright_rgb(frame, self.pixel_ratio, self._crop, matrix=self._orientation(frame))

    def _decoded(self, *, is_lenient: bool) -> Iterator[av.VideoFrame]:
        for packet in self._from_first_key():
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                if not is_lenient:
                    raise
                continue
            for frame in decoded:
                assert isinstance(frame, av.VideoFrame)
                if not self._is_ratio_known:  # the frame may be shown when the file is closed again
                    self._pixel_ratio, self._is_ratio_known = self.stream.sample_aspect_ratio, True
                yield frame
        with contextlib.suppress(av.error.FFmpegError):  # EOFError where the last packet emptied the decoder
            yield from self.stream.codec_context.decode(None)

    def _from_first_key(self) -> Iterator[av.Packet]:
        """The film's packets without those that need a key frame which is not there."""
        before: list[av.Packet] | None = []
        packets = iter(self.packets())
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.error.FFmpegError:
                break  # the file ends in damage
            if packet.stream.index != self.stream.index or self._is_cut(packet):
                continue
            if before is None or packet.is_keyframe:
                before = None
                yield packet
            else:
                before.append(packet)
        yield from before or ()

    def _is_cut(self, packet: av.Packet) -> bool:
        """Whether a packet is the rest of one that the end of the file cuts."""
        if not packet.is_corrupt or packet.pos is None:
            return False
        return packet.pos + packet.size >= self._file_size

    def _num_cut_off(self) -> int:
        """Frames of the index that lie beyond the file's end."""
        entries = self.stream.index_entries
        if self.stream.frames == 0 or len(entries) != self.stream.frames:
            return 0
        size = self._file_size
        return sum(entry.pos + entry.size > size for entry in entries)

    @property
    def _file_size(self) -> int:
        return os.stat(self.path).st_size


@contextmanager
def open_film(path: str | os.PathLike[str]) -> Iterator[Film | AnimatedWebP]:
    """Open a file that holds a film: a video, an animation or a single picture.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: it cannot be opened, or holds no film.
    """
    path = Path(path)
    with open_container(path) as container:
        if container.format.name == "webp_pipe" and is_animated_webp(path):
            yield AnimatedWebP(path)
        else:
            yield Film(path, container)
