"""Results that are there: kept when unchanged, set aside when not, never replaced when they are not ours."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from mimic.results import (
    ResultError,
    ResultFiles,
    check_inputs_stay,
    finish_placing,
    hash_of_video,
    identity_of,
    is_same,
    place,
    read_result,
    set_aside,
)


def make_result(files: ResultFiles, identity: str = "one", content: bytes = b"video") -> dict:
    files.video.write_bytes(content)
    output = {"file": files.video.name, "side_by_side": None, "sha256": hash_of_video(files.video)}
    if files.side_by_side is not None:
        files.side_by_side.write_bytes(b"beside")
        output["side_by_side"] = files.side_by_side.name
    output |= {"num_frames": 3, "fps": 8.0, "height": 16, "width": 16, "has_audio": False}
    report = {"output": output, "versions": {"mimic": "0"}, "identity": identity, "seconds": 1.0}
    files.report.write_text(json.dumps(report))
    return report


@pytest.fixture
def files(tmp_path: Path) -> ResultFiles:
    return ResultFiles(tmp_path / "case.mp4", tmp_path / "case_side_by_side.mp4")


def test_a_result_is_known_again_by_what_it_was_made_of(files: ResultFiles) -> None:
    assert read_result(files) is None
    assert not is_same(None, files, "one")
    report = make_result(files)
    assert read_result(files) == report
    assert is_same(report, files, "one")
    assert not is_same(report, files, "two")
    files.side_by_side.unlink()
    assert not is_same(read_result(files), files, "one")


def test_files_that_no_json_of_ours_fits_are_refused(files: ResultFiles) -> None:
    files.video.write_bytes(b"holiday")
    with pytest.raises(ResultError, match=r"case\.mp4 is there and is no result of mimic's"):
        read_result(files)
    files.report.write_text(json.dumps({"title": "holiday", "versions": {"mimic": "0"}}))
    with pytest.raises(ResultError):
        read_result(files)
    make_result(files)
    files.video.write_bytes(b"holiday")  # in our result's place
    with pytest.raises(ResultError):
        read_result(files)
    make_result(ResultFiles(files.video))
    files.side_by_side.write_bytes(b"holiday")
    with pytest.raises(ResultError):
        read_result(files)


def test_a_former_result_keeps_all_its_files_under_the_next_free_number(files: ResultFiles) -> None:
    make_result(files, content=b"first")
    with set_aside(files, is_kept=True) as former:
        make_result(files, content=b"second")
    assert former is not None
    assert former.video.name == "case.1.mp4"
    assert former.video.read_bytes() == b"first"
    assert former.report.name == "case.1.json"
    assert former.side_by_side.name == "case_side_by_side.1.mp4"
    with set_aside(files, is_kept=True) as former:
        make_result(files, content=b"third")
    assert former.video.name == "case.2.mp4"
    assert [path.read_bytes() for path in sorted(files.video.parent.glob("case*.mp4"))].count(b"beside") == 3


def test_a_failure_puts_the_former_result_back(files: ResultFiles) -> None:
    make_result(files, content=b"first")
    with pytest.raises(RuntimeError), set_aside(files, is_kept=True):
        raise RuntimeError
    assert files.video.read_bytes() == b"first"
    assert not list(files.video.parent.glob("case.1.*"))


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "home", "dots"])
def test_an_input_is_never_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    clip, output = tmp_path / "dance.mp4", tmp_path / "out" / "dance.mp4"
    clip.write_bytes(b"mine")
    output.parent.mkdir()
    source: str | Path = clip
    if link == "symlink":
        output.symlink_to(clip)
    elif link == "hardlink":
        os.link(clip, output)
    elif link == "home":
        source, output = "~/dance.mp4", clip
    elif link == "dots":
        output = tmp_path / "out" / ".." / "dance.mp4"
    else:
        output = clip
    with pytest.raises(ResultError, match="would be replaced"):
        check_inputs_stay([output], [np.zeros(3), source])
    check_inputs_stay([tmp_path / "other.mp4"], [np.zeros(3), source])


def test_an_identity_counts_arrays_by_their_bytes_and_not_the_order_of_keys() -> None:
    one = identity_of({"a": np.arange(3), "b": 1})
    assert one == identity_of({"b": 1, "a": np.arange(3)})
    assert one != identity_of({"a": np.arange(4), "b": 1})
    assert one != identity_of({"a": np.arange(3.0), "b": 1})


@pytest.mark.parametrize("is_former_kept", [True, False])
def test_a_result_is_placed_whole_wherever_that_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_former_kept: bool
) -> None:
    replace = os.replace
    for num_moves in range(8):
        folder = tmp_path / str(num_moves)
        staged = folder / "a.unfinished" / "one"
        staged.mkdir(parents=True)
        files = ResultFiles(folder / "a.mp4", folder / "a_side_by_side.mp4")
        for path in files:
            path.write_text(f"former {path.name}")
        for path in files.inside(staged):
            path.write_text(f"new {path.name}")
        done: list[object] = []

        def stop(source: object, target: object) -> None:
            if len(done) == num_moves:  # noqa: B023 - called within this turn of the loop
                raise KeyboardInterrupt
            done.append(source)  # noqa: B023
            replace(source, target)  # type: ignore[call-overload]

        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(os, "replace", stop)
            place(staged, files, is_former_kept=is_former_kept)
        if num_moves > 0:  # the first move is that of the journal
            finish_placing(staged)
            assert [path.read_text() for path in files] == [f"new {path.name}" for path in files]
            assert [path.exists() for path in files.numbered(1)] == [is_former_kept] * 3
            assert not finish_placing(staged)
            assert list(staged.iterdir()) == []


@pytest.mark.parametrize("versions", [5, True, "mimic", ["mimic"], None])
def test_a_report_whose_versions_are_none_is_not_ours(files: ResultFiles, versions: object) -> None:
    report = make_result(files)
    files.report.write_text(json.dumps({**report, "versions": versions}))
    with pytest.raises(ResultError):
        read_result(files)


def test_a_report_that_says_too_little_of_its_result_is_made_again(files: ResultFiles) -> None:
    report = make_result(files)
    assert is_same(report, files, "one")
    for name in ("num_frames", "has_audio"):
        output = {key: value for key, value in report["output"].items() if key != name}
        assert not is_same({**report, "output": output}, files, "one")
    assert not is_same({key: value for key, value in report.items() if key != "seconds"}, files, "one")


@pytest.mark.parametrize("lost", ["folder", "video", "side_by_side", "former"])
def test_a_journal_that_lacks_something_is_not_followed(tmp_path: Path, lost: str) -> None:
    journal = {"folder": "..", "video": "a.mp4", "side_by_side": None, "former": None}
    (tmp_path / "placing.json").write_text(json.dumps({k: v for k, v in journal.items() if k != lost}))
    assert not finish_placing(tmp_path)
