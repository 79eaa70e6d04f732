"""What comes out of a clip is what a viewer would see, at an even rate, lazily."""

import gc
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from mimic.video import VideoError, VideoWriter, probe, read_frames, released_stride
from tests.media import even_times, number_of, numbered_frame, write_clip


def test_every_frame_of_an_even_clip_is_read_in_order(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", even_times(40, 30))
    info = probe(clip)
    assert (info.num_frames, info.fps, info.height, info.width) == (40, 30, 48, 64)
    assert not info.is_variable_rate
    assert not info.has_audio
    assert info.duration_s == pytest.approx(40 / 30)
    assert [number_of(frame) for frame in read_frames(clip)] == list(range(40))


def test_stride_and_cap_choose_frames(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", even_times(20, 30))
    assert [number_of(frame) for frame in read_frames(clip, stride=3)] == [0, 3, 6, 9, 12, 15, 18]
    assert [number_of(frame) for frame in read_frames(clip, stride=3, max_frames=4)] == [0, 3, 6, 9]


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (10, 2),
        (Fraction(24000, 1001), 2),
        (24, 2),
        (Fraction(30000, 1001), 2),
        (47.9, 2),
        (48, 4),
        (60, 4),
        (120, 10),
    ],
)
def test_stride_has_the_released_meaning(fps: float | Fraction, expected: int) -> None:
    assert released_stride(2, fps) == expected


