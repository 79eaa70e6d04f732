import math
import re
from pathlib import Path

import numpy as np
import pytest

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.write import synth, write_clip
from mimic.results import ResultError
from mimic.video import probe, read_frames
from pose import PoseSequence


def test_clip_comes_back_from_its_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    character, motion = sample_character(rng, World.plain()), sample_motion(rng, World.plain(), duration_s=1)
    clip = render(character, motion, np.arange(6) / 8, 96, 80)
    write_clip(clip, tmp_path / "a.mp4", tmp_path / "a.npz")
    frames = np.stack(list(read_frames(tmp_path / "a.mp4")))
    assert frames.shape == clip.frames.shape
    assert np.abs(frames.astype(int) - clip.frames).mean() < 4
    poses = PoseSequence.load(tmp_path / "a.npz")
    assert np.array_equal(poses.points, clip.poses.points)
    assert poses.fps == pytest.approx(8)


def test_synth_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    options = {"seconds": 0.5, "fps": 8, "height": 48, "width": 64, "seed": 3}
    paths = synth(
        tmp_path / "new", num_clips=2, progress=lambda done, total: seen.append((done, total)), **options
    )
    assert [path.name for path in paths] == ["clip_0000.mp4", "clip_0001.mp4"]
    assert seen == [(1, 2), (2, 2)]
    info = probe(paths[0])
    assert (info.height, info.width) == (48, 64)
    first, second = (PoseSequence.load(path.with_suffix(".npz")) for path in paths)
    assert first.num_frames == 4
    assert not np.allclose(first.points, second.points)
    # One clip alone equals the first of two; noise changes the poses, not the dance.
    alone = synth(tmp_path / "alone", num_clips=1, **options)[0]
    assert np.array_equal(PoseSequence.load(alone.with_suffix(".npz")).points, first.points)
    noisy = synth(tmp_path / "noisy", num_clips=1, noise_strength=1.0, **options)[0]
    error = np.abs(PoseSequence.load(noisy.with_suffix(".npz")).points - first.points)
    assert 0 < np.median(error) < 0.02


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"num_clips": 0}, "num_clips is 0; expected a whole number from 1 to"),
        ({"num_clips": 1.5}, "num_clips is 1.5; expected a whole number"),
        ({"seconds": 0.0}, "seconds is 0.0; expected a number from 0.001 to"),
        ({"seconds": -1.0}, "seconds is -1.0; expected a number from"),
        ({"seconds": math.inf}, "seconds is inf; expected a number from"),
        ({"seconds": math.nan}, "seconds is nan; expected a number from"),
        ({"seconds": 0.02}, "0.02 s at 8 frames a second hold no frame; use more seconds or fps"),
        ({"fps": 0.0}, "fps is 0.0; expected a number from"),
        ({"fps": -8.0}, "fps is -8.0; expected"),
        ({"fps": math.nan}, "fps is nan; expected"),
        ({"fps": 1e9}, "fps is 1000000000.0; expected a number from 0.01 to 1000"),
        ({"height": -48}, "height is -48; expected a whole number from 8 to 8192"),
        ({"width": 0}, "width is 0; expected a whole number from 8 to 8192"),
        ({"width": "64"}, "width is '64'; expected a whole number"),
        ({"height": 8000, "width": 8000, "seconds": 60.0}, "GiB of memory"),
        ({"supersample": 0}, "supersample is 0; expected a whole number from 1"),
        ({"noise_strength": math.nan}, "noise_strength is nan; expected a number from 0 to"),
        ({"noise_strength": math.inf}, "noise_strength is inf; expected"),
        ({"noise_strength": -1.0}, "noise_strength is -1.0; expected"),
        ({"seed": -1}, "seed is -1; expected a whole number from 0"),
        ({"world": "flat"}, "there is no world 'flat'; use plain, portraits or rich"),
        ({"world": ["plain"]}, "use plain, portraits or rich"),
    ],
)
def test_synth_refuses_what_cannot_be_before_it_writes(
    tmp_path: Path, wrong: dict[str, object], told: str
) -> None:
    options = {"num_clips": 1, "seconds": 0.5, "fps": 8, "height": 48, "width": 64, **wrong}
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        synth(tmp_path / "new", **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


OPTIONS = {"num_clips": 1, "seconds": 0.25, "fps": 8, "height": 32, "width": 32}


def test_a_clip_made_with_the_same_arguments_is_kept(tmp_path: Path) -> None:
    (video,) = synth(tmp_path, densepose=True, **OPTIONS)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert synth(tmp_path, densepose=True, **OPTIONS) == [video]
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_clip_made_with_other_arguments_is_set_aside_or_replaced_if_asked(tmp_path: Path) -> None:
    (video,) = synth(tmp_path, **OPTIONS)
    first = video.read_bytes()
    synth(tmp_path, seed=1, **OPTIONS)
    assert (tmp_path / "clip_0000.1.mp4").read_bytes() == first
    assert (tmp_path / "clip_0000.1.npz").is_file()
    assert video.read_bytes() != first
    synth(tmp_path, seed=2, overwrite=True, **OPTIONS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clip_0000.1.mp4",
        "clip_0000.1.npz",
        "clip_0000.mp4",
        "clip_0000.npz",
    ]


@pytest.mark.parametrize("name", ["clip_0000.mp4", "clip_0000.npz", "clip_0001.densepose.mp4"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_that_somebody_else_made_stays(tmp_path: Path, name: str, overwrite: bool) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ResultError, match=re.escape(name)):
        synth(tmp_path, densepose=True, overwrite=overwrite, **{**OPTIONS, "num_clips": 2})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"mine"


def test_a_clip_that_was_replaced_beside_its_poses_stays(tmp_path: Path) -> None:
    (video,) = synth(tmp_path, **OPTIONS)
    video.write_bytes(b"mine")
    with pytest.raises(ResultError, match="was not made by"):
        synth(tmp_path, seed=1, **OPTIONS)
    assert video.read_bytes() == b"mine"


def test_a_preparation_that_was_killed_goes_on(tmp_path: Path) -> None:
    (video,) = synth(tmp_path, **OPTIONS)
    whole = video.read_bytes()
    video.unlink()
    (tmp_path / ".mimic-synth").mkdir()
    (tmp_path / ".mimic-synth" / video.name).write_bytes(b"cut off")
    (tmp_path / ".mimic-synth" / f".{video.stem}.unfinished.1234.partial.mp4").write_bytes(b"cut off")
    synth(tmp_path, **OPTIONS)
    assert video.read_bytes() == whole
    assert not (tmp_path / ".mimic-synth").exists()
