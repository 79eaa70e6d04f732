"""Poses of a clip are estimated once for each content of clip and estimator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mimic.generation import pose_cache
from mimic.generation.pose_cache import PoseCache, cache_folder
from pose import PoseSequence
from tests.dancers import Stage


class Estimates:
    """Counts how often poses are estimated."""

    def __init__(self, poses: PoseSequence) -> None:
        self.poses, self.num_calls = poses, 0

    def __call__(self) -> PoseSequence:
        self.num_calls += 1
        return self.poses


def test_the_same_clip_is_estimated_once_under_any_name(stage: Stage, tmp_path: Path) -> None:
    estimates = Estimates(stage.driving_poses)
    other = tmp_path / "other name.mp4"
    other.write_bytes(stage.driving.read_bytes())
    first, second = (
        PoseCache({"files": "a"}, tmp_path / "cache")(clip, {"stride": 1}, estimates)
        for clip in (stage.driving, other)
    )
    assert estimates.num_calls == 1
    for name in ("points", "scores", "is_present"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert (first.fps, first.height, first.width) == (second.fps, second.height, second.width)


def test_other_content_settings_or_estimators_are_estimated_anew(stage: Stage, tmp_path: Path) -> None:
    estimates, folder = Estimates(stage.driving_poses), tmp_path / "cache"
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(stage.driving.read_bytes() + b"0")
    PoseCache({"files": "a"}, folder)(stage.driving, {"stride": 1}, estimates)
    PoseCache({"files": "a"}, folder)(changed, {"stride": 1}, estimates)
    PoseCache({"files": "a"}, folder)(stage.driving, {"stride": 2}, estimates)
    PoseCache({"files": "b"}, folder)(stage.driving, {"stride": 1}, estimates)
    assert estimates.num_calls == 4


def test_a_damaged_file_is_made_anew_and_a_folder_that_cannot_be_written_costs_nothing(
    stage: Stage, tmp_path: Path
) -> None:
    estimates, cache = Estimates(stage.driving_poses), PoseCache({}, tmp_path / "cache")
    cache(stage.driving, {}, estimates)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    cache(stage.driving, {}, estimates)
    cache(stage.driving, {}, estimates)
    assert estimates.num_calls == 2
    (tmp_path / "file").touch()
    assert PoseCache({}, tmp_path / "file")(stage.driving, {}, estimates) is stage.driving_poses


def test_the_oldest_are_removed_beyond_the_limit(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, estimates = PoseCache({}, tmp_path), Estimates(stage.driving_poses)
    for stride in (1, 2):
        cache(stage.driving, {"stride": stride}, estimates)
    (tmp_path / "of the user.npz").touch()
    first, second = sorted(tmp_path.glob("?" * 64 + ".npz"), key=lambda path: path.stat().st_mtime_ns)
    os.utime(first, (1, 1))
    monkeypatch.setattr(pose_cache, "MAX_BYTES", second.stat().st_size * 2)
    cache(stage.driving, {"stride": 3}, estimates)
    assert (first.exists(), second.exists(), (tmp_path / "of the user.npz").exists()) == (False, True, True)


def test_the_folder_can_be_chosen_and_the_cache_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIMIC_POSE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("MIMIC_POSE_CACHE", "off")
    assert cache_folder() is None
    monkeypatch.delenv("MIMIC_POSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mimic" / "poses"