@pytest.mark.parametrize(("rotation", "quarter_turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_a_turned_clip_is_shown_upright(tmp_path: Path, rotation: int, quarter_turns: int) -> None:
    clip = write_clip(tmp_path / "a.mp4", even_times(3, 30), rotation=rotation)
    frame = next(iter(read_frames(clip)))
    shown = np.rot90(numbered_frame(0), quarter_turns)
    info = probe(clip)
    assert frame.shape == shown.shape == (info.height, info.width, 3)
    assert np.abs(frame.astype(int) - shown).mean() < 12


def test_oblong_pixels_are_made_square(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", even_times(3, 30), pixel_ratio=Fraction(4, 3))
    assert (probe(clip).height, probe(clip).width) == (48, 85)
    assert next(iter(read_frames(clip))).shape == (48, 85, 3)


def test_variable_rate_is_put_on_an_even_grid_that_keeps_the_timing(tmp_path: Path) -> None:
    # 20 frames at 40 fps, then 20 at 20 fps: the average is 26.5 fps over 1.5 s.
    times = [n / 40 for n in range(20)] + [0.5 + n / 20 for n in range(20)]
    clip = write_clip(tmp_path / "a.mp4", times, fps=40)
    info = probe(clip)
    assert info.is_variable_rate
    assert float(info.fps) == pytest.approx(39 / 1.45, rel=0.02)
    shown = [number_of(frame) for frame in read_frames(clip)]
    assert len(shown) == pytest.approx(info.duration_s * float(info.fps), abs=1)
    for tick, number in enumerate(shown):
        assert times[number] == pytest.approx(
            tick / float(info.fps), abs=0.035
        )  # what is on screen at the tick


def test_small_unevenness_of_time_stamps_changes_nothing(tmp_path: Path) -> None:
    times = [round(n / 29.97, 3) + (0.003 if n % 2 else 0) for n in range(60)]
    clip = write_clip(tmp_path / "a.mkv", times, fps=29.97)
    assert not probe(clip).is_variable_rate
    assert [number_of(frame) for frame in read_frames(clip)] == list(range(60))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_picture_with_exif_is_a_clip_of_one_frame(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(numbered_frame(5)).save(tmp_path / "a.tif", exif=exif)
    assert len(list(read_frames(tmp_path / "a.tif"))) == 1


def test_odd_size_clip(tmp_path: Path) -> None:
    pictures = [Image.fromarray(numbered_frame(n, 47, 63)) for n in range(5)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=70)
    info = probe(tmp_path / "a.gif")
    assert (info.height, info.width, info.num_frames) == (47, 63, 5)
    assert float(info.fps) == pytest.approx(100 / 7, rel=0.02)
    assert [number_of(frame) for frame in read_frames(tmp_path / "a.gif")] == list(range(5))


def test_transparent_gif_lies_on_white(tmp_path: Path) -> None:
    pictures = []
    for n in range(3):
        rgba = np.zeros((32, 32, 4), np.uint8)
        rgba[8:24, 8:24] = (200, 0, 0, 255)
        rgba[12, 12 + n] = (0, 0, 200, 255)
        pictures.append(Image.fromarray(rgba))
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=100, disposal=2)
    for frame in read_frames(tmp_path / "a.gif"):
        assert frame[2, 2].tolist() == [255, 255, 255]
        assert frame[20, 20].tolist() == [200, 0, 0]


def test_a_single_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(numbered_frame(5)).save(tmp_path / "a.png")
    assert [number_of(frame) for frame in read_frames(tmp_path / "a.png")] == [5]


def test_reading_holds_few_frames_however_long_the_clip(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", even_times(120, 30), height=240, width=320)
    tracemalloc.start()
    for frame in read_frames(clip):
        assert frame.nbytes == 240 * 320 * 3
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 240 * 320 * 3


def test_what_is_no_clip_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no video"):
        probe(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 100)
    with pytest.raises(VideoError, match=r"text\.mp4 is not a video that can be read"):
        probe(tmp_path / "text.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="is not a video"):
        probe(tmp_path / "empty.mp4")
    with pytest.raises(VideoError, match="is a folder"):
        probe(tmp_path)


def test_a_clip_that_was_cut_off_is_said_so(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", even_times(40, 30))
    (tmp_path / "half.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(VideoError, match="damaged or cut off"):
        probe(tmp_path / "half.mp4")


def test_a_frame_that_is_damaged_shows_the_one_before_and_is_said(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mov", even_times(60, 30), codec="png", pixel_format="rgb24")
    data = bytearray(clip.read_bytes())
    start = data.index(b"IDAT", len(data) // 2) + 20
    data[start : start + 40] = bytes(40)
    clip.write_bytes(data)
    info = probe(clip)
    numbers = [number_of(frame) for frame in read_frames(clip, info=info)]
    lost = next(n for n in range(60) if numbers[n] != n)
    assert numbers == [*range(lost), lost - 1, *range(lost + 1, 60)]
    assert info.faults == [
        f"cannot be decoded from {lost / 30:.2f} to {(lost + 1) / 30:.2f} s; the picture before is shown "
        "there, so that all else keeps its time"
    ]


def test_a_clip_whose_index_is_in_front_and_whose_end_is_missing_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "whole.mp4"
    with VideoWriter(path, height=64, width=64, fps=10) as writer:
        for seed in range(20):
            noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3))
            writer.write(noise.astype(np.uint8))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"cut off: \d+ of its 20 frames"):
        probe(cut)


def test_an_avi_that_counts_frames_which_show_nothing_new_is_whole(tmp_path):
    path = tmp_path / "dropped.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=15)
        stream.width = stream.height = 64
        for number in range(24):  # 12 a second, in a file of 15 a second
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * number, np.uint8))
            frame.time_base, frame.pts = Fraction(1, 12), number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert probe(path).num_frames == 24
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    with pytest.raises(VideoError, match="cut off"):
        probe(path)


def test_frames_that_were_read_are_freed_at_once(tmp_path: Path) -> None:
    def num_left(num_frames: int) -> int:
        clip = write_clip(tmp_path / f"{num_frames}.mp4", even_times(num_frames, 10))
        gc.collect()
        gc.disable()
        try:
            assert len([frame.shape for frame in read_frames(clip)]) == num_frames
            return gc.collect()
        finally:
            gc.enable()

    num_left(10)  # what is set up once
    assert num_left(40) <= num_left(10) + 3
