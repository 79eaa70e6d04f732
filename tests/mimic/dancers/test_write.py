import math
import re
from pathlib import Path

import numpy as np
import pytest

from mimic.dancers import World, render, sample_character, sample_motion
from mimic.dancers.write import synth, write_clip
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
