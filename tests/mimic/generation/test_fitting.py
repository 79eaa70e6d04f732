"""What a case's settings do to the fit: corrections move the driving frames and leave the reference."""

from __future__ import annotations

import numpy as np
import pytest

from mimic.config import CaseSettings, ConfigError
from mimic.config.loading import build
from mimic.generation.drivers.skeleton import fit_to_reference
from tests.dancers import Stage


def test_corrections_move_the_driving_frames_alone(stage: Stage) -> None:
    plain, moved = (
        fit_to_reference(
            stage.driving_poses, stage.reference_pose, CaseSettings(align="limbs", adjust=adjust)
        )
        for adjust in (None, {"offset": [0.05, 0.0]})
    )
    np.testing.assert_array_equal(moved.points[0], plain.points[0])
    np.testing.assert_allclose((moved.points - plain.points)[1:, ..., 0], 0.05)
    assert moved.metadata["adjust"]["offset"] == [0.05, 0.0]
    assert moved.metadata["alignment"]["mode"] == "limbs"


def test_invalid_corrections_stop_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"adjust: adjust\.limbs has no 'tail'"):
        build(CaseSettings, {"adjust": {"limbs": {"tail": 2}}})
