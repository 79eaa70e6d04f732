"""What moves the person: missing people are reported, drawn skeletons are read, short gaps are bridged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mimic import generate
from mimic.config import CaseSettings
from mimic.families.registry import FAMILIES
from mimic.generation.drivers import DRIVERS, DriverTools, load_driver
from mimic.generation.drivers.skeleton import fit_to_reference, read_poses
from mimic.video import VideoWriter
from pose import PoseError, PoseSequence, draw_pose
from pose.estimators import Estimator
from tests.dancers import Stage

pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


def test_every_family_is_driven_by_a_driver_that_exists() -> None:
    assert {family.pipeline_class().driven_by for family in FAMILIES.values()} <= set(DRIVERS)
    with pytest.raises(ValueError, match="driven by 'sound'; known drivers are skeleton, densepose"):
        load_driver("sound", DriverTools(lambda: pytest.fail("not needed")))


def written(frames: NDArray[np.uint8], path: Path) -> Path:
    with VideoWriter(path, height=frames.shape[1], width=frames.shape[2], fps=10) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_drawn_skeletons_drive_as_the_poses_that_they_were_drawn_of(stage: Stage, tmp_path: Path) -> None:
    maps = draw_pose(stage.driving_poses[slice(0, 5)], 512, 512, canvas_short_side=512)
    clip = written(maps, tmp_path / "skeletons.mp4")
    driver = load_driver("skeleton", DriverTools(lambda: pytest.fail("not needed")))
    settings = CaseSettings(align="robust", sample_stride=1, max_frames=5)
    driver.check_driving(clip, settings)
    found = read_poses(clip, driver.tools.estimator, settings).poses
    true = stage.driving_poses[slice(0, 5)]
    is_seen = (true.scores[:, 0, :14] > 0.3) & (found.scores[:, 0, :14] > 0.3)
    assert is_seen.mean() > 0.7
    distance = np.linalg.norm(found.points[:, 0, :14] - true.points[:, 0, :14], axis=-1)
    assert np.percentile(distance[is_seen], 90) < 0.01


@pytest.mark.parametrize("shows", ["nobody", "rainbow"])
def test_a_clip_without_anybody_is_refused_from_a_few_frames(
    shows: str, estimator: Estimator, tmp_path: Path
) -> None:
    frames = np.full((50, 96, 96, 3), 90, np.uint8)
    if shows == "rainbow":
        frames[:] = 0
        for i, colour in enumerate([(255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255)]):
            frames[:, 8 + 16 * i : 12 + 16 * i, 4:60] = colour
            frames[:, 8 + 16 * i : 12 + 16 * i, 60:92] = colour[1:] + colour[:1]
    driver = load_driver("skeleton", DriverTools(lambda: estimator))
    sentence = {
        "nobody": "nobody is found in 12 frames looked at, spread over the clip",
        "rainbow": r"drawn skeletons whose joints cannot be read.*\.npz",
    }[shows]
    with pytest.raises(PoseError, match=sentence):
        driver.check_driving(written(frames, tmp_path / "clip.mp4"), CaseSettings(sample_stride=1))


def test_a_person_who_comes_later_is_enough(stage: Stage, tmp_path: Path) -> None:
    maps = draw_pose(stage.driving_poses, 256, 256, canvas_short_side=256)
    clip = written(np.concatenate([np.zeros_like(maps), maps]), tmp_path / "clip.mp4")
    driver = load_driver("skeleton", DriverTools(lambda: pytest.fail("not needed")))
    driver.check_driving(clip, CaseSettings(sample_stride=1))


def test_poses_that_show_nobody_are_refused_before_the_model_is_loaded(stage: Stage, tmp_path: Path) -> None:
    nobody = with_nobody(replace(stage.driving_poses, is_present=None), slice(None))
    nobody = replace(nobody, is_present=np.zeros((len(nobody), 1), np.bool_))
    driver = load_driver("skeleton", DriverTools(lambda: pytest.fail("not needed")))
    with pytest.raises(PoseError, match="nobody"):
        driver.check_driving(nobody.save(tmp_path / "poses.npz"), CaseSettings())


def with_nobody(poses: PoseSequence, frames: slice) -> PoseSequence:
    scores = poses.scores.copy()
    scores[frames] = 0
    return replace(poses, scores=scores)


def test_frames_without_anybody_are_reported(
    stage: Stage, pipeline: Any, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driving = with_nobody(stage.driving_poses, slice(3, 9))
    caplog.set_level("INFO", logger="mimic")
    result = generate(
        stage.reference, driving, pipeline=pipeline, output=output, reference_pose=stage.reference_pose,
        align="robust", sample_stride=1,
    )  # fmt: skip
    presence = json.loads(result.report.read_text())["poses"]["presence"]
    assert (presence["num_empty"], presence["num_frames"]) == (6, len(driving))
    assert f"nobody is seen in 6 of {len(driving)} frames" in caplog.text


def test_short_gaps_are_bridged_except_as_released(stage: Stage) -> None:
    driving = replace(with_nobody(stage.driving_poses, slice(4, 5)), fps=10.0)
    shown = fit_to_reference(driving, stage.reference_pose, CaseSettings(align="robust"))
    assert shown.scores[5].max() > 0
    off = fit_to_reference(driving, stage.reference_pose, CaseSettings(align="robust", bridge_gaps=0))
    assert off.scores[5].max() == 0
    released = fit_to_reference(driving, stage.reference_pose, CaseSettings())
    assert released.scores[5].max() == 0
