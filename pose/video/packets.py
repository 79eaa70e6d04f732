"""The packets of a film and its sound, with time stamps that never begin anew.

Recordings that were joined byte by byte, and streams that were broken off and taken up again, have stamps
that jump: each recording is moved to where the one before it ends, its sound with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import av.container

# Stamps that fall by more than this begin anew, seconds. Decoding times never fall in a sound file.
_FALL_S = 0.2
# In formats made for broadcasting, stamps that leap by more than this belong to another recording, seconds.
_LEAP_S = 10.0


@dataclass
class _Track:
    """How far one stream has come, in seconds of the stream's stamps; `end` is in joined time."""

    recording: int = 0
    last: float | None = None
    last_key: float | None = None
    before_jump: float | None = None
    recording_before_jump: int = 0
    has_leapt: bool = False
    end: float = 0.0

    def jump_to(self, time: float) -> int:
        """Go on to the next decoding time: -1 if it falls, 1 if it leaps, 0 if it follows.

        One or a few packets with a wrong stamp, after which the stamps go on where they were, are a slip.
        """
        last, self.last = self.last, time
        if last is None or last - _FALL_S <= time <= last + _LEAP_S:
            return 0
        if self.before_jump is not None and self._is_back(last, time):
            self.before_jump, self.recording = None, self.recording_before_jump
            return 0
        self.before_jump, self.recording_before_jump = last, self.recording
        self.has_leapt = time > last
        return 1 if time > last else -1

    def _is_back(self, last: float, time: float) -> bool:
        """Whether stamps are where they were before a jump, by a jump in the other direction."""
        assert self.before_jump is not None
        return (time > last) != self.has_leapt and abs(time - self.before_jump) <= _LEAP_S / 2


@dataclass
class JoinedPackets:
    """Iterates over the packets of some streams in the order of the file.

    Args:
        container: an open file.
        film: the stream that says where a recording ends.
        sound: streams that follow it.

    Attributes:
        may_leap: the format is one for broadcasting, in which stamps may go on anywhere.
        offsets: seconds added to the stamps of each recording found so far; the first is 0.
    """

    container: av.container.InputContainer
    film: av.VideoStream
    sound: list[av.AudioStream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.offsets = [0.0]
        self._tracks = {stream.index: _Track() for stream in (self.film, *self.sound)}
        self.may_leap = bool(self.container.format.flags & 0x0200)  # AVFMT_TS_DISCONT
        self._leaps: set[int] = set()  # recordings of which the film's stamps began later, not earlier

    @property
    def end_s(self) -> float:
        """Where the packets read so far end, seconds."""
        return max(track.end for track in self._tracks.values())

    def __iter__(self) -> Iterator[av.Packet]:
        waiting: list[tuple[int, av.Packet]] = []
        for packet in self.container.demux([self.film, *self.sound]):
            recording = self._recording_of(packet)
            # Stamps that slipped and came back were in no other recording.
            waiting = [w for w in waiting if w[1].stream.index != packet.stream.index or w[0] <= recording]
            if recording < len(self.offsets):
                yield self._moved(packet, recording)
            elif packet.stream.index == self.film.index:
                self.offsets.append(self._tracks[self.film.index].end - _seconds(packet))
                yield self._moved(packet, recording)
                for number, other in waiting:
                    yield self._moved(other, number)
                waiting.clear()
            else:
                waiting.append((recording, packet))  # until the film says where its recording lies
        for recording, packet in waiting:  # the film ended before this sound
            if recording >= len(self.offsets):
                self.offsets.append(self._tracks[packet.stream.index].end - _seconds(packet))
            yield self._moved(packet, recording)

    def _recording_of(self, packet: av.Packet) -> int:
        track = self._tracks[packet.stream.index]
        if packet.size == 0 or (packet.pts is None and packet.dts is None):
            return min(track.recording, len(self.offsets) - 1)
        assert packet.time_base is not None
        is_film = packet.stream.index == self.film.index
        if packet.dts is not None:
            time = float(packet.dts * packet.time_base)
            jump = track.jump_to(time)
            if is_film:  # after a slip there are fewer
                del self.offsets[track.recording + 1 :]
            is_leap = jump > 0 and is_film and self.may_leap
            is_new = is_leap or jump < 0
            if is_leap:
                self._leaps.add(track.recording + 1)
        else:  # presentation times rise from key frame to key frame only
            time = _seconds(packet)
            is_new = packet.is_keyframe and track.last_key is not None and time < track.last_key - _FALL_S
            track.last_key = time if packet.is_keyframe else track.last_key
        if not is_new and not is_film and track.recording + 1 in self._leaps:
            is_new = abs(time - (self._tracks[self.film.index].last or 0)) < _LEAP_S / 2
        track.recording += is_new
        return track.recording

    def _moved(self, packet: av.Packet, recording: int) -> av.Packet:
        if packet.time_base is None or packet.size == 0:
            return packet
        ticks = round(self.offsets[recording] / packet.time_base)
        if ticks:
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if packet.pts is not None or packet.dts is not None:
            track = self._tracks[packet.stream.index]
            length = float((packet.duration or 0) * packet.time_base)
            track.end = max(track.end, _seconds(packet) + (length or self._interval(packet)))
        return packet

    def _interval(self, packet: av.Packet) -> float:
        is_film = packet.stream.index == self.film.index
        rate = (self.film.average_rate or self.film.guessed_rate) if is_film else None
        return 1 / float(rate) if rate else 0.0


def _seconds(packet: av.Packet) -> float:
    stamp = packet.pts if packet.pts is not None else packet.dts
    assert stamp is not None
    assert packet.time_base is not None
    return float(stamp * packet.time_base)
