"""The reference's background: still outside the person, generated within, measured before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic import generate
from mimic.config import CaseSettings
from mimic.generation.background import ReferenceBackground, check_background
from mimic.generation.drivers import DriverTools, load_driver
from tests.dancers import Stage
from tests.pose.figures import clip

pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


def noise(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (160, 120, 3), dtype=np.uint8) for _ in range(count)]


def test_outside_the_person_the_picture_stands_still() -> None:
    picture, frames = np.full((160, 120, 3), 90, np.uint8), noise(5)
    background = ReferenceBackground(picture, clip(num_frames=6, size=80.0, step=(4.0, 0.0)))
    laid = list(background.lay_over(frames))
    assert all((frame[:, :8] == 90).all() for frame in laid)
    np.testing.assert_array_equal(laid[0][60, 60], frames[0][60, 60])  # on the trunk
    np.testing.assert_array_equal(laid[4][60, 75], frames[4][60, 75])  # which moves to the right
    np.testing.assert_array_equal(laid[4][60, 60], frames[4][60, 60])  # where the reference's person stood
    told = background.as_dict()
    assert told["generated"]["flicker"] > 50
    assert told["laid_over_the_reference"]["flicker"] < 0.3 * told["generated"]["flicker"]
    assert told["laid_over_the_reference"]["drift"] < 0.3 * told["generated"]["drift"]


def test_the_edge_is_feathered() -> None:
    picture = np.zeros((160, 120, 3), np.uint8)
    mask = ReferenceBackground(picture, clip(num_frames=2, size=80.0)).mask(1)
    assert mask.min() == 0.0
    assert mask.max() == pytest.approx(1.0)
    assert np.abs(np.diff(mask, axis=1)).max() < 0.35


def test_without_anybody_only_the_references_place_is_generated() -> None:
    poses = clip(num_frames=3, size=60.0)
    poses.scores[1:] = 0.0
    laid = list(ReferenceBackground(np.zeros((160, 120, 3), np.uint8), poses).lay_over(noise(2)))
    assert (laid[1][:, 100:] == 0).all()
    assert laid[1][60, 60].any()


def test_a_run_writes_flicker_before_and_after(stage: Stage, pipeline: Any, output: Path) -> None:
    result = generate(
        stage.reference, stage.driving_poses, pipeline=pipeline, output=output,
        reference_pose=stage.reference_pose, align="limbs", sample_stride=1, max_frames=4,
        background="reference",
    )  # fmt: skip
    told = json.loads(result.report.read_text())["background"]
    assert set(told) == {"generated", "laid_over_the_reference"}


def test_models_without_skeletons_refuse_it() -> None:
    driver = load_driver("densepose", DriverTools(lambda: pytest.fail("not needed")))
    check_background(CaseSettings(), driver)
    with pytest.raises(ValueError, match="needs the skeletons"):
        check_background(CaseSettings(background="reference"), driver)
