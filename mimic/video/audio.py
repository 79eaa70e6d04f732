"""The sound of a driving clip, kept in step with a result that may play at another speed."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import av.error
import av.filter

from pose.text import one_line
from pose.video import VideoError
from pose.video.film import Film, open_film

SAMPLE_RATE = 48_000

# Packets at the beginning of a track within which a frame must come out, for the track to be chosen.
_TRIED_PACKETS = 100
# Frames in a row beyond the wanted stretch after which nothing of it is to come.
_FRAMES_BEYOND = 100
# Stamps earlier than this before the first picture are no stamps of this clip, seconds.
_EARLIEST_S = 60.0
# And later than this behind the stretch, no reason to fill the time up to them with silence.
_LATEST_S = 10.0
# Sound that ends this much before the pictures is worth a word, seconds.
_SHORT_S = 1.0
# Sound that overlaps with what came before by more than this is cut to follow it exactly, seconds.
_OVERLAP_S = 0.02
_UNBOUNDED_S = 1e6


@dataclass
class Losses:
    """What became of a track while it was decoded."""

    num_packets: int = 0
    num_damaged: int = 0
    ends_s: float | None = None
    """Seconds of the clip after which there was no more; None before that."""

    def forget(self) -> None:
        """Begin anew."""
        self.num_packets, self.num_damaged, self.ends_s = 0, 0, None


@dataclass(frozen=True)
class AudioTrack:
    """A stretch of a clip's sound, played ``tempo`` times as fast at the same pitch.

    Time 0 is the clip's first *picture*: sound that begins later is preceded by silence, sound that begins
    earlier is cut. At tempo 1 the stretch is cut to the sample and otherwise left alone; at another tempo
    FFmpeg's ``atempo`` (a waveform-similarity overlap-add) changes the speed and keeps the pitch. Packets
    that cannot be decoded become silence; frames of another layout or rate are resampled as what they are.

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
    losses: Losses = field(default_factory=Losses, compare=False, repr=False)

    def frames(self) -> Iterator[av.AudioFrame]:
        """Decode lazily: stereo float frames at 48 kHz whose time stamps begin at 0.

        Raises:
            VideoError: no track can be decoded.
        """
        self.losses.forget()
        track = best_track(self.path)
        if track is None:
            raise VideoError(f"{self.path} has no sound that can be decoded")
        with open_film(self.path) as film:
            assert isinstance(film, Film)
            run: _Run | None = None
            num_given = 0
            for frame in self._wanted(film, track):
                if run is None or not run.continues(frame):
                    for part in run.rest() if run is not None else ():
                        yield _stamped(part, num_given)
                        num_given += part.samples
                    run = _Run(self, frame, begin_s=num_given * self.tempo / SAMPLE_RATE)
                for part in run.pushed(frame):
                    yield _stamped(part, num_given)
                    num_given += part.samples
            for part in run.rest() if run is not None else ():
                yield _stamped(part, num_given)
                num_given += part.samples
        self.losses.ends_s = num_given * self.tempo / SAMPLE_RATE

    def _wanted(self, film: Film, track: int) -> Iterator[av.AudioFrame]:
        """Frames of the stretch, those before it included; packets that cannot be decoded are counted."""
        beyond: list[av.AudioFrame] = []
        for frame in _decoded(film, track, self.losses):
            time = None if frame.time is None else frame.time - self.start_s
            if time is not None and time > self.duration_s:
                beyond.append(frame)
                if len(beyond) > _FRAMES_BEYOND:
                    break
            elif time is None or time > -_EARLIEST_S:
                beyond.clear()  # they had wrong stamps
                yield frame
        for frame in beyond[:1]:  # ends the stretch within a frame
            if (frame.time or 0.0) - self.start_s < self.duration_s + _LATEST_S:
                yield frame


@dataclass(frozen=True)
class SoundCheck:
    """What of a clip's sound can be used.

    Args:
        is_usable: there are samples for the stretch that is asked for.
        missing: what is not there, in words; None where nothing is missing.
    """

    is_usable: bool
    missing: str | None = None


def check_audio(
    path: str | os.PathLike[str], *, start_s: float = 0.0, duration_s: float = math.inf
) -> SoundCheck:
    """Decode a stretch of a clip's sound and say what of it can be used; costs about 1 s for 10 minutes.

    Args:
        start_s: time stamp of the clip's first picture (`VideoInfo.start_s`).
        duration_s: seconds of the clip that are used.

    Raises:
        FileNotFoundError, VideoError: there is no such clip.
    """
    path = Path(path)
    with open_film(path) as film:
        if not isinstance(film, Film) or not film.container.streams.audio:
            return SoundCheck(False)
        num_tracks, num_known = len(film.container.streams.audio), len(film.sound)
    if num_known == 0:
        return SoundCheck(False, "its sound is of a codec that this FFmpeg cannot decode")
    if best_track(path) is None:
        tracks = "its sound track holds" if num_tracks == 1 else f"its {num_tracks} sound tracks hold"
        return SoundCheck(False, f"{tracks} nothing that can be decoded")
    track = AudioTrack(path, start_s, min(duration_s, _UNBOUNDED_S))
    num_samples = 0
    try:
        for frame in track.frames():
            num_samples += frame.samples
    except (VideoError, av.error.FFmpegError, ValueError) as error:
        return SoundCheck(False, f"its sound cannot be decoded ({one_line(error)})")
    if num_samples == 0:
        return SoundCheck(False, "its sound track has no samples in the stretch that is used")
    return SoundCheck(True, missing_of(track))


