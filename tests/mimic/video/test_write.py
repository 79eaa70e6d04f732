"""A video file holds the frames and the sound given to it, at their moments, and appears whole or never."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mimic.video import VideoInfo, VideoWriteError, VideoWriter, probe, read_frames
from mimic.video.audio import AudioTrack, in_step, tempo_chain
from tests.media import claps_heard, even_times, number_of, numbered_frame, write_clip


def write_numbers(path: Path, numbers: range, *, fps: float | Fraction = 15, **settings: object) -> VideoInfo:
    with VideoWriter(path, height=48, width=64, fps=fps, **settings) as writer:  # type: ignore[arg-type]
        for number in numbers:
            writer.write(numbered_frame(number))
    return probe(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_come_back_in_order_at_their_rate(tmp_path: Path, name: str, codec: str) -> None:
    info = write_numbers(tmp_path / name, range(20), codec=codec)
    assert (info.num_frames, info.fps, info.is_variable_rate) == (20, 15, False)
    frames = list(read_frames(tmp_path / name))
    assert [number_of(frame) for frame in frames] == list(range(20))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_file_is_h264_yuv420p_tagged_bt709_with_its_index_in_front(tmp_path: Path) -> None:
    write_numbers(tmp_path / "a.mp4", range(5))
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.colorspace, context.color_range) == (
            "h264",
            "yuv420p",
            1,
            1,
        )
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_colours_survive_the_round_trip(tmp_path: Path) -> None:
    frame = np.zeros((32, 96, 3), np.uint8)
    frame[:, :32], frame[:, 32:64], frame[:, 64:] = (200, 60, 30), (30, 180, 90), (40, 60, 220)
    with VideoWriter(tmp_path / "a.mp4", height=32, width=96, fps=10, crf=4) as writer:
        writer.write(frame)
    back = next(iter(read_frames(tmp_path / "a.mp4")))
    for column in (16, 48, 80):
        assert np.abs(back[16, column].astype(int) - frame[16, column]).max() <= 3


def test_odd_sizes_are_padded_by_one_repeated_row_or_column(tmp_path: Path) -> None:
    frame = numbered_frame(3, 33, 47)
    with VideoWriter(tmp_path / "a.mp4", height=33, width=47, fps=10, crf=4) as writer:
        writer.write(frame)
    back = next(iter(read_frames(tmp_path / "a.mp4")))
    assert back.shape == (34, 48, 3)
    assert np.abs(back[:33, :47].astype(int) - frame).mean() < 8
    assert np.abs(back[33, :47].astype(int) - frame[-1]).mean() < 8


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), 29.97, 7, 12.5])
def test_any_rate_is_kept(tmp_path: Path, fps: float | Fraction) -> None:
    info = write_numbers(tmp_path / "a.mp4", range(15), fps=fps)
    assert float(info.fps) == pytest.approx(float(fps), rel=1e-4)


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt])
def test_an_error_midway_keeps_an_older_file_and_finished_frames_if_asked(
    tmp_path: Path, is_kept: bool, kind: type[BaseException]
) -> None:
    write_numbers(tmp_path / "a.mp4", range(3))
    before = (tmp_path / "a.mp4").read_bytes()
    with (
        pytest.raises(kind),
        VideoWriter(tmp_path / "a.mp4", height=48, width=64, fps=10, keep_unfinished=is_kept) as writer,
    ):
        for number in range(7):
            writer.write(numbered_frame(number))
        raise kind("midway")
    kept = ["a.unfinished.mp4"] if is_kept else []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", *kept]
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert writer.unfinished == (tmp_path / "a.unfinished.mp4" if is_kept else None)
    if writer.unfinished is not None:
        assert [number_of(frame) for frame in read_frames(writer.unfinished)] == list(range(7))


def test_a_video_without_frames_is_an_error_not_a_file(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoWriteError, match="no frames"),
        VideoWriter(tmp_path / "a.mp4", height=4, width=4, fps=1),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in one of \.mp4"):
        VideoWriter(tmp_path / "a.avi", height=4, width=4, fps=1)
    with pytest.raises(ValueError, match="frames a second"):
        VideoWriter(tmp_path / "a.mp4", height=4, width=4, fps=0)
    with (
        pytest.raises(ValueError, match=r"expected uint8 \(48, 64, 3\)"),
        VideoWriter(tmp_path / "a.mp4", height=48, width=64, fps=1) as writer,
    ):
        writer.write(np.zeros((48, 62, 3), np.uint8))
    (tmp_path / "file").touch()
    with (
        pytest.raises(VideoWriteError, match="could not be written"),
        VideoWriter(tmp_path / "file" / "a.mp4", height=4, width=4, fps=1),
    ):
        pass


def test_frames_are_kept_beside_when_the_name_is_taken_by_a_folder_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with (
        pytest.raises(VideoWriteError, match=r"the 3 frames that were finished are in .*a\.unfinished\.mp4"),
        VideoWriter(path, height=48, width=64, fps=10) as writer,
    ):
        for number in range(3):
            writer.write(numbered_frame(number))
        (path / "in the way").mkdir(parents=True)
    assert [number_of(frame) for frame in read_frames(tmp_path / "a.unfinished.mp4")] == [0, 1, 2]


def test_a_folder_of_that_name_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    with (
        pytest.raises(VideoWriteError, match=r"a\.mp4 could not be written: it is a folder"),
        VideoWriter(tmp_path / "a.mp4", height=48, width=64, fps=10),
    ):
        pass


def test_a_file_that_is_not_ours_is_not_replaced_by_unfinished_frames(tmp_path: Path) -> None:
    (tmp_path / "a.unfinished.mp4").write_text("of the user")
    with (
        pytest.raises(KeyError),
        VideoWriter(tmp_path / "a.mp4", height=48, width=64, fps=10, keep_unfinished=True) as writer,
    ):
        writer.write(numbered_frame(0))
        raise KeyError("midway")
    assert (tmp_path / "a.unfinished.mp4").read_text() == "of the user"
    assert writer.unfinished is not None
    assert probe(writer.unfinished).num_frames == 1


ENCODE = """
import hashlib, os, sys
from pathlib import Path
import numpy as np
from mimic.video import VideoWriter
path = Path(sys.argv[1]) / f"{sys.argv[2]}.mp4"
if sys.argv[2] == "one":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
rng = np.random.default_rng(0)
picture = rng.integers(0, 255, (14, 30, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
for _ in range(12):
    with VideoWriter(path, height=112, width=240, fps=15) as writer:
        for number in range(30):
            writer.write(np.roll(picture, (number, 2 * number), (0, 1)))
    print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no way to hide processors here")
def test_the_same_frames_give_the_same_bytes_on_any_number_of_processors(tmp_path: Path) -> None:
    hashes = [
        subprocess.run(
            [sys.executable, "-c", ENCODE, str(tmp_path), name], capture_output=True, text=True, check=True
        ).stdout.split()
        for name in ("one", "all")
    ]
    assert [len(of_one) for of_one in hashes] == [12, 12]
    assert len({*hashes[0], *hashes[1]}) == 1


def test_the_same_frames_give_the_same_bytes_again_and_again(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", even_times(75, 30), clap_times_s=(0.25, 0.9), sound_s=1.0)
    contents = set()
    for number in range(8):
        junk = np.random.default_rng(number).integers(0, 255, (number + 1, 99_991), dtype=np.uint8)
        track = in_step(clip, start_s=0.0, source_s=1.0, result_s=0.8)
        with VideoWriter(tmp_path / "a.mp4", height=50, width=70, fps=20, audio=track) as writer:
            for frame in range(16):
                writer.write(numbered_frame(frame, 50, 70))
        contents.add((tmp_path / "a.mp4").read_bytes())
        del junk
    assert len(contents) == 1


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from mimic.video import VideoWriteError, VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
noise = np.random.default_rng(0)
try:
    with VideoWriter(Path(sys.argv[1]) / sys.argv[2], height=120, width=160, fps=10, crf=4,
                     keep_unfinished=True) as writer:
        for _ in range(40):
            writer.write(noise.integers(0, 255, (120, 160, 3), dtype=np.uint8))
except VideoWriteError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are a POSIX matter")
def test_a_full_disk_is_one_sentence_and_no_file(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), "a.mp4"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "no space is left on the disk" in run.stdout
    assert run.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are a POSIX matter")
def test_a_full_disk_keeps_the_finished_frames_of_a_container_without_an_index(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), "a.mkv"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "no space is left on the disk" in run.stdout
    assert "a.unfinished.mkv" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a.unfinished.mkv"]
    assert len(list(read_frames(tmp_path / "a.unfinished.mkv"))) >= 1


CLAPS = (0.25, 0.9, 1.55, 2.2)


@pytest.mark.parametrize("tempo", [1.0, 0.5, 0.8, 1.25, 2.0, 3.0])
def test_sound_is_in_step_at_every_tempo(tmp_path: Path, tempo: float) -> None:
    clip = write_clip(tmp_path / "in.mp4", even_times(75, 30), clap_times_s=CLAPS, sound_s=2.5)
    info = probe(clip)
    assert info.has_audio
    num_frames = round(2.5 / tempo * 20)
    track = in_step(clip, start_s=info.start_s, source_s=2.5, result_s=num_frames / 20)
    result = write_numbers(tmp_path / "out.mp4", range(num_frames), fps=20, audio=track)
    assert result.has_audio
    heard = claps_heard(tmp_path / "out.mp4")
    tolerance = 0.005 if tempo == 1 else 0.06  # atempo works in windows of up to 85 ms
    assert heard == pytest.approx([clap / tempo for clap in CLAPS], abs=tolerance)


def test_sound_is_cut_where_the_pictures_end(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", even_times(75, 30), clap_times_s=CLAPS, sound_s=2.5)
    track = in_step(clip, start_s=0.0, source_s=1.0, result_s=1.0)
    write_numbers(tmp_path / "out.mp4", range(20), fps=20, audio=track)
    assert len(claps_heard(tmp_path / "out.mp4")) == 2
    with av.open(str(tmp_path / "out.mp4")) as container:
        audio = container.streams.audio[0]
        assert float(audio.duration * audio.time_base) == pytest.approx(1.0, abs=0.03)


def test_sound_counts_from_the_first_picture(tmp_path: Path) -> None:
    # The pictures begin half a second into the file, the sound at its beginning.
    clip = write_clip(tmp_path / "in.mkv", [0.5 + n / 30 for n in range(60)], clap_times_s=CLAPS, sound_s=2.5)
    info = probe(clip)
    assert info.start_s == pytest.approx(0.5, abs=0.01)
    track = in_step(clip, start_s=info.start_s, source_s=2.0, result_s=2.0)
    write_numbers(tmp_path / "out.mp4", range(40), fps=20, audio=track)
    assert claps_heard(tmp_path / "out.mp4") == pytest.approx([clap - 0.5 for clap in CLAPS[1:]], abs=0.005)


def test_pictures_may_outlast_the_sound(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", even_times(75, 30), clap_times_s=(0.25,), sound_s=0.5)
    track = in_step(clip, start_s=0.0, source_s=2.5, result_s=2.5)
    info = write_numbers(tmp_path / "out.mp4", range(50), fps=20, audio=track)
    assert info.num_frames == 50
    assert claps_heard(tmp_path / "out.mp4") == pytest.approx([0.25], abs=0.005)


def test_sound_is_decoded_lazily(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", even_times(75, 30), sound_s=2.5)
    first = next(AudioTrack(clip, start_s=0.0, duration_s=2.5).frames())
    assert first.samples < 4096


@pytest.mark.parametrize("tempo", [0.1, 0.4, 0.5, 0.9, 1.5, 2.0, 2.1, 9.0])
def test_tempo_is_split_into_steps_that_drop_no_samples(tempo: float) -> None:
    factors = tempo_chain(tempo)
    assert np.prod(factors) == pytest.approx(tempo)
    assert all(0.5 <= factor <= 2 for factor in factors)
    assert tempo_chain(1.0) == []
