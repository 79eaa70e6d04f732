"""The verdict on driving poses, and its marks in the side-by-side video."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic import generate
from mimic.generation.panels import MARK_COLOUR, STRIP, Panels
from mimic.generation.reference import Reference
from mimic.generation.verdict import judge_driving
from pose import PoseError, PoseSequence, draw_pose
from pose.fit import judge_fit
from tests.dancers import Stage
from tests.pose.figures import clip

pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


def poses(**changes: Any) -> PoseSequence:
    return clip(num_frames=20, fps=10.0, **changes)


def test_a_clear_clip_is_good() -> None:
    verdict = judge_driving(poses(), [judge_fit(poses(), clip())], reference=clip())
    assert verdict.is_good
    assert verdict.as_dict() == {"is_good": True, "sentences": [], "faults": []}


def test_each_fault_has_its_stretches_and_sentence() -> None:
    driving = poses()
    driving.scores[3:8] = 0.0
    driving.scores[10:14] = 0.35
    driving.points[16:20, ..., 0] += 2.0
    verdict = judge_driving(driving, [], reference=clip(), alignment={"scale": [5.0, 5.0]})
    kinds = {fault.kind: list(fault.stretches) for fault in verdict.faults}
    assert kinds == {"nobody seen": [(3, 8)], "unsure": [(10, 14)], "cut off": [(16, 20)], "scale": []}
    assert verdict.sentences[0] == "5 of 20 frames show nobody (0.3–0.8 s)"
    assert verdict.marks[3] == "nobody seen"
    assert verdict.marks[19] == "cut off"
    assert 9 not in verdict.marks
    assert json.loads(json.dumps(verdict.as_dict()))["sentences"] == verdict.sentences


def test_a_poor_fit_is_a_fault() -> None:
    driving = poses(size=40.0)
    verdict = judge_driving(driving, [judge_fit(driving, clip())], reference=clip())
    assert [fault.kind for fault in verdict.faults] == ["fit"]


def test_legs_that_a_half_body_reference_does_not_show_are_not_cut_off() -> None:
    reference = clip()
    reference.scores[..., 8:14] = 0.0
    driving = poses()
    driving.points[..., 8:14, 1] += 2.0
    assert judge_driving(driving, [], reference=reference).is_good


def test_marked_frames_have_a_bar_above_the_driving_map() -> None:
    picture = np.zeros((384, 288, 3), np.uint8)
    panels = Panels(Reference("", picture, picture, None), Maps(), {2: "nobody seen"})
    plain, marked = panels.draw(2, picture)[STRIP:], panels.draw(3, picture)[STRIP:]
    assert (plain == 0).all()
    assert tuple(marked[1, 288 + 280]) == MARK_COLOUR
    assert (marked[:, :288] == 0).all()
    assert (marked[:, 576:] == 0).all()


class Maps:
    """Black driving maps."""

    def __len__(self) -> int:
        return 5

    def __call__(self, frames: list[int]) -> np.ndarray:
        return np.stack([self.draw(frame) for frame in frames])

    def draw(self, frame: int) -> np.ndarray:
        return np.zeros((384, 288, 3), np.uint8)

    def resized(self, height: int, width: int) -> Maps:
        return self


def test_a_run_writes_its_verdict_and_fit(stage: Stage, pipeline: Any, output: Path) -> None:
    scores = stage.driving_poses.scores.copy()
    scores[3:9] = 0.0
    driving = replace(stage.driving_poses, scores=scores)
    result = generate(
        stage.reference, driving, pipeline=pipeline, output=output, reference_pose=stage.reference_pose,
        align="limbs", sample_stride=1, missing="hold",
    )  # fmt: skip
    report = json.loads(result.report.read_text())
    assert report["verdict"]["faults"][0]["stretches"] == [[3, 9]]
    assert report["poses"]["fit"][0]["overlap"] > 0.5
    assert result.poses is not None
    np.testing.assert_array_equal(result.poses.points[9], result.poses.points[3])  # frame 0 is the reference
    assert (result.poses.scores[9] > 0).any()
    shown = draw_pose(result.poses[9], 64, 64, canvas_short_side=256)
    assert shown.any()


def test_missing_people_can_stop_a_run(stage: Stage, pipeline: Any, output: Path) -> None:
    scores = stage.driving_poses.scores.copy()
    scores[3:9] = 0.0
    with pytest.raises(PoseError, match=r"nobody is seen in 6 of .* missing is fail"):
        generate(
            stage.reference, replace(stage.driving_poses, scores=scores), pipeline=pipeline, output=output,
            reference_pose=stage.reference_pose, align="robust", sample_stride=1, missing="fail",
        )  # fmt: skip
    assert not output.exists()
