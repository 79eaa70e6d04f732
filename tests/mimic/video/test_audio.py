"""Sound never costs the pictures: what can be decoded is in step, what cannot is named."""

import random
from pathlib import Path

import av
import pytest

from mimic.video import SoundCheck, VideoWriter, check_audio, probe, read_frames
from mimic.video.audio import AudioTrack, in_step
from tests.media import claps_heard, even_times, number_of, numbered_frame, remux, with_content, write_clip

CLAPS = (0.25, 0.9, 1.55, 2.2)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "clip.mkv"
    return write_clip(path, even_times(50, 20), fps=20, clap_times_s=CLAPS, sound_s=2.5)


def rendered(clip: Path, path: Path, *, num_frames: int = 50) -> VideoWriter:
    """A result of numbered frames at 20 a second, with the sound of a clip."""
    info = probe(clip)
    track = in_step(clip, start_s=info.start_s, source_s=num_frames / 20, result_s=num_frames / 20)
    with VideoWriter(path, height=48, width=64, fps=20, audio=track) as writer:
        for number in range(num_frames):
            writer.write(numbered_frame(number))
    assert [number_of(frame) for frame in read_frames(path)] == list(range(num_frames))
    return writer


def is_sound(packet: av.Packet) -> bool:
    return packet.stream.type == "audio"


@pytest.mark.parametrize("damaged", [{30}, {0, 1}, set(range(40, 50)), {106}])
def test_damaged_packets_are_silent_and_counted(clip: Path, tmp_path: Path, damaged: set[int]) -> None:
    noise = random.Random(1)

    def change(packet: av.Packet, number: int) -> av.Packet:
        is_damaged = is_sound(packet) and number in damaged
        return with_content(packet, noise.randbytes(packet.size)) if is_damaged else packet

    broken = remux(clip, tmp_path / "broken.mkv", change)
    writer = rendered(broken, tmp_path / "out.mp4")
    heard = claps_heard(tmp_path / "out.mp4")
    assert all(any(abs(clap - moment) < 0.03 for moment in heard) for clap in (0.25, 1.55, 2.2))
    check = check_audio(broken, duration_s=2.5)
    assert check.is_usable
    assert writer.missing == check.missing
    assert check.missing is None or "sound packets are damaged" in check.missing


def test_a_track_of_an_unknown_codec_is_none(tmp_path: Path) -> None:
    known = write_clip(tmp_path / "known.mp4", even_times(20, 20), fps=20, clap_times_s=CLAPS, sound_s=1.0)
    unknown = tmp_path / "unknown.mp4"
    unknown.write_bytes(known.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"xsds"))
    assert not probe(unknown).has_audio
    assert check_audio(unknown) == SoundCheck(False, "its sound is of a codec that this FFmpeg cannot decode")
    writer = rendered(unknown, tmp_path / "out.mp4", num_frames=20)
    assert not writer.has_audio
    assert writer.missing is not None


def test_the_track_that_can_be_decoded_is_taken(clip: Path, tmp_path: Path) -> None:
    """The first of two tracks holds nothing that its decoder understands."""
    both = tmp_path / "both.mkv"
    with av.open(str(clip)) as source, av.open(str(both), "w") as target:
        video, sound = source.streams.video[0], source.streams.audio[0]
        film = target.add_stream_from_template(video)
        broken, whole = (target.add_stream_from_template(sound) for _ in range(2))
        for packet in source.demux():
            if packet.size == 0:
                continue
            if packet.stream is sound:
                other = with_content(packet, b"\xff\x07" * 60)
                other.stream = broken
                target.mux(other)
            packet.stream = film if packet.stream is video else whole
            target.mux(packet)
    assert check_audio(both, duration_s=2.5) == SoundCheck(True)
    assert rendered(both, tmp_path / "out.mp4").missing is None
    assert claps_heard(tmp_path / "out.mp4") == pytest.approx(CLAPS, abs=0.005)


