"""What moves the person: missing people are reported, drawn skeletons are refused, short gaps are bridged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mimic import generate
from mimic.config import CaseSettings
from mimic.families.registry import FAMILIES
from mimic.generation.drivers import DRIVERS, DriverTools, load_driver
from mimic.generation.drivers.skeleton import fit_to_reference
from mimic.video import VideoError, VideoWriter
from pose import PoseSequence, draw_pose
from tests.dancers import Stage

pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


def test_every_family_is_driven_by_a_driver_that_exists() -> None:
    assert {family.pipeline_class().driven_by for family in FAMILIES.values()} <= set(DRIVERS)
    with pytest.raises(ValueError, match="driven by 'sound'; known drivers are skeleton, densepose"):
        load_driver("sound", DriverTools(lambda: pytest.fail("not needed")))


def test_a_clip_of_drawn_skeletons_is_refused_with_the_remedy(
    stage: Stage, pipeline: Any, output: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "skeletons.mp4"
    with VideoWriter(clip, height=384, width=384, fps=10) as writer:
        for frame in draw_pose(stage.driving_poses, 384, 384, canvas_short_side=384):
            writer.write(frame)
    with pytest.raises(VideoError, match=r"shows drawn skeletons, not a person\. .*\.npz"):
        generate(
            stage.reference, clip, pipeline=pipeline, output=output, reference_pose=stage.reference_pose,
            align="robust",
        )  # fmt: skip
    assert not output.exists()


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
