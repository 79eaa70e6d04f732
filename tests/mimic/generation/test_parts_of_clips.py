"""A part of a clip drives: its frames and its sound; the rate of slow clips; formats of results."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic import generate
from mimic.config import CaseConfig, CaseSettings, ConfigError, InferenceConfig
from mimic.generation.checks import InputError, check_inputs
from mimic.generation.drivers.base import used_frames
from mimic.video import VideoError, VideoWriteError, probe
from mimic.video.folder import FolderWriter, open_writer
from pose.estimators import Estimator
from tests.dancers import CLAPS, Stage
from tests.media import claps_heard

pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


def frames(num_frames: int, fps: float, **settings: Any) -> list[int]:
    """Numbers of the frames that settings choose of a clip."""
    used = used_frames(num_frames, fps, CaseSettings(**settings), name="a.mp4")
    chosen = list(range(num_frames))[used.slice]
    assert len(chosen) == used.count
    return chosen


def test_slow_clips_are_used_frame_by_frame_and_fast_ones_as_released() -> None:
    assert len(frames(10, 10)) == 10
    assert len(frames(10, 10, compat="released")) == 5
    assert len(frames(10, 10, sample_stride=2)) == 5
    assert frames(30, 30) == list(range(0, 30, 2))
    assert len(frames(60, 60)) == 15


def test_start_and_end_choose_the_frames_shown_between_them() -> None:
    assert frames(10, 10, start=0.3) == [3, 4, 5, 6, 7, 8, 9]
    assert frames(10, 10, start=0.3, end=0.6) == [3, 4, 5]
    assert frames(10, 10, start=0.25, end=0.65, sample_stride=2) == [3, 5]
    assert frames(10, 10, start=0.3, max_frames=2) == [3, 4]
    assert frames(10, 10, end=99) == list(range(10))
    for settings in ({"start": 1.0}, {"start": 0.31, "end": 0.39}):
        with pytest.raises(VideoError, match=r"a\.mp4 lasts 1\.00 s and has no frame (after|between) start"):
            frames(10, 10, **settings)


def test_an_end_behind_the_clip_is_noted_and_a_frame_too_many_is_not() -> None:
    def note(**settings: Any) -> str | None:
        return used_frames(80, 10, CaseSettings(**settings), name="dance.mp4").note

    assert note(end=12.5) == "dance.mp4 ends at 8.0 s; end 12.5 s is later, so it is used to its end"
    assert note(start=7, end=12.5) == note(end=12.5, max_frames=3) == note(end=12.5)
    assert {note(), note(start=3), note(end=8), note(end=8.1), note(max_frames=99)} == {None}


def test_a_part_of_a_clip_keeps_its_sound_in_webm_too(
    stage: Stage, estimator: Estimator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mimic")
    result = generate(
        stage.reference,
        stage.driving,
        model=stage.model,
        output=tmp_path / "part.webm",
        estimator=estimator,
        align="robust",
        start=0.5,
        end=3,
    )
    driving = json.loads(result.report.read_text())["driving"]
    assert driving["part_s"] == [0.5, 1.0]
    assert caplog.text.count("ends at 1.0 s; end 3 s is later, so it is used to its end") == 1
    assert driving["part_note"] in caplog.text
    info = probe(result.path)
    assert (info.num_frames, info.fps, info.has_audio) == (5, 10, True)
    assert claps_heard(result.path) == pytest.approx([CLAPS[1] - 0.5], abs=0.03)


def test_a_rate_that_a_result_cannot_have_is_refused_before_anything_is_generated(
    stage: Stage, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="players show a GIF at 50 at most"):
        generate(stage.reference, stage.driving, model=stage.model, output=tmp_path / "a.gif", fps=60)
    slow = replace(stage.driving_poses, fps=1e-6).save(tmp_path / "slow.npz")
    case = CaseConfig(ref_image_path=str(stage.reference), ref_video_path=str(slow))
    config = InferenceConfig(test_case=(case,))
    with pytest.raises(InputError, match=r"cannot write .*mp4 at 1e-06 frames a second"):
        check_inputs(config, tmp_path)


def test_frames_hours_apart_drive_at_their_own_rate(stage: Stage, pipeline: Any, tmp_path: Path) -> None:
    slow = replace(stage.driving_poses, fps=1 / 3600)
    result = generate(
        stage.reference, slow, pipeline=pipeline, output=tmp_path / "a.mp4", align="robust", max_frames=2,
        reference_pose=stage.reference_pose,
    )  # fmt: skip
    assert probe(result.path).fps == Fraction(1, 3600)


def test_settings_are_checked_before_a_model_is_loaded(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        generate(stage.reference, stage.driving, model="no/where", output=tmp_path / "a.mp4", stat=1)


def test_a_folder_appears_when_it_is_whole_and_finished_frames_are_kept(tmp_path: Path) -> None:
    frame = np.full((4, 6, 3), 7, np.uint8)
    with (
        pytest.raises(RuntimeError),
        FolderWriter(tmp_path / "a", height=4, width=6, keep_unfinished=True) as w,
    ):
        w.write(frame)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.unfinished"]
    with open_writer(tmp_path / "a", height=4, width=6, fps=5) as writer:
        writer.write(frame)
        assert not (tmp_path / "a").exists()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["00001.png"]
    (tmp_path / "file").touch()
    with (
        pytest.raises(VideoWriteError, match="it is a file"),
        open_writer(tmp_path / "file", height=4, width=6, fps=5),
    ):
        pass


def test_the_same_frames_give_the_same_bytes_in_every_format(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 255, (3, 17, 21, 3), dtype=np.uint8)
    for suffix in (".webm", ".gif", ".mkv"):
        for name in ("a", "b"):
            with open_writer(tmp_path / f"{name}{suffix}", height=17, width=21, fps=10) as writer:
                for frame in clip:
                    writer.write(frame)
        one, other = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
        assert one == other
    assert (probe(tmp_path / "a.gif").height, probe(tmp_path / "a.gif").width) == (17, 21)
    with pytest.raises(ValueError, match="players show a GIF at 50 at most"):
        open_writer(tmp_path / "c.gif", height=4, width=4, fps=60)
