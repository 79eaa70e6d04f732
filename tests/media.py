"""Clips and sounds made for tests: numbered frames, any time stamps, turned, with claps at known moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

NUM_BITS = 8
SOUND_RATE = 44_100


def numbered_frame(number: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A frame that carries its number as eight vertical bars; a red top left corner tells which way is up."""
    frame = np.full((height, width, 3), 128, np.uint8)
    for bit in range(NUM_BITS):
        columns = slice(bit * width // NUM_BITS, (bit + 1) * width // NUM_BITS)
        frame[height // 2 :, columns] = 235 if number >> bit & 1 else 20
    frame[: height // 4, : width // 4] = (220, 20, 20)
    return frame


def number_of(frame: NDArray[np.uint8]) -> int:
    """The number that a frame carries."""
    height, width = frame.shape[:2]
    row = frame[height * 3 // 4]
    return sum(int(row[int((bit + 0.5) * width / NUM_BITS)].mean() > 128) << bit for bit in range(NUM_BITS))


def write_clip(
    path: Path,
    times_s: Sequence[float],
    *,
    fps: float = 30,
    height: int = 48,
    width: int = 64,
    rotation: int | None = None,
    pixel_ratio: Fraction | None = None,
    clap_times_s: Sequence[float] = (),
    sound_s: float | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    sound_codec: str = "aac",
    sound_rate: int = SOUND_RATE,
    layout: str = "mono",
) -> Path:
    """A clip with frame n shown at ``times_s[n]``; with claps (4 ms bursts) at given times on the sound."""
    time_base = Fraction(1, 90_000)
    with av.open(str(path), "w") as container:
        options = options or ({"crf": "10", "preset": "veryfast"} if codec == "libx264" else {})
        if codec == "libx265":
            options["x265-params"] = f"{options.get('x265-params', 'bframes=3')}:log-level=none"
        video = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        video.width, video.height = width, height
        video.pix_fmt = pixel_format
        if codec != "mpeg2video":
            video.codec_context.time_base = time_base
        if rotation is not None:
            video.set_display_rotation(rotation)
        if pixel_ratio is not None:
            video.codec_context.sample_aspect_ratio = pixel_ratio
        audio = container.add_stream(sound_codec, rate=sound_rate, layout=layout) if sound_s else None
        for number, time in enumerate(times_s):
            picture = av.VideoFrame.from_ndarray(numbered_frame(number, height, width), format="rgb24")
            picture.pts, picture.time_base = round(time / time_base), time_base
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if audio is not None and sound_s:
            for frame in _clapping(clap_times_s, sound_s, sound_rate, layout):
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def remux(source: Path, target: Path, change: Callable[[av.Packet, int], av.Packet | None]) -> Path:
    """A copy packet by packet.

    Args:
        change: given a packet and its number in its stream; gives what is written for it, None for nothing.
    """
    with av.open(str(source)) as whole, av.open(str(target), "w") as copy:
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in whole.streams}
        numbers = dict.fromkeys(streams, 0)
        for packet in whole.demux():
            index = packet.stream.index
            if packet.size == 0:
                continue
            changed = change(packet, numbers[index])
            numbers[index] += 1
            if changed is not None:
                changed.stream = streams[index]
                copy.mux(changed)
    return target


def with_content(packet: av.Packet, content: bytes) -> av.Packet:
    """A packet of other bytes in the place of one."""
    changed = av.Packet(content)
    changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
    changed.duration, changed.is_keyframe = packet.duration, packet.is_keyframe
    return changed


def even_times(num_frames: int, fps: float) -> list[float]:
    return [number / fps for number in range(num_frames)]


def claps_heard(path: Path) -> list[float]:
    """Moments of the loud bursts on a clip's sound track, seconds after the first picture."""
    with av.open(str(path)) as container:
        first_picture = next(container.decode(video=0)).time
        container.seek(0)
        chunks, start = [], None
        for frame in container.decode(audio=0):
            start = frame.time if start is None else start
            rate = frame.sample_rate
            chunks.append(np.abs(frame.to_ndarray().astype(np.float64)).mean(axis=0))
    loudness = np.concatenate(chunks)
    peaks: list[float] = []
    for index in np.flatnonzero(loudness > 0.4 * loudness.max()):
        moment = start + index / rate - first_picture
        if not peaks or moment - peaks[-1] > 0.1:
            peaks.append(moment)
    return peaks


def _clapping(clap_times_s: Sequence[float], sound_s: float, rate: int, layout: str) -> list[av.AudioFrame]:
    signal = np.zeros(round(sound_s * rate), np.float32)
    time = np.arange(int(0.004 * rate)) / rate
    burst = (0.9 * np.sin(2 * np.pi * 2000 * time)).astype(np.float32)
    for clap in clap_times_s:
        begin = round(clap * rate)
        signal[begin : begin + len(burst)] = burst[: len(signal) - begin]
    frames = []
    for begin in range(0, len(signal), 1024):
        channels = np.repeat(signal[None, begin : begin + 1024], av.AudioLayout(layout).nb_channels, axis=0)
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, Fraction(1, rate)
        frames.append(frame)
    return frames
