"""The folder of results: numbers, order, damaged reports, and what killed servers leave."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mimic.ui.errors import StudioError
from mimic.ui.results import RECIPE, REPORT, Result, finished_results, new_folder, remove_left

DAY = 24 * 3600.0


def test_numbers_go_on_beyond_four_digits(tmp_path: Path) -> None:
    for name in ("9999_a", "10000_b", "notes", "2024 holidays"):
        (tmp_path / name).mkdir()
    assert new_folder(tmp_path, "c").name == "10001_c"
    for name in ("9999_a", "10000_b", "10001_c"):
        (tmp_path / name / RECIPE).touch()
    assert [result.name for result in finished_results(tmp_path)] == ["10001_c", "10000_b", "9999_a"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"output": {}}), json.dumps({"output": 3})])
def test_a_damaged_report_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / REPORT).write_text(text)
    with pytest.raises(StudioError, match=r"report of .* is missing or damaged"):
        Result(tmp_path).words()


def test_what_a_killed_server_left_is_removed_after_a_day(tmp_path: Path) -> None:
    kept = ["0001_done/result.yaml", "0003_under_way/driving.mp4", ".uploads/ab/new.png", "mine/notes.txt"]
    left = ["0002_killed/driving.mp4", ".uploads/cd/old.png"]
    for name in kept + left:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("x")
    long_ago = time.time() - 2 * DAY
    for name in (*left, kept[0], kept[3]):
        os.utime(tmp_path / name, (long_ago, long_ago))
        os.utime((tmp_path / name).parent, (long_ago, long_ago))
    remove_left(tmp_path, older_than_s=DAY)
    assert [(tmp_path / name).exists() for name in kept + left] == [True] * 4 + [False] * 2
    assert not (tmp_path / "0002_killed").exists()
