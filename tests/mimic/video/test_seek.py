"""Any frame read by seeking is the frame that reading in order gives, to the pixel."""

from __future__ import annotations

import os
import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from mimic.video import VideoError, read_frames, seek
from mimic.video.seek import FrameReader, ReaderPool, frame_table
from tests.media import even_times, number_of, numbered_frame, write_clip

NUM_FRAMES = 60


def encode(
    path: Path,
    codec: str,
    *,
    options: dict[str, str] | None = None,
    gop: int = 12,
    b_frames: int = 0,
    pixel_format: str = "yuv420p",
    times_s: list[float] | None = None,
    rate: int = 25,
) -> Path:
    """A clip of numbered frames with much freedom in how it is coded."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=rate, options=options or {})
        video.width, video.height, video.pix_fmt = 64, 48, pixel_format
        if codec not in ("gif",):
            video.codec_context.gop_size = gop
            video.codec_context.max_b_frames = b_frames
        base = Fraction(1, 1000) if times_s else Fraction(1, rate)
        if times_s:
            video.codec_context.time_base = base
        for number in range(NUM_FRAMES):
            picture = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            if codec == "gif":
                picture = picture.reformat(format=pixel_format)
            picture.pts, picture.time_base = round(times_s[number] / base) if times_s else number, base
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return path


def uneven_times() -> list[float]:
    rng = np.random.default_rng(3)
    return np.cumsum(rng.choice([0.02, 0.04, 0.04, 0.15], NUM_FRAMES)).round(3).tolist()


FILES = {
    "b_frames": lambda path: encode(path / "a.mp4", "libx264", b_frames=3),
    "b_pyramid": lambda path: encode(
        path / "a.mp4", "libx264", b_frames=6, gop=30, options={"x264-params": "b-pyramid=normal:ref=4"}
    ),
    "open_gop": lambda path: encode(
        path / "a.mp4", "libx264", b_frames=3, options={"x264-params": "open-gop=1:keyint=12:min-keyint=12"}
    ),
    "open_gop_mkv": lambda path: encode(
        path / "a.mkv", "libx264", b_frames=3, options={"x264-params": "open-gop=1:keyint=12:min-keyint=12"}
    ),
    "one_key_frame": lambda path: encode(path / "a.mp4", "libx264", gop=1000, b_frames=2),
    "mkv": lambda path: encode(path / "a.mkv", "libx264", b_frames=3),
    "mpeg_ts": lambda path: encode(path / "a.ts", "libx264", b_frames=3),
    "uneven": lambda path: encode(path / "a.mp4", "libx264", b_frames=3, times_s=uneven_times()),
    "uneven_mkv": lambda path: encode(path / "a.mkv", "libx264", b_frames=3, times_s=uneven_times()),
    "mpeg4_avi": lambda path: encode(path / "a.avi", "mpeg4"),
    "mpeg4_avi_b": lambda path: encode(path / "a.avi", "mpeg4", b_frames=2),
    "vp8_hidden_frames": lambda path: encode(
        path / "a.webm", "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16"}
    ),
    "vp9": lambda path: encode(
        path / "a.webm", "libvpx-vp9", options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}
    ),
    "gif": lambda path: encode(path / "a.gif", "gif", pixel_format="rgb8", rate=20),
    "turned": lambda path: write_clip(path / "a.mp4", even_times(NUM_FRAMES, 25), rotation=90),
    "stretched": lambda path: write_clip(
        path / "a.mp4", even_times(NUM_FRAMES, 25), pixel_ratio=Fraction(4, 3)
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_any_frame_in_any_order_is_the_one_of_reading_in_order(tmp_path: Path, name: str) -> None:
    codec = {"vp8_hidden_frames": "libvpx", "vp9": "libvpx-vp9"}.get(name)
    if codec and codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    path = FILES[name](tmp_path)
    in_order = list(read_frames(path))
    reader = FrameReader(path)
    assert reader.table.num_frames == len(in_order) or reader.table.stamps is None
    rng = np.random.default_rng(0)
    for _ in range(12):
        numbers = rng.integers(len(in_order), size=3).tolist()
        for number, picture in zip(numbers, reader.read(numbers)):
            np.testing.assert_array_equal(picture, in_order[number])
    backwards = list(range(len(in_order)))[::-7]
    for number in backwards:
        np.testing.assert_array_equal(reader.read([number])[0], in_order[number])


def test_seeking_is_used_where_packets_tell(tmp_path: Path) -> None:
    """Else the test above would hold for a reader that only ever counts."""
    for name in ("b_frames", "open_gop", "mkv", "uneven"):
        folder = tmp_path / name
        folder.mkdir()
        reader = FrameReader(FILES[name](folder))
        reader.read([50, 3])
        assert reader.table.stamps is not None, name
        assert reader._next_in_order is None, name


def test_few_frames_are_decoded_for_one_far_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FILES["b_frames"](tmp_path)
    reader = FrameReader(path)
    decoded = []
    decode_until = reader._decode_until

    def watch(stamp: int) -> np.ndarray:
        before = reader._decoded

        def counted():
            for frame in before:
                decoded.append(frame.pts)
                yield frame

        reader._decoded = counted()
        return decode_until(stamp)

    monkeypatch.setattr(reader, "_decode_until", watch)
    assert number_of(reader.read([55])[0]) == 55
    assert 0 < len(decoded) <= 12


def test_frames_cut_off_by_an_edit_list_are_not_counted(tmp_path: Path) -> None:
    whole = FILES["b_frames"](tmp_path)
    trimmed = tmp_path / "trimmed.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is None:
                continue
            packet.pts -= (
                5 * 512
            )  # the first five frames lie before zero: the file tells players to skip them
            packet.dts -= 5 * 512
            packet.stream = stream
            target.mux(packet)
    in_order = list(read_frames(trimmed))
    reader = FrameReader(trimmed)
    for number in (0, len(in_order) - 1, 7, 3, 20):
        np.testing.assert_array_equal(reader.read([number])[0], in_order[number])


def test_a_frame_that_is_not_there_is_named(tmp_path: Path) -> None:
    reader = FrameReader(FILES["b_frames"](tmp_path))
    with pytest.raises(IndexError, match="frames 0 to 59; there is no frame 60"):
        reader.read([60])
    gif = FrameReader(FILES["gif"](tmp_path))
    with pytest.raises(VideoError, match=r"a\.gif ends after 60 frames; there is no frame 60"):
        gif.read([60])
    assert number_of(gif.read([0])[0]) == 0


def test_a_pool_keeps_few_files_open_and_a_copy_none(tmp_path: Path) -> None:
    pool = ReaderPool(max_open=2)
    paths = []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        paths.append(FILES["mkv"](tmp_path / name))
    for _ in range(2):
        for path in paths:
            assert [number_of(p) for p in pool.read(path, [30, 2])] == [30, 2]
            assert len(pool._readers) <= 2
    copy = pickle.loads(pickle.dumps(pool))
    assert len(copy._readers) == 0
    assert number_of(copy.read(paths[0], [9])[0]) == 9
    pool.close()


def test_the_table_counts_as_reading_does(tmp_path: Path) -> None:
    path = FILES["uneven"](tmp_path)
    assert frame_table(path).num_frames == sum(1 for _ in read_frames(path))


def test_reading_on_by_counting_decodes_nothing_twice(tmp_path: Path) -> None:
    reader = FrameReader(FILES["gif"](tmp_path))
    assert [number_of(picture) for picture in reader.read([2, 5])] == [2, 5]
    begun = reader._in_order
    assert [number_of(picture) for picture in reader.read([6, 9])] == [6, 9]
    assert reader._in_order is begun
    assert number_of(reader.read([3])[0]) == 3
    assert reader._in_order is not begun


def test_a_pool_keeps_what_was_read_last_and_the_tables_of_all(tmp_path: Path) -> None:
    pool = ReaderPool(max_open=2)
    paths = []
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        paths.append(FILES["mkv"](tmp_path / name))
    pool.read(paths[0], [0])
    first = pool._readers[paths[0]]
    pool.read(paths[1], [0])
    pool.read(paths[0], [1])
    assert pool._readers[paths[0]] is first
    pool.read(paths[2], [0])
    assert list(pool._readers) == [paths[0], paths[2]]
    pool.read(paths[1], [0])
    assert pool._readers[paths[1]].table is pool._tables[paths[1]]
    (tmp_path / "second" / "a.mkv").unlink()
    assert pool._reader(paths[1]).table is pool._tables[paths[1]]
    pool.close()
    assert pool._reader(paths[1]).table is pool._tables[paths[1]], "a table is not read again"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_shares_no_open_file(tmp_path: Path) -> None:
    pool = ReaderPool()
    path = FILES["mkv"](tmp_path)
    pool.read(path, [3])
    before = pool._readers
    pool._process = -1  # as in a child, whose number is another
    assert number_of(pool.read(path, [5])[0]) == 5
    assert pool._readers is not before
    assert any(own is before for own in seek._INHERITED)
    assert pool._process == os.getpid()


def test_an_animated_picture_has_its_frames_counted(tmp_path: Path) -> None:
    pictures = [PIL.Image.fromarray(numbered_frame(number, 48, 64)) for number in range(3)]
    path = tmp_path / "a.webp"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, lossless=True)
    table = frame_table(path)
    assert (table.num_frames, len(table.keys), table.stamps) == (3, 0, None)
    assert [number_of(FrameReader(path).read([at])[0]) for at in (2, 0)] == [2, 0]


def test_the_first_frame_is_shown_until_the_second_ones_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [0.5, 0.9, 0.95, 1.6, 1.7])
    frames = list(read_frames(path))
    assert number_of(frames[0]) == 0
    assert frame_table(path).num_frames == len(frames)
    assert number_of(FrameReader(path).read([0])[0]) == 0
