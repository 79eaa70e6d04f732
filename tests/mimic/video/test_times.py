"""Pictures and sound keep their times, and pictures look right, in cut, joined, damaged or odd files."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mimic.video import VideoError, VideoWriter, probe, read_frames
from mimic.video.audio import in_step
from mimic.video.seek import FrameReader
from pose.video.hdr import HLG, PQ, tone_mapped
from tests.media import (
    claps_heard,
    even_times,
    number_of,
    numbered_frame,
    remux,
    with_content,
    write_clip,
)

CLAPS = tuple(np.arange(0.25, 3.9, 0.5).tolist())
X264 = "keyint=20:min-keyint=20:scenecut=0:bframes=3"


def film(path: Path, *, codec: str = "libx264", params: str = X264, **more: object) -> Path:
    """4 s of numbered frames at 20 a second; a clap in the middle of every half second."""
    name = "x264-params" if codec == "libx264" else "x265-params"
    settings = {"fps": 20, "clap_times_s": CLAPS, "sound_s": 4.0, **more}
    return write_clip(path, even_times(80, 20), codec=codec, options={name: params}, **settings)  # type: ignore[arg-type]


def shown(path: Path) -> tuple[list[int], list[str]]:
    """The numbers of the frames, and the faults found."""
    info = probe(path)
    numbers = [number_of(frame) for frame in read_frames(path, info=info)]
    assert len(numbers) == info.num_frames
    return numbers, info.faults


def assert_in_step(path: Path, folder: Path) -> None:
    """Clap n sounds while the frame is shown that was recorded with it."""
    info = probe(path)
    seconds = info.num_frames / float(info.fps)
    track = in_step(path, start_s=info.start_s, source_s=seconds, result_s=seconds)
    numbers = []
    with VideoWriter(folder / "out.mp4", height=48, width=64, fps=info.fps, audio=track) as writer:
        for frame in read_frames(path, info=info):
            numbers.append(number_of(frame))
            writer.write(frame)
    heard = claps_heard(folder / "out.mp4")
    assert len(heard) >= 2
    for moment in heard:
        recorded = numbers[int(moment * float(info.fps))] / 20  # the frame that is on screen
        assert min(abs(clap - recorded - 0.025) for clap in CLAPS) < 0.08


def without_first(source: Path, target: Path, num_packets: int) -> Path:
    """A copy whose film lacks its first packets, and whose sound begins where they would have been shown."""
    return remux(source, target, lambda p, n: None if p.stream.type == "video" and n < num_packets else p)


@pytest.mark.parametrize(
    ("codec", "suffix", "num_lost"),
    [("libx264", "ts", 4), ("libx264", "ts", 16), ("libx264", "mkv", 16), ("libx265", "ts", 16)],
)
def test_a_stream_cut_between_key_frames_begins_with_its_first_whole_picture(
    tmp_path: Path, codec: str, suffix: str, num_lost: int
) -> None:
    whole = film(tmp_path / f"whole.{suffix}", codec=codec)
    cut = without_first(whole, tmp_path / f"cut.{suffix}", num_lost)
    numbers, faults = shown(cut)
    assert numbers == list(range(20, 80))
    assert "begins between key frames" in faults[0]
    assert_in_step(cut, tmp_path)


@pytest.mark.parametrize(
    ("codec", "params"), [("libx264", f"{X264}:open-gop=1"), ("libx265", f"{X264}:open-gop=1")]
)
def test_an_open_gop_copy_begins_with_the_picture_that_can_be_seen(
    tmp_path: Path, codec: str, params: str
) -> None:
    whole = film(tmp_path / "whole.mkv", codec=codec, params=params)
    with av.open(str(whole)) as container:
        keys = [n for n, p in enumerate(container.demux(video=0)) if p.is_keyframe]
    copy = without_first(whole, tmp_path / "copy.mkv", keys[1])
    numbers, _ = shown(copy)
    assert numbers == list(range(numbers[0], 80))
    assert numbers[0] >= 20
    assert_in_step(copy, tmp_path)


@pytest.mark.parametrize(("first", "last"), [(20, 39), (30, 32), (70, 79)])
def test_frames_that_cannot_be_decoded_are_held_and_said(tmp_path: Path, first: int, last: int) -> None:
    whole = film(tmp_path / "whole.mkv", codec="libx265", params="keyint=1:bframes=0")

    def change(packet: av.Packet, number: int) -> av.Packet:
        if packet.stream.type == "video" and first <= number <= last:
            content = bytes(packet)
            return with_content(packet, content[:4] + b"\x7e" + content[5:6] + b"\x55" * (len(content) - 6))
        return packet

    broken = remux(whole, tmp_path / "broken.mkv", change)
    numbers, faults = shown(broken)
    assert numbers == [first - 1 if first <= n <= last else n for n in range(80)]
    assert faults == [
        f"cannot be decoded from {first / 20:.2f} to {(last + 1) / 20:.2f} s; the picture before is shown "
        "there, so that all else keeps its time"
    ]
    reader = FrameReader(broken)
    for number in (79, first, 5, last):
        assert number_of(reader.read([number])[0]) == numbers[number]


@pytest.mark.parametrize("num_parts", [2, 3])
def test_joined_recordings_follow_one_another_with_their_sound(tmp_path: Path, num_parts: int) -> None:
    part = write_clip(tmp_path / "a.ts", even_times(20, 20), fps=20, clap_times_s=(0.5,), sound_s=1.0)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * num_parts)
    numbers, faults = shown(joined)
    assert numbers == list(range(20)) * num_parts
    assert f"read as {num_parts} recordings" in faults[0]
    info = probe(joined)
    assert (info.fps, info.is_variable_rate) == (20, False)
    track = in_step(joined, start_s=info.start_s, source_s=num_parts, result_s=num_parts)
    with VideoWriter(tmp_path / "out.mp4", height=48, width=64, fps=20, audio=track) as writer:
        for frame in read_frames(joined, info=info):
            writer.write(frame)
    expected = [0.5 + part for part in range(num_parts)]
    assert claps_heard(tmp_path / "out.mp4") == pytest.approx(expected, abs=0.04)


def test_a_recording_that_was_taken_up_again_later_follows_at_once(tmp_path: Path) -> None:
    part = write_clip(tmp_path / "a.ts", even_times(20, 20), fps=20)
    later = write_clip(tmp_path / "b.ts", [900 + time for time in even_times(20, 20)], fps=20)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() + later.read_bytes())
    assert shown(joined)[0] == [*range(20), *range(20)]


def test_a_file_that_is_cut_off_keeps_its_rate_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "whole.mp4"
    noise = np.random.default_rng(0)
    with VideoWriter(path, height=64, width=64, fps=10) as writer:
        for _ in range(60):
            writer.write(noise.integers(0, 255, (64, 64, 3)).astype(np.uint8))
    with av.open(str(path)) as container:
        ends = sorted(entry.pos + entry.size for entry in container.streams.video[0].index_entries)
    for num_left in (55, 57, 59):
        cut = tmp_path / f"{num_left}.mp4"
        cut.write_bytes(path.read_bytes()[: ends[num_left - 1] + 10])
        info = probe(cut)
        assert info.fps == 10
        assert info.faults == [f"is cut off: {num_left} of its 60 frames are there"]
        assert len(list(read_frames(cut, info=info))) == info.num_frames
    cut.write_bytes(path.read_bytes()[: ends[35]])
    with pytest.raises(VideoError, match=r"cut off: 36 of its 60 frames are there\. Copy it again"):
        probe(cut)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.7, 0.83, 0.95])
def test_a_stream_that_ends_anywhere_keeps_its_rate(tmp_path: Path, share: float) -> None:
    whole = write_clip(
        tmp_path / "a.ts",
        even_times(60, 20),
        fps=20,
        options={"x264-params": "bframes=5:keyint=40:b-adapt=0"},
    )
    packets = whole.read_bytes()
    whole.write_bytes(packets[: 188 * round(len(packets) / 188 * share)])
    numbers, _ = shown(whole)
    assert probe(whole).fps == 20
    assert numbers[:-7] == list(range(len(numbers) - 7))


def test_a_matroska_file_that_is_cut_off_says_what_is_missing(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mkv")
    assert probe(whole).faults == []
    content = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(content[: len(content) * 2 // 3])
    info = probe(cut)
    assert info.fps == 20
    assert len(info.faults) == 1
    missing = float(info.faults[0].removeprefix("is cut off: its last ").removesuffix(" s are not there"))
    assert missing + info.duration_s == pytest.approx(4.0, abs=0.15)
    assert [number_of(frame) for frame in read_frames(cut, info=info)][:20] == list(range(20))


def test_a_stream_that_changes_its_size_is_shown_at_the_first(tmp_path: Path) -> None:
    parts = [
        write_clip(tmp_path / f"{width}.ts", even_times(10, 20), fps=20, width=width, height=height)
        for width, height in ((64, 48), (128, 96), (48, 64))
    ]
    (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    frames = list(read_frames(tmp_path / "joined.ts"))
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert [number_of(frame) for frame in frames[:20]] == [*range(10), *range(10)]
    assert (frames[-1][:, :8] == 0).all()


def test_frames_hours_apart_are_a_slow_clip(tmp_path: Path) -> None:
    slow = write_clip(tmp_path / "slow.mkv", [0.0, 3600.0, 7200.0], fps=25)
    info = probe(slow)
    assert info.fps == Fraction(1, 3600)
    assert shown(slow)[0] == [0, 1, 2]


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("mpeg2video", "mpg")])
def test_interlaced_frames_show_no_comb(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"x264-params": "interlaced=1", "crf": "8"} if codec == "libx264" else {"flags": "+ildct+ilme"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        if codec == "mpeg2video":
            stream.codec_context.bit_rate = 4_000_000
        for number in range(10):  # a bar that moves between the two fields of each frame
            picture = np.full((64, 96, 3), 40, np.uint8)
            for field in (0, 1):
                left = 8 + 4 * (2 * number + field) % 64
                picture[field::2, left : left + 16] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert probe(path).num_frames == 10
    frames = list(read_frames(path))
    assert len(frames) == 10
    combs = [np.abs(np.diff(frame[..., 0].astype(int), axis=0)).mean() for frame in frames[1:-1]]
    with av.open(str(path)) as container:
        stored = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert max(combs) < 0.35 * min(
        np.abs(np.diff(f[..., 0].astype(int), axis=0)).mean() for f in stored[1:-1]
    )
    np.testing.assert_array_equal(FrameReader(path).read([6])[0], frames[6])


def with_clap(path: Path, *, width: int, height: int, left: int, top: int, stored: tuple[int, int]) -> None:
    """Enter a clean aperture into the sample entry of an mp4 whose index is at its end."""
    high, wide = stored
    offsets = (2 * left + width - wide, 2, 2 * top + height - high, 2)
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", width, 1, height, 1, *offsets)
    data = bytearray(path.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd")) - 4
    end = at + struct.unpack(">I", data[at : at + 4])[0]
    data[end:end] = clap
    for name in (b"avc1", b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        start = data.rindex(name, 0, end) - 4
        data[start : start + 4] = struct.pack(">I", struct.unpack(">I", data[start : start + 4])[0] + 40)
    path.write_bytes(data)


@pytest.mark.parametrize("pixel_ratio", [None, Fraction(3, 2)])
@pytest.mark.parametrize("rotation", [None, 90])
def test_the_clean_aperture_is_what_is_shown(
    tmp_path: Path, rotation: int | None, pixel_ratio: Fraction | None
) -> None:
    path = write_clip(tmp_path / "a.mp4", even_times(3, 20), rotation=rotation, pixel_ratio=pixel_ratio)
    whole = next(iter(read_frames(path)))
    with_clap(path, width=40, height=32, left=8, top=10, stored=(48, 64))
    shown = next(iter(read_frames(path)))
    wide = 40 if pixel_ratio is None else 60
    assert shown.shape[:2] == ((32, wide) if rotation is None else (wide, 32))
    assert shown.shape[:2] == (probe(path).height, probe(path).width)
    stored = np.rot90(whole, 0 if rotation is None else -1)
    factor = 1 if pixel_ratio is None else 1.5
    part = stored[10:42, round(8 * factor) : round(8 * factor) + wide]
    np.testing.assert_array_equal(shown, np.rot90(part, 0 if rotation is None else 1))


def signal_of(light: np.ndarray) -> np.ndarray:
    """PQ signal in [0, 1] of light in cd/m²: SMPTE ST 2084."""
    power = (light / 10_000) ** (2610 / 16384)
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** (2523 / 32)


def test_hdr_clips_keep_colours_below_paper_white(tmp_path: Path) -> None:
    to_2020 = np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    )  # BT.2087
    colours = np.array([(50, 50, 50), (100, 20, 20), (20, 100, 20), (20, 20, 100)], float)
    picture = np.zeros((48, 128, 3), np.uint16)
    for number, colour in enumerate(colours):
        picture[:, 32 * number : 32 * number + 32] = np.round(signal_of(to_2020 @ colour) * 65535)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        params = "log-level=none:pools=none:frame-threads=1:colorprim=bt2020:transfer=smpte2084"
        params += ":colormatrix=bt2020nc"
        stream = container.add_stream("libx265", rate=10, options={"crf": "4", "x265-params": params})
        stream.width, stream.height, stream.pix_fmt = 128, 48, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = 16, 9, 9, 1
        frame = av.VideoFrame.from_ndarray(picture, format="rgb48le")
        frame.colorspace = 9  # PyAV before 18 converts by BT.601 else, whatever dst_colorspace says
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
        frame.color_trc, frame.color_primaries = 16, 9
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shown = next(iter(read_frames(tmp_path / "a.mp4")))
    expected = 255 * (1.055 * (colours / 203) ** (1 / 2.4) - 0.055)
    assert np.abs(shown[24, 16::32] - expected).max() < 4


@pytest.mark.parametrize("curve", [PQ, HLG])
def test_the_tone_curve_rises_and_leaves_room_for_highlights(curve: int) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None, :, None].repeat(3, axis=2)
    levels = tone_mapped(ramp, curve)[0].astype(int)
    assert (levels[0] == 0).all()
    assert levels[-1].min() >= 248
    assert (np.diff(levels, axis=0) >= 0).all()
    paper = tone_mapped(np.full((1, 1, 3), round(float(signal_of(np.array(203.0))) * 65535), np.uint16), PQ)
    assert 215 < paper[0, 0, 0] < 235


def test_pixels_of_absurd_shape_are_refused(tmp_path: Path) -> None:
    stretched = write_clip(tmp_path / "a.mp4", even_times(2, 20), width=640, pixel_ratio=Fraction(40, 1))
    with pytest.raises(VideoError, match="would be shown at 25600x48 pixels"):
        probe(stretched)


def test_a_number_of_a_frame_survives_the_helpers() -> None:
    assert number_of(numbered_frame(173)) == 173
