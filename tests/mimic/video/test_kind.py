"""The film is the film: by content and not by suffix, and never a cover picture."""

import os
import struct
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from PIL import Image

from mimic.video import VideoError, is_video, kind_of, probe, read_frames
from mimic.video.seek import FrameReader
from tests.media import even_times, number_of, numbered_frame, write_clip

NUMBERED = [Image.fromarray(numbered_frame(number)) for number in range(8)]


def numbers_of(path: Path) -> list[int]:
    return [number_of(frame) for frame in read_frames(path)]


def animated(path: Path, form: str, **more: object) -> Path:
    settings = {"duration": 100, "loop": 0, **more}
    NUMBERED[0].save(path, format=form, save_all=True, append_images=NUMBERED[1:], **settings)
    return path


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("suffix", [None, ".jpg", ".mp4", ""])
def test_an_animation_is_a_film_whatever_its_name(tmp_path: Path, form: str, suffix: str | None) -> None:
    path = animated(tmp_path / f"a{f'.{form.lower()}' if suffix is None else suffix}", form)
    assert kind_of(path) == "video"
    info = probe(path)
    assert (info.num_frames, float(info.fps), info.faults) == (8, pytest.approx(10, rel=0.02), [])
    assert numbers_of(path) == list(range(8))
    assert [number_of(frame) for frame in FrameReader(path).read([6, 2, 7])] == [6, 2, 7]


def test_an_animated_webp_keeps_uneven_durations(tmp_path: Path) -> None:
    path = animated(
        tmp_path / "a.webp", "WEBP", duration=[100, 100, 500, 100, 100, 100, 100, 100], lossless=True
    )
    info = probe(path)
    assert info.is_variable_rate
    assert info.duration_s == pytest.approx(1.2, abs=0.15)
    numbers = numbers_of(path)
    assert numbers.count(2) >= 3
    assert sorted(set(numbers)) == numbers[:1] + sorted(set(numbers) - {numbers[0]})


def test_a_webp_animation_that_is_cut_off_is_said_so(tmp_path: Path) -> None:
    path = animated(tmp_path / "a.webp", "WEBP", lossless=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(VideoError, match=r"a\.webp"):
        list(read_frames(path))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp", "a.mp4", "a.tif"])
def test_a_picture_is_a_picture(tmp_path: Path, name: str) -> None:
    form = {"a.mp4": "PNG"}.get(name)
    NUMBERED[5].save(tmp_path / name, format=form)
    assert kind_of(tmp_path / name) == "picture"
    assert not is_video(tmp_path / name)


def test_pages_of_a_tiff_are_no_film(tmp_path: Path) -> None:
    NUMBERED[0].save(tmp_path / "a.tif", save_all=True, append_images=NUMBERED[1:])
    assert kind_of(tmp_path / "a.tif") == "picture"


@pytest.mark.parametrize(("codec", "form"), [("libx264", "h264"), ("libx265", "hevc")])
@pytest.mark.parametrize("suffix", [None, ".png", ".mp4"])
def test_raw_streams_are_films_at_the_rate_of_their_header(
    tmp_path: Path, codec: str, form: str, suffix: str | None
) -> None:
    path = tmp_path / f"a{f'.{form}' if suffix is None else suffix}"
    with av.open(str(path), "w", format=form) as container:
        key = "x264-params" if codec == "libx264" else "x265-params"
        params = {key: "bframes=3:log-level=none"}
        stream = container.add_stream(codec, rate=10, options=params)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(24):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert kind_of(path) == "video"
    info = probe(path)
    assert (info.num_frames, info.fps, info.is_variable_rate) == (24, 10, False)
    assert numbers_of(path) == list(range(24))
    assert number_of(FrameReader(path).read([17])[0]) == 17


def with_still(path: Path, *, is_first: bool, disposition: Disposition, num_stills: int = 1) -> Path:
    """A clip of 12 frames with a small picture as another video stream, the index of the mp4 at its end."""
    plain = path.with_name(f"plain{path.suffix}")
    with av.open(str(plain), "w") as container:
        film = container.add_stream("libx264", rate=10)
        still = container.add_stream("mjpeg", rate=10)
        still.disposition = disposition
        film.height, film.width, film.pix_fmt = 48, 64, "yuv420p"
        still.height, still.width, still.pix_fmt = 32, 48, "yuvj420p"
        for stream, frames, size in ((film, 12, (48, 64)), (still, num_stills, (32, 48))):
            for number in range(frames):
                picture = numbered_frame(number if stream is film else 255, *size)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    data = plain.read_bytes()
    start = data.rfind(b"moov") - 4
    end = start + struct.unpack(">I", data[start : start + 4])[0]
    boxes, at = [], start + 8
    while at < end:
        size = struct.unpack(">I", data[at : at + 4])[0]
        boxes.append(data[at : at + size])
        at += size
    order = {b"mvhd": 0, b"udta": 1, b"trak": 2}
    boxes.sort(key=lambda box: order.get(box[4:8], 3) if is_first else 0)
    path.write_bytes(data[: start + 8] + b"".join(boxes) + data[end:])
    return path


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("disposition", "num_stills"),
    [(Disposition.attached_pic, 1), (Disposition.default, 1), (Disposition.timed_thumbnails, 4)],
)
def test_covers_and_thumbnails_are_not_the_film(
    tmp_path: Path, disposition: Disposition, num_stills: int, is_first: bool
) -> None:
    path = with_still(tmp_path / "a.mp4", is_first=is_first, disposition=disposition, num_stills=num_stills)
    info = probe(path)
    assert (info.num_frames, info.height, info.width) == (12, 48, 64)
    assert numbers_of(path) == list(range(12))
    assert number_of(FrameReader(path).read([9])[0]) == 9


def test_a_song_with_a_cover_is_no_film(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=44_100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_frame(1), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 44_100, 0, Fraction(1, 44_100)
        for stream, last in ((sound, frame), (sound, None), (cover, None)):
            container.mux(stream.encode(last))
    with pytest.raises(VideoError, match="only a cover picture"):
        probe(tmp_path / "a.m4a")
    with pytest.raises(VideoError, match="neither a picture nor a video"):
        kind_of(tmp_path / "a.m4a")


@pytest.mark.parametrize("content", [b"", b"words " * 200, bytes(4000)])
def test_what_is_neither_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(VideoError, match=r"a\.png is neither a picture nor a video"):
        kind_of(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        kind_of(tmp_path / "none")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are files on POSIX only")
@pytest.mark.timeout(30)
def test_pipes_devices_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for look in (probe, kind_of):
        with pytest.raises(VideoError, match="is a named pipe"):
            look(tmp_path / "pipe.mp4")
        with pytest.raises(VideoError, match="is a device"):
            look("/dev/zero")
        with pytest.raises(VideoError, match="is a folder"):
            look(tmp_path)


NAMES = ["2024-05-01T12:30:00.mp4", "concat:a.mp4", "a%03d.mp4", "a#b.mp4", "-i.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "plain.mp4", even_times(3, 20), fps=20).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert numbers_of(Path(name)) == [0, 1, 2]
    assert kind_of(name) == "video"


def test_a_title_that_is_not_utf8_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "QQQQQQQQ"
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(7), format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"QQQQQQQQ", b"\xe9\xff\xfe\x80\xe9\xff\xfe\x80"))
    assert numbers_of(path) == [7]
