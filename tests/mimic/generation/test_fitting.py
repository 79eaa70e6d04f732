"""What a case's settings do to the fit: corrections move the driving frames and leave the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mimic.config import CaseSettings, ConfigError
from mimic.config.loading import build
from mimic.generation.drivers.skeleton import SkeletonMaps, fit_to_reference
from pose import PoseSequence
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


def two_people(poses: PoseSequence, apart: float) -> PoseSequence:
    """The same person twice: to the right, first along P, and to the left."""
    shift = np.array([apart, 0.0])
    return replace(
        poses,
        points=np.concatenate([poses.points + shift, poses.points - shift], axis=1),
        scores=np.concatenate([poses.scores] * 2, axis=1),
        is_present=np.ones((len(poses), 2), bool),
    )


def test_everybody_is_fitted_to_their_own_body_and_drawn(stage: Stage) -> None:
    driving, reference = two_people(stage.driving_poses, 0.1), two_people(stage.reference_pose, 0.25)
    settings = CaseSettings(person="all", align="limbs")
    poses = fit_to_reference(driving, reference, settings)
    one = fit_to_reference(stage.driving_poses, stage.reference_pose, CaseSettings(align="limbs"))
    for person, shift in ((0, -0.25), (1, 0.25)):  # from the left
        np.testing.assert_allclose(
            poses.points[:, person, :18], one.points[:, 0, :18] + [shift, 0.0], atol=1e-6
        )
    assert [fit["reference"] for fit in poses.metadata["alignment"]["people"]] == [1, 0]
    assert SkeletonMaps(poses, 64, 64, in_depth=True, canvas_short_side=256).draw(3).any()
    swapped = fit_to_reference(driving, reference, settings.model_copy(update={"pairs": {0: 1, 1: 0}}))
    assert [fit["driving"] for fit in swapped.metadata["alignment"]["people"]] == [0, 1]


def test_released_fits_move_everybody_alike(stage: Stage) -> None:
    driving, reference = two_people(stage.driving_poses, 0.1), two_people(stage.reference_pose, 0.25)
    settings = CaseSettings(person="all", align="none")
    np.testing.assert_array_equal(fit_to_reference(driving, reference, settings).points[1:], driving.points)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pairs": {0: 1}}, "pairs needs person: all"),
        ({"pairs": {0: -1}, "person": "all", "align": "limbs"}, "counted from 0"),
        ({"missing": "guess"}, "missing is 'guess'"),
        ({"background": "blue"}, "background is 'blue'"),
    ],
)
def test_invalid_settings_are_one_sentence(settings: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        build(CaseSettings, settings)


def test_invalid_corrections_stop_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match=r"adjust: adjust\.limbs has no 'tail'"):
        build(CaseSettings, {"adjust": {"limbs": {"tail": 2}}})
