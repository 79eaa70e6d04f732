"""The sound of a driving clip, kept in step with a result that may play at another speed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import av.filter

from mimic.video.probe import VideoError, open_clip

SAMPLE_RATE = 48_000


@dataclass(frozen=True)
class AudioTrack:
    """A stretch of a clip's sound, played ``tempo`` times as fast at the same pitch.

    Time 0 is the clip's first *picture*: sound that begins later is preceded by silence, sound that begins
    earlier is cut. At tempo 1 the stretch is cut to the sample and otherwise left alone; at another tempo
    FFmpeg's ``atempo`` (a waveform-similarity overlap-add) changes the speed and keeps the pitch.

    Args:
        path: the clip.
        start_s: time stamp of the clip's first picture, seconds (`VideoInfo.start_s`).
        duration_s: how much of the clip's time to use, in seconds at the clip's own speed.
        tempo: clip seconds a second of result; 2 plays twice as fast.
    """

    path: Path
    start_s: float
    duration_s: float
    tempo: float = 1.0

    def frames(self) -> Iterator[av.AudioFrame]:
        """Decode lazily: stereo float frames at 48 kHz whose time stamps begin at 0.

        Raises:
            VideoError: the sound cannot be decoded.
        """
        with open_clip(self.path) as container:
            if not container.streams.audio:
                raise VideoError(f"{self.path} has no sound")
            stream = container.streams.audio[0]
            graph = self._graph(stream)
            try:
                for frame in container.decode(stream):
                    graph.push(frame)
                    yield from _pull(graph)
                    if frame.time is not None and frame.time - self.start_s > self.duration_s:
                        break
            except av.error.InvalidDataError as error:
                raise VideoError(
                    f"the sound of {self.path} is damaged ({error.strerror}). "
                    "Convert the clip, or use audio: drop"
                ) from error
            graph.push(None)
            yield from _pull(graph)

    def _graph(self, stream: av.AudioStream) -> av.filter.Graph:
        graph = av.filter.Graph()
        nodes = [graph.add_abuffer(template=stream)]
        for name, arguments in (
            ("asetpts", f"PTS-({self.start_s:.9f}/TB)"),
            ("aresample", f"{SAMPLE_RATE}:async=1:first_pts=0"),
            ("atrim", f"start=0:end={self.duration_s:.9f}"),
            *(("atempo", f"{factor:.9f}") for factor in tempo_chain(self.tempo)),
            ("aformat", f"sample_fmts=fltp:sample_rates={SAMPLE_RATE}:channel_layouts=stereo"),
        ):
            nodes.append(graph.add(name, arguments))
        nodes.append(graph.add("abuffersink"))
        graph.link_nodes(*nodes).configure()
        return graph


def in_step(path: str | os.PathLike[str], *, start_s: float, source_s: float, result_s: float) -> AudioTrack:
    """The sound of ``source_s`` seconds of a clip, as it must play under ``result_s`` seconds of result."""
    tempo = source_s / result_s
    if math.isclose(tempo, 1.0, rel_tol=1e-6):
        tempo = 1.0
    return AudioTrack(Path(path), start_s=start_s, duration_s=source_s, tempo=tempo)


def tempo_chain(tempo: float) -> list[float]:
    """Factors within [0.5, 2], where ``atempo`` blends and drops no samples, whose product is ``tempo``."""
    if math.isclose(tempo, 1.0, rel_tol=1e-9):
        return []
    num_factors = max(1, math.ceil(abs(math.log2(tempo)) - 1e-9))
    return [tempo ** (1 / num_factors)] * num_factors


def _pull(graph: av.filter.Graph) -> Iterator[av.AudioFrame]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        yield frame