def missing_of(track: AudioTrack) -> str | None:
    """What was missing of a track as far as its frames were read, in words; None where nothing was."""
    losses, parts = track.losses, []
    if losses.num_damaged:
        parts.append(
            f"{losses.num_damaged} of {losses.num_packets} sound packets are damaged and silent in the result"
        )
    if losses.ends_s is not None and losses.ends_s + _SHORT_S < track.duration_s < _UNBOUNDED_S:
        parts.append(f"its sound ends {track.duration_s - losses.ends_s:.1f} s before its pictures")
    return "; ".join(parts) or None


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


def best_track(path: str | os.PathLike[str]) -> int | None:
    """Index of the best sound track that can be decoded; None where there is none.

    Raises:
        FileNotFoundError, VideoError: there is no such clip.
    """
    with open_film(path) as film:
        indices = [track.index for track in film.sound] if isinstance(film, Film) else []
    for index in indices:
        with open_film(path) as film:
            assert isinstance(film, Film)
            losses = Losses()
            for _ in _decoded(film, index, losses, max_packets=_TRIED_PACKETS):
                return index
    return None


def _decoded(
    film: Film, index: int, losses: Losses, *, max_packets: int | None = None
) -> Iterator[av.AudioFrame]:
    """Frames of a track, with stamps that never begin anew, until the file's end or where it is damaged."""
    packets = iter(film.packets())
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):
            return
        if packet.stream.index != index:
            continue
        losses.num_packets += packet.size > 0
        if max_packets is not None and losses.num_packets > max_packets:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            losses.num_damaged += 1
            continue
        for frame in frames:
            if isinstance(frame, av.AudioFrame) and frame.samples > 0:
                yield frame


class _Run:
    """Frames of one layout and rate through the filters.

    Args:
        begin_s: seconds of the stretch, at tempo 1, that earlier runs gave.
    """

    def __init__(self, track: AudioTrack, first: av.AudioFrame, *, begin_s: float) -> None:
        self._kind, self._end_s = _kind(first), -math.inf
        self._graph = av.filter.Graph()
        nodes = [
            self._graph.add_abuffer(
                sample_rate=first.sample_rate,
                format=first.format.name,
                layout=first.layout.name,
                time_base=first.time_base,
            )
        ]
        for name, arguments in (
            ("asetpts", f"PTS-({track.start_s:.9f}/TB)"),
            ("aresample", f"{SAMPLE_RATE}:async=1:first_pts={round(begin_s * first.sample_rate)}"),
            ("atrim", f"start=0:end={track.duration_s:.9f}"),
            *(("atempo", f"{factor:.9f}") for factor in tempo_chain(track.tempo)),
            ("aformat", f"sample_fmts=fltp:sample_rates={SAMPLE_RATE}:channel_layouts=stereo"),
        ):
            nodes.append(self._graph.add(name, arguments))
        nodes.append(self._graph.add("abuffersink"))
        self._graph.link_nodes(*nodes).configure()

    def continues(self, frame: av.AudioFrame) -> bool:
        """Whether a frame can follow: of the same kind, and not before the end of what there is."""
        is_early = frame.time is not None and frame.time < self._end_s - _OVERLAP_S
        return self._kind == _kind(frame) and not is_early

    def pushed(self, frame: av.AudioFrame) -> Iterator[av.AudioFrame]:
        """What comes out for a frame that goes in."""
        if frame.time is not None:
            self._end_s = frame.time + frame.samples / frame.sample_rate
        return self._through(frame)

    def rest(self) -> Iterator[av.AudioFrame]:
        """What is still inside, at the end."""
        return self._through(None)

    def _through(self, frame: av.AudioFrame | None) -> Iterator[av.AudioFrame]:
        with contextlib.suppress(av.error.EOFError):  # the stretch has ended
            self._graph.push(frame)
        while True:
            try:
                pulled = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(pulled, av.AudioFrame)
            yield pulled


def _kind(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _stamped(frame: av.AudioFrame, num_before: int) -> av.AudioFrame:
    """A frame at its place in the result, counted in samples."""
    assert frame.time_base is not None
    frame.pts = round(num_before / SAMPLE_RATE / frame.time_base)
    return frame