@pytest.mark.parametrize("second", [(48_000, "stereo"), (22_050, "mono"), (32_000, "stereo")])
def test_rate_and_layout_may_change_midway(tmp_path: Path, second: tuple[int, str]) -> None:
    parts = [
        write_clip(
            tmp_path / f"{rate}{layout}.ts",
            even_times(25, 25),
            fps=25,
            clap_times_s=(0.25, 0.75),
            sound_s=1.0,
            sound_rate=rate,
            layout=layout,
        )
        for rate, layout in ((44_100, "mono"), second)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert check_audio(joined, start_s=probe(joined).start_s, duration_s=2.0).is_usable
    rendered(joined, tmp_path / "out.mp4", num_frames=40)
    assert claps_heard(tmp_path / "out.mp4") == pytest.approx([0.25, 0.75, 1.25, 1.75], abs=0.05)


@pytest.mark.parametrize("tempo", [0.8, 1.25])
def test_a_change_keeps_step_at_another_tempo(tmp_path: Path, tempo: float) -> None:
    parts = [
        write_clip(
            tmp_path / f"{rate}.ts",
            even_times(25, 25),
            fps=25,
            clap_times_s=(0.5,),
            sound_s=1.0,
            sound_rate=rate,
        )
        for rate in (44_100, 32_000)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    track = in_step(joined, start_s=probe(joined).start_s, source_s=2.0, result_s=2.0 / tempo)
    with VideoWriter(tmp_path / "out.mp4", height=48, width=64, fps=20, audio=track) as writer:
        for _ in range(round(40 / tempo)):
            writer.write(numbered_frame(0))
    assert claps_heard(tmp_path / "out.mp4") == pytest.approx([0.5 / tempo, 1.5 / tempo], abs=0.08)


def test_sound_that_ends_early_is_said(clip: Path, tmp_path: Path) -> None:
    short = remux(clip, tmp_path / "short.mkv", lambda p, n: None if is_sound(p) and n > 40 else p)
    check = check_audio(short, start_s=0.0, duration_s=2.5)
    assert check.is_usable
    assert check.missing == "its sound ends 1.6 s before its pictures"
    assert rendered(short, tmp_path / "out.mp4").missing == check.missing


def test_a_track_without_samples_gives_a_video_without_sound(clip: Path, tmp_path: Path) -> None:
    empty = remux(clip, tmp_path / "empty.mkv", lambda p, n: None if is_sound(p) else p)
    assert not check_audio(empty, duration_s=2.5).is_usable
    writer = rendered(empty, tmp_path / "out.mp4")
    assert not writer.has_audio
    assert "no" in str(writer.missing)
    assert not probe(tmp_path / "out.mp4").has_audio


@pytest.mark.parametrize("wrong_s", [1e6, 3600.0, 30.0])
def test_absurd_time_stamps_of_a_packet_cost_that_packet(clip: Path, tmp_path: Path, wrong_s: float) -> None:
    def change(packet: av.Packet, number: int) -> av.Packet:
        if is_sound(packet) and number == 20:
            packet.pts += round(wrong_s / packet.time_base)
        return packet

    odd = tmp_path / "odd.nut"
    remux(clip, odd, change)
    rendered(odd, tmp_path / "out.mp4")
    assert claps_heard(tmp_path / "out.mp4") == pytest.approx(CLAPS, abs=0.03)


def test_sound_that_fails_while_pictures_are_written_is_missing_and_no_more(
    clip: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.mkv"
    copy.write_bytes(clip.read_bytes())
    track = in_step(copy, start_s=0.0, source_s=1.0, result_s=1.0)
    copy.unlink()
    with VideoWriter(tmp_path / "out.mp4", height=48, width=64, fps=20, audio=track) as writer:
        for number in range(20):
            writer.write(numbered_frame(number))
    assert "there is no video" in str(writer.missing)
    assert probe(tmp_path / "out.mp4").num_frames == 20


def test_checking_a_clip_without_sound_finds_nothing_missing(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", even_times(5, 20), fps=20)
    assert check_audio(silent) == SoundCheck(False)


def test_frames_can_be_read_again(clip: Path) -> None:
    track = AudioTrack(clip, 0.0, 1.0)
    assert [sum(f.samples for f in track.frames()) for _ in range(2)] == [48_000, 48_000]
