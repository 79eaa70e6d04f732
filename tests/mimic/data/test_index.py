"""An index is read back as it was written, on every system; a damaged one ends in one sentence."""

import json
import os
import shutil
from pathlib import Path, PureWindowsPath

import pytest

from mimic.data.index import DataError, read_index, read_rows, read_settings, write_index
from mimic.data.prepare import PrepareSettings, prepare
from mimic.data.prepare.run import _note_settings

GOLDEN = Path(__file__).parents[2] / "goldens" / "prepared"
"""Made by version 1 of the format, of dancers with `min_frames=8 min_size=128 val_share=0.5`."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The golden folder with empty files for its videos beside it."""
    folder = shutil.copytree(GOLDEN, tmp_path / "data")
    for row in read_rows(folder / "index.jsonl"):
        path = tmp_path / "videos" / row["video"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def rewrite(data: Path, line: int, **changes: object) -> None:
    rows = read_rows(data / "index.jsonl")
    rows[line - 1] |= changes
    (data / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_an_index_of_an_earlier_release_is_read_as_it_was(data):
    clips = read_index(data)
    assert [(clip.video, clip.first_frame, clip.num_frames, clip.split) for clip in clips] == [
        ("deep/two shots.MOV", 0, 10, "train"),
        ("deep/two shots.MOV", 10, 9, "train"),
        ("one.mp4", 0, 12, "val"),
    ]
    assert clips[2].video_path == data / "../videos/one.mp4"
    assert len(clips[2].load_poses()) == 12
    before = (data / "index.jsonl").read_bytes()
    write_index(data, clips)
    assert (data / "index.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("clip", 3, "clip is 3; expected a name"),
        ("video", None, "video is None; expected a path"),
        ("video", "a\0b", "expected a path"),
        ("video", "\ud800.mp4", "expected a path"),
        ("video", "x" * 5000, "expected a path"),
        ("video", "../../secret.mp4", "leads out of its folder"),
        ("video", "deep\\..\\..\\secret.mp4", "leads out of its folder"),
        ("video", "D:\\dances\\one.mp4", "a path of another system or place"),
        ("video", "\\\\server\\dances\\one.mp4", "a path of another system or place"),
        ("poses", "../poses/one.npz", "leads out of its folder"),
        ("poses", "/etc/passwd", "poses is '/etc/passwd' is"),
        ("poses", "D:\\poses\\one.npz", "poses is "),
        ("poses", ["poses/one.npz"], "expected a path relative to the prepared folder"),
        ("first_frame", -1, "expected a whole number from 0"),
        ("first_frame", 10**30, "expected a whole number from 0"),
        ("num_frames", "12", "num_frames is '12'; expected a whole number from 1"),
        ("num_frames", True, "expected a whole number from 1"),
        ("num_frames", 12.0, "expected a whole number from 1"),
        ("fps", 0, "fps is 0; expected a number above 0"),
        ("fps", float("nan"), "fps is nan; expected a number above 0"),
        ("fps", float("inf"), "fps is inf"),
        ("width", {}, "width is {}"),
        ("height", 0, "height is 0"),
        ("person_coverage", 2, "person_coverage is 2; expected a number from 0 to 1"),
        ("hand_confidence", "high", "hand_confidence is 'high'; expected a number"),
        ("split", "test", "split is 'test'; expected train or val"),
        ("split", [], "expected train or val"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_line(field, value, expected, data):
    rewrite(data, 2, **{field: value})
    with pytest.raises(DataError) as told:
        read_index(data)
    message = str(told.value)
    assert message.startswith(f"{data / 'index.jsonl'}: line 2: {field} is ")
    assert expected in message
    assert len(message) < 500
    assert "\n" not in message


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"3", b"", b"null", b"[" * 100_000, b'{"fps": ' + b"9" * 6000 + b"}", b'{"clip": "\xff"}'],
)
def test_a_line_that_is_no_row_is_told_with_its_number(line, data):
    rows = (data / "index.jsonl").read_bytes().splitlines()
    (data / "index.jsonl").write_bytes(b"\n".join([rows[0], line, *rows[1:]]) + b"\n")
    with pytest.raises(DataError, match=r"index\.jsonl: line 2 is damaged") as told:
        read_index(data)
    assert "\n" not in str(told.value)


def test_what_a_row_lacks_is_told_with_its_line(data):
    rows = read_rows(data / "index.jsonl")
    del rows[2]["fps"], rows[2]["split"]
    (data / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"line 3: the clip one-\w+-000000 lacks fps, split"):
        read_index(data)


def test_paths_with_backslashes_are_read_as_with_slashes(data):
    rewrite(data, 1, video="deep\\two shots.MOV")
    rewrite(data, 3, poses=read_rows(data / "index.jsonl")[2]["poses"].replace("/", "\\"))
    settings = json.loads((data / "prepare.json").read_text())
    (data / "prepare.json").write_text(json.dumps(settings | {"videos_from_here": "..\\videos"}))
    clips = read_index(data)
    assert [clip.video for clip in clips] == ["deep/two shots.MOV", "deep/two shots.MOV", "one.mp4"]
    assert all(clip.video_path.is_file() for clip in clips)
    assert clips[2].poses_path.is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_backslash_in_the_name_of_a_file_is_part_of_it(data):
    (data.parent / "videos" / "a\\b.mp4").touch()
    rewrite(data, 3, video="a\\b.mp4")
    assert read_index(data)[2].video_path.is_file()


def test_an_absolute_video_is_read_where_it_is(data, tmp_path):
    (tmp_path / "elsewhere.mp4").touch()
    rewrite(data, 3, video=(tmp_path / "elsewhere.mp4").as_posix())
    assert read_index(data)[2].video_path == tmp_path / "elsewhere.mp4"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "line 1 is damaged"),
        (b'{\n "videos": ,\n}', "line 2 is damaged"),
        (b'{\n "videos": "\xff"}', "line 2 is damaged"),
        (b"[" * 100_000, "line 1 is damaged"),
        (b"[]", "does not name the folder of the videos"),
        (b'{"videos": "/a"}', "does not name the folder of the videos"),
        (b'{"videos": 3, "videos_from_here": "a"}', "videos is 3; expected the path of a folder"),
        (b'{"videos": "/a", "videos_from_here": null}', "videos_from_here is None; expected the path"),
        (b'{"videos": "/a", "videos_from_here": "a\\u0000b"}', "videos_from_here is"),
        (b'{"videos": "/a", "videos_from_here": "a", "settings": 1}', "settings is 1; expected an object"),
        (b'{"videos": "/a", "videos_from_here": "a", "settings": {}}', "the version is None"),
        (b'{"videos": "/a", "videos_from_here": "a", "settings": {"version": "1"}}', "the version is '1'"),
        (b'{"videos": "/a", "videos_from_here": "a", "settings": {"version": 2}}', "reads up to 1. Update"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_sentence(content, told, data, tmp_path):
    (data / "prepare.json").write_bytes(content)
    for read in (read_index, read_settings, lambda folder: prepare(tmp_path / "videos", folder)):
        with pytest.raises(DataError) as error:
            read(data)
        assert told in str(error.value)
        assert "prepare.json" in str(error.value)
        assert "\n" not in str(error.value)


def test_damaged_notes_are_the_same_as_none(data, tmp_path):
    shutil.rmtree(tmp_path / "videos" / "deep")
    (data / "index.jsonl").unlink()
    settings = json.loads((data / "prepare.json").read_text())
    (data / "prepare.json").write_text(json.dumps(settings | {"videos": str(tmp_path / "videos")}))
    for path in (data / ".prepare").rglob("*.json"):
        path.write_text('{"parts": [3], "rejected": 7, "clips": "none"}')
    chosen = PrepareSettings(min_frames=8, min_size=128, val_share=0.5)
    found = prepare(tmp_path / "videos", data, chosen, num_workers=1)
    assert [row["reason"] for row in found.rejected] == ["unreadable"]


def test_videos_on_another_drive_are_written_as_an_absolute_path(tmp_path, monkeypatch):
    def other_drive(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    (tmp_path / "videos").mkdir()
    monkeypatch.setattr(os.path, "relpath", other_drive)
    _note_settings(tmp_path / "data", tmp_path / "videos", {"version": 1})
    settings = read_settings(tmp_path / "data")
    assert settings["videos"] == settings["videos_from_here"] == (tmp_path / "videos").as_posix()
    (tmp_path / "data" / "index.jsonl").touch()
    assert read_index(tmp_path / "data") == []


def test_paths_of_windows_are_written_with_slashes(tmp_path, monkeypatch):
    monkeypatch.setattr("mimic.data.prepare.run.Path", PureWindowsPath)
    monkeypatch.setattr(os.path, "relpath", lambda path, start: "..\\videos")
    (tmp_path / "videos").mkdir()
    _note_settings(tmp_path / "data", tmp_path / "videos", {"version": 1})
    assert read_settings(tmp_path / "data")["videos_from_here"] == "../videos"
