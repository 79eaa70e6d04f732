"""Files appear whole, and with the mode that the user's umask gives."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mimic.families.registry import load_task
from mimic.files import (
    apply_umask,
    local_path,
    whole_file,
    whole_folder,
    without_empty_folders,
    write_json,
)
from tests.pose.figures import clip

STATE = {"a": torch.ones(3)}


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=["022", "002", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    if os.name == "nt":
        pytest.skip("Windows has no umask")
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}


def test_files_and_folders_have_the_mode_of_the_umask(umask: int, tmp_path: Path) -> None:
    usual = 0o666 & ~umask
    with whole_file(tmp_path / "cache.safetensors") as beside:
        save_file(STATE, beside)
        beside.chmod(0o600)  # as safetensors leaves it
    with whole_folder(tmp_path / "checkpoint") as beside:
        save_file(STATE, beside / "model.safetensors")
        (beside / "unet").mkdir()
        save_file(STATE, beside / "unet" / "model.safetensors")
        (beside / "unet" / "model.safetensors").chmod(0o600)
        (beside / "facts.json").write_text("{}")
    write_json(tmp_path / "case.json", {})
    found = modes(tmp_path)
    assert set(found) == {"cache.safetensors", "model.safetensors", "facts.json", "case.json"}
    assert set(found.values()) == {usual}
    assert stat.S_IMODE((tmp_path / "checkpoint").stat().st_mode) == 0o777 & ~umask


def test_a_saved_pipeline_can_be_read_by_whom_the_umask_lets(umask: int, tmp_path: Path) -> None:
    load_task("mimicmotion").tiny_pipeline(height=16, width=16, seed=0).save_pretrained(tmp_path / "model")
    found = modes(tmp_path / "model")
    assert sum(name.endswith(".safetensors") for name in found) >= 1
    assert set(found.values()) == {0o666 & ~umask}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_links_and_files_of_the_usual_mode_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("of another")
    (tmp_path / "target").chmod(0o400)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    apply_umask([tmp_path / "link"])
    assert stat.S_IMODE((tmp_path / "target").stat().st_mode) == 0o400
    assert {path.name for path in tmp_path.iterdir()} == {"target", "link"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        for name, write in (
            ("a.json", lambda path: write_json(path, "x" * 9999)),
            ("a.npz", clip(num_frames=9, jitter=1.0).save),
        ):
            with pytest.raises(OSError, match=name):
                write(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_raises_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a.json") as beside:
        beside.write_text("new")
        raise RuntimeError
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "folder") as beside:
        (beside / "a").write_text("new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_the_home_of_nobody_is_refused_and_a_file_of_such_a_name_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no user nosuchuser"):
        local_path("~nosuchuser/clip.mp4")
    Path("~clip.mp4").touch()
    assert local_path("~clip.mp4") == Path("~clip.mp4")
    assert local_path("~/clip.mp4") == Path.home() / "clip.mp4"


def test_folders_that_were_made_for_nothing_are_removed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with without_empty_folders(tmp_path / "there" / "a" / "b"):
        (tmp_path / "there" / "a" / "b").mkdir(parents=True)
    assert list((tmp_path / "there").iterdir()) == []
    with without_empty_folders(tmp_path / "there"), contextlib.suppress(ValueError):
        raise ValueError("a folder that was there stays, empty or not")
    with without_empty_folders(tmp_path / "c" / "d"):
        (tmp_path / "c" / "d").mkdir(parents=True)
        (tmp_path / "c" / "file").touch()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["file"]
