"""Only what the index or the notes of a prepared folder name is ever replaced or removed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mimic.data.index import DataError, read_index
from mimic.data.prepare import prepare
from mimic.data.prepare.own import CONTACT_SHEET, own_poses
from mimic.data.prepare.sources import walk
from pose import PoseSequence
from tests.mimic.data.prepare.conftest import SMALL, contents

ADDED = (
    "poses/mine.npz",
    "poses/readme.txt",
    "poses/.hidden.partial.npz",
    "poses/deeper/one.npz",
    "clips/mine.mp4",
    "notes.partial.txt",
    ".notes.partial.txt",
    ".index.partial.jsonl",
    ".prepare/mine/video.json",
    ".prepare/0123456789abcdef/thesis.tex",
)


def add(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")


def again(videos: Path, out: Path) -> list[str]:
    said: list[str] = []
    prepare(videos, out, SMALL, num_workers=1, say=said.append)
    return said


@pytest.fixture
def out(prepared, tmp_path) -> Path:
    return shutil.copytree(prepared.folder, tmp_path / "data")


def test_a_users_files_survive_and_are_reported(out, videos):
    before = contents(out)
    for name in ADDED:
        add(out, name)
    said = "\n".join(again(videos, out))
    after = contents(out)
    assert {name for name in ADDED if after.get(name) == b"mine"} == set(ADDED)
    assert "left unchanged" in said
    for name in ("poses/mine.npz", "poses/readme.txt", "poses/deeper", "clips", "notes.partial.txt"):
        assert str(out / name) in said
    del before["prepare.json"]
    assert after.items() >= before.items()
    assert not any("left unchanged" in line for line in again(videos, prepared_copy(out, before)))


def prepared_copy(out: Path, names: dict[str, bytes]) -> Path:
    copy = out.parent / "copy"
    for name, content in names.items():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(content)
    (copy / "poses").mkdir(exist_ok=True)
    shutil.copy(out / "prepare.json", copy)
    return copy


def test_a_users_files_in_a_folder_that_was_only_begun_survive(videos, tmp_path):
    given, out = tmp_path / "videos", tmp_path / "data"
    given.mkdir()
    shutil.copy(videos / "short.mp4", given)
    add(out, "poses/mine.npz")
    said = again(given, out)
    assert (out / "poses" / "mine.npz").read_text() == "mine"
    assert any("poses/mine.npz" in line.replace("\\", "/") for line in said)


def test_poses_of_videos_that_are_gone_are_removed_with_their_notes(out, videos, tmp_path):
    given = shutil.copytree(videos, tmp_path / "videos")
    settings = json.loads((out / "prepare.json").read_text())
    (out / "prepare.json").write_text(json.dumps(settings | {"videos": str(given)}))
    (given / "one.mp4").unlink()
    names = own_poses(out)
    begun = {
        f"poses/.{min(names)}.77.tmp",
        ".index.77.partial.jsonl",
        ".contact.77.partial.png",
        f".prepare/{walk(given)[0].key}/.video.77.partial.json",
    }
    for name in begun:
        add(out, name)
    found = prepare(given, out, SMALL, num_workers=1)
    assert names - own_poses(out) == {name for name in names if name.startswith("one-")}
    assert {path.name for path in (out / "poses").iterdir()} == own_poses(out)
    assert {path.name for path in (out / ".prepare").iterdir()} == {source.key for source in walk(given)}
    assert not begun & contents(out).keys()
    assert len(found.clips) == 2


@pytest.mark.parametrize("name", ["index.jsonl", "rejected.jsonl", CONTACT_SHEET])
def test_a_folder_where_a_file_should_go_is_refused_before_the_work(name, out, videos, monkeypatch):
    (out / name).unlink()
    (out / name).mkdir()
    _is_refused(videos, out, f"{name} is a folder", monkeypatch)


def _is_refused(videos: Path, out: Path, told: str, monkeypatch) -> None:
    before = contents(out)
    monkeypatch.setattr("mimic.data.prepare.work.probe", None)  # any work would fail
    monkeypatch.setattr("mimic.data.prepare.work.load_estimator", None)
    with pytest.raises(DataError, match=told):
        prepare(videos, out, SMALL, num_workers=1)
    assert contents(out) == before


def test_a_folder_where_poses_or_notes_should_go_is_refused_before_the_work(out, videos, monkeypatch):
    clip = read_index(out)[0]
    clip.poses_path.unlink()
    clip.poses_path.mkdir()
    _is_refused(videos, out, "is a folder, where poses are to be written", monkeypatch)
    clip.poses_path.rmdir()
    note = out / ".prepare" / walk(videos)[0].key / "video.json"
    note.unlink()
    note.mkdir()
    _is_refused(videos, out, "in the way of the notes", monkeypatch)


@pytest.mark.parametrize("name", ["prepare.json", "poses", ".prepare"])
def test_what_is_in_the_way_in_a_new_folder_is_refused(name, videos, tmp_path, monkeypatch):
    out = tmp_path / "data"
    if name == "prepare.json":
        (out / name).mkdir(parents=True)
    else:
        add(out, name)
    _is_refused(videos, out, f"{name} is a f", monkeypatch)


def test_a_users_file_with_the_name_of_one_of_ours_is_never_replaced(out, videos, monkeypatch):
    source = walk(videos)[0]
    mine = out / "poses" / f"{source.clip_name(3)}.npz"
    mine.write_text("mine")
    _is_refused(videos, out, "not from prepare", monkeypatch)
    poses = PoseSequence(np.zeros((1, 1, 134, 2)), np.zeros((1, 1, 134)), 8, 8, 8.0)
    poses.save(mine)
    _is_refused(videos, out, "not from prepare", monkeypatch)
    mine.unlink()
    (out / "index.jsonl").write_text("")
    _is_refused(videos, out, "contact.png is not from prepare", monkeypatch)


def test_poses_that_a_killed_run_did_not_get_to_note_are_its_own(out, videos):
    clip = read_index(out)[0]
    stray = out / "poses" / f"{walk(videos)[0].clip_name(3)}.npz"
    shutil.copy(clip.poses_path, stray)
    assert not any("left unchanged" in line for line in again(videos, out))


def test_an_index_that_names_other_files_is_no_leave_to_remove_them(out, videos, tmp_path):
    add(tmp_path, "precious.npz")
    add(out, "mine.npz")
    row = json.loads((out / "index.jsonl").read_text().splitlines()[0])
    rows = [row | {"poses": name} for name in ("../precious.npz", "mine.npz", str(tmp_path / "precious.npz"))]
    (out / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    again(videos, out)
    assert (tmp_path / "precious.npz").read_text() == (out / "mine.npz").read_text() == "mine"
