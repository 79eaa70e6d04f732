"""`generate` tells wrong settings and inputs in a sentence, before it writes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic import generate
from mimic.config import ConfigError
from mimic.video import PictureError
from pose import PoseError
from pose.estimators import Estimator
from tests.dancers import Stage
from tests.media import even_times, write_clip
from tests.mimic.generation.test_animate import make

pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


def test_wrong_settings_are_told_and_nothing_is_written(stage: Stage, pipeline: Any, tmp_path: Path) -> None:
    output = tmp_path / "a.mp4"
    with pytest.raises(ConfigError, match=r"tile_sise is not a setting; did you mean tile_size\?"):
        make(stage, pipeline, output, tile_sise=3)
    with pytest.raises(ValueError, match="this model needs multiples of 8; use height: 32 and width: 32"):
        make(stage, pipeline, output, height=33, width=32)
    with pytest.raises(ValueError, match="overlap is 6"):
        make(stage, pipeline, output, tile_overlap=6)
    with pytest.raises(ValueError, match="ends in one of"):
        make(stage, pipeline, tmp_path / "a.avi", max_frames=1)
    with pytest.raises(ValueError, match="its name takes 244 bytes"):
        make(stage, pipeline, tmp_path / f"{'x' * 240}.mp4")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(ValueError, match=r"b\.mp4: it is a folder"):
        make(stage, pipeline, tmp_path / "b.mp4")


def test_a_name_that_windows_takes_for_something_else_is_said(
    stage: Stage, pipeline: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        make(stage, pipeline, tmp_path / "take:1.mp4", reference=tmp_path / "none.png")
    assert "take:1.mp4; it has ':' in it, which not every system takes in a file name" in caplog.text


def test_files_that_are_missing_or_something_else_are_told(
    stage: Stage, pipeline: Any, tmp_path: Path
) -> None:
    output = tmp_path / "a.mp4"
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        make(stage, pipeline, output, reference=tmp_path / "none.png")
    with pytest.raises(PictureError, match="not a picture"):
        make(stage, pipeline, output, reference=stage.driving)
    with pytest.raises(FileNotFoundError, match="there is no video"):
        make(stage, pipeline, output, driving=tmp_path / "none.mp4")
    with pytest.raises(PoseError, match="is no pose file"):
        make(stage, pipeline, output, driving=stage.model / "model_index.json")
    assert list(tmp_path.iterdir()) == []


def test_clips_and_pictures_without_a_person_are_told(
    stage: Stage, pipeline: Any, estimator: Estimator, tmp_path: Path
) -> None:
    output = tmp_path / "a.mp4"
    nobody = write_clip(tmp_path / "nobody.mp4", even_times(3, 10), height=128, width=128)
    with pytest.raises(PoseError, match=r"nobody\.mp4: nobody"):
        make(stage, pipeline, output, driving=nobody, estimator=estimator)
    empty = np.full((64, 64, 3), 200, np.uint8)
    with pytest.raises(PoseError, match="nobody is found in the picture"):
        generate(empty, stage.driving_poses, pipeline=pipeline, output=output, estimator=estimator)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nobody.mp4"]
