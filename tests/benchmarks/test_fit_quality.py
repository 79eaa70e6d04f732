"""The benchmark of fits: its errors are right where the answer is known."""

import json

import numpy as np
import pytest

from benchmarks import fit_quality
from benchmarks.fit_scenes import make_pair
from pose import align_pose


def test_the_truth_itself_has_no_error() -> None:
    pair = make_pair("whole", 0)
    assert fit_quality.error_of(pair.truth, pair) == (0, 0)


def test_a_shift_is_an_error_of_place_alone() -> None:
    pair = make_pair("child", 0)
    shifted = pair.truth.points + np.array([0.0, 0.05 * pair.body_height])
    place, shape = fit_quality.error_of(type(pair.truth)(shifted, pair.truth.scores, 128, 128), pair)
    assert place == pytest.approx(5.0)
    assert shape == pytest.approx(0.0, abs=1e-9)


def test_limbs_fit_other_proportions_better_than_one_scale() -> None:
    pairs = [make_pair("cartoon", seed) for seed in range(3)]
    errors = {mode: fit_quality.mean_errors(pairs, mode, "ground")[1] for mode in ("robust", "limbs")}
    assert errors["limbs"] < 0.75 * errors["robust"]


def test_a_seated_reference_leaves_the_size_of_the_figure() -> None:
    pair = make_pair("seated_reference", 0)
    fitted = align_pose(pair.driving, pair.reference, mode="limbs")
    assert fit_quality.error_of(fitted, pair)[1] < 4


def test_the_command_prints_a_table_and_writes_its_numbers(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "numbers.json"
    arguments = ["fit_quality", "--quick", "--cases", "whole", "walk", "--json", str(path)]
    monkeypatch.setattr("sys.argv", arguments)
    fit_quality.main()
    assert "| walk | " in capsys.readouterr().out
    assert set(json.loads(path.read_text())["errors"]) == {"whole", "walk"}
