"""Estimators and `mimic` read the same clips alike: order, times, shape; clear errors."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from mimic.video import probe, read_frames
from pose.types import PoseError
from pose.video import VideoReader
from tests.media import even_times, number_of, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    return write_clip(path, even_times(11, 20), fps=20)


@pytest.mark.parametrize(
    ("stride", "max_frames"), [(1, None), (2, None), (3, None), (1, 4), (2, 3), (20, None)]
)
def test_every_stride_th_frame_in_order(clip, stride, max_frames):
    reader = VideoReader(clip, stride=stride, max_frames=max_frames)
    expected = list(range(0, 11, stride))[:max_frames]
    assert [number_of(frame) for frame in reader] == expected
    assert reader.total == len(expected)
    assert reader.fps == pytest.approx(20 / stride)


def test_frames_are_rgb(clip):
    frame = next(iter(VideoReader(clip)))
    assert frame.dtype == np.uint8
    assert frame.shape == (48, 64, 3)
    red, green, blue = frame[2, 2].astype(int)
    assert red > 150 > max(green, blue)


def test_a_reader_can_be_read_again(clip):
    reader = VideoReader(clip, max_frames=2)
    assert len(list(reader)) == len(list(reader)) == 2


def test_a_turned_video_comes_upright(tmp_path):
    turned = write_clip(tmp_path / "turned.mp4", even_times(2, 20), fps=20, rotation=90)
    frame = next(iter(VideoReader(turned)))
    assert frame.shape == (64, 48, 3)


def test_a_missing_file_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no video"):
        VideoReader(tmp_path / "absent.mp4")


@pytest.mark.parametrize("content", [b"", b"this is no video at all " * 100])
def test_a_file_that_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    with pytest.raises(PoseError, match=r"text\.mp4 cannot be read as a video"):
        VideoReader(path)


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"stride": -1}, {"max_frames": 0}])
def test_stride_and_max_frames_start_at_one(clip, wrong):
    with pytest.raises(PoseError, match=f"{next(iter(wrong))} is .* must be 1 or more"):
        VideoReader(clip, **wrong)


UNEVEN = [0.1 * n for n in range(10)] + [0.9 + n for n in range(1, 5)]
CLIPS = {
    "even": lambda path: write_clip(path / "a.mp4", even_times(12, 20), fps=20),
    "turned": lambda path: write_clip(path / "a.mp4", even_times(4, 20), rotation=-90),
    "oblong pixels": lambda path: write_clip(path / "a.mp4", even_times(4, 20), pixel_ratio=Fraction(2, 1)),
    "uneven": lambda path: write_clip(path / "a.mkv", UNEVEN),
    "later": lambda path: write_clip(path / "a.mkv", [1 + time for time in even_times(12, 20)], fps=20),
    "stream": lambda path: write_clip(path / "a.ts", even_times(12, 25), fps=25, codec="mpeg2video"),
}


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("name", CLIPS)
def test_poses_are_found_in_the_frames_that_mimic_sees(tmp_path, name, stride):
    path = CLIPS[name](tmp_path)
    info = probe(path)
    reader = VideoReader(path, stride=stride)
    ours, theirs = list(reader), list(read_frames(path, stride=stride))
    assert len(ours) == len(theirs)
    for our_frame, their_frame in zip(ours, theirs):
        np.testing.assert_array_equal(our_frame, their_frame)
    assert reader.fps == pytest.approx(float(info.fps) / stride)
    assert ours[0].shape == (info.height, info.width, 3)
    assert len(ours) / reader.fps == pytest.approx(info.duration_s, abs=1.01 * stride / float(info.fps))


def test_a_clip_of_variable_rate_lasts_as_long_as_it_plays(tmp_path):
    reader = VideoReader(CLIPS["uneven"](tmp_path))
    assert len(list(reader)) / reader.fps == pytest.approx(5.1, abs=0.4)


def test_reading_videos_needs_neither_torch_nor_mimic(clip):
    code = f"""
import sys
from pose.video import VideoReader
assert len(list(VideoReader({str(clip)!r}))) == 11
print(sorted({{"torch", "mimic", "diffusers"}} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
