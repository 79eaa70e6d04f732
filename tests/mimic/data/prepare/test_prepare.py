"""A folder of videos becomes clips with poses, whatever happens on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mimic.data.index import REJECTED, DataError, read_index, read_rows
from mimic.data.prepare import PrepareSettings, prepare
from mimic.data.prepare.contact import chosen
from mimic.data.prepare.shards import Place
from mimic.locks import FolderInUseError, locked_folder
from mimic.video import read_image
from tests.mimic.data.prepare.conftest import SMALL, contents

ROOT = Path(__file__).parents[4]
COMMAND = """
import sys
from mimic.data.prepare import PrepareSettings, prepare
videos, out, settings, num_workers = sys.argv[1:]
prepare(videos, out, PrepareSettings.model_validate_json(settings), num_workers=int(num_workers))
"""


def _start(
    videos: Path, out: Path, *, num_workers: int, place: Place | None = None, stdout: int | None = None
) -> subprocess.Popen:
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    place = place or Place()
    values = (place.rank, place.world_size, place.local_rank, place.num_local)
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | dict(zip(names, map(str, values)))
    settings = SMALL.model_dump_json()
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(videos), str(out), settings, str(num_workers)],
        env=environment,
        stdout=stdout,
    )


def _wait_for_notes(process: subprocess.Popen, out: Path, num_notes: int) -> None:
    deadline = time.monotonic() + 200
    while _num_notes(out) < num_notes:
        assert process.poll() is None, "it should not be done yet"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_clips_are_cut_apart_and_each_has_its_poses(prepared, videos):
    clips = read_index(prepared.folder)
    assert [clip.video for clip in clips] == ["deep/two shots.MOV", "deep/two shots.MOV", "one.mp4"]
    assert [(clip.first_frame, clip.num_frames) for clip in clips] == [(0, 10), (10, 9), (0, 12)]
    for clip in clips:
        poses = clip.load_poses()
        assert (len(poses), poses.num_people, poses.fps) == (clip.num_frames, 1, clip.fps)
        assert (poses.width, poses.height) == (clip.width, clip.height) == (192, 192)
        assert clip.video_path == videos / clip.video
        assert clip.person_coverage >= SMALL.min_coverage
        assert 0.3 < clip.body_confidence <= 1
        assert 0 <= clip.hand_confidence <= 1


def test_what_cannot_serve_is_listed_with_its_reason(prepared):
    reasons = {}
    for row in read_rows(prepared.folder / REJECTED):
        reasons.setdefault(row["video"], []).append((row["reason"], row["frames"]))
    assert reasons == {
        "deep/two shots.MOV": [("too short", [19, 23])],
        "duo.mkv": [("several people", [0, 9])],
        "empty room.mp4": [("nobody", [0, 9])],
        "short.mp4": [("too short", [0, 3])],
        "text.avi": [("unreadable", None)],
        "tiny.mp4": [("too small", [0, 9])],
    }


def test_all_clips_of_a_video_are_in_one_split(prepared):
    splits = {}
    for clip in read_index(prepared.folder):
        splits.setdefault(clip.video, set()).add(clip.split)
    assert sorted(map(sorted, splits.values())) == [["train"], ["val"]]
    assert read_index(prepared.folder, split="val") == [
        clip for clip in read_index(prepared.folder) if clip.split == "val"
    ]


def test_the_table_counts_what_there_is(prepared):
    table = prepared.table()
    lines = {line[:16].strip(): line[16:].split() for line in table.splitlines()}
    assert int(lines["train"][1]) + int(lines["val"][1]) == 3
    assert int(lines["train"][2]) + int(lines["val"][2]) == 31
    assert lines["too short"] == ["2", "2", "7", "0.000"]
    assert lines["unreadable"] == ["1", "1", "?", "?"]


def test_the_contact_sheet_shows_frames_with_skeletons(prepared):
    sheet = read_image(prepared.contact_sheet)
    assert min(sheet.shape[:2]) > 512
    places = chosen(prepared.clips, seed=0)
    assert {clip.clip for clip, _ in places} == {clip.clip for clip in prepared.clips}
    assert chosen(prepared.clips, seed=0) == places != chosen(prepared.clips, seed=1)
    vivid = (sheet.max(axis=2) > 200) & (sheet.min(axis=2) < 60)
    assert vivid.mean() > 0.002


def test_a_second_run_does_nothing_and_changes_nothing(prepared, videos, monkeypatch):
    before = contents(prepared.folder)
    monkeypatch.setattr("mimic.data.prepare.work.load_estimator", None)  # any estimating would fail
    prepare(videos, prepared.folder, SMALL, num_workers=1)
    assert contents(prepared.folder) == before


def test_another_split_needs_no_new_work(prepared, videos, tmp_path, monkeypatch):
    monkeypatch.setattr("mimic.data.prepare.work.load_estimator", None)
    out = shutil.copytree(prepared.folder, tmp_path / "data")
    prepare(videos, out, SMALL.model_copy(update={"val_share": 0.0}), num_workers=1)
    assert {clip.split for clip in read_index(out)} == {"train"}


def _num_notes(out: Path) -> int:
    return sum(name.endswith(".json") for _, _, names in os.walk(out / ".prepare") for name in names)


@pytest.mark.parametrize("moments", [(8,), pytest.param((1, 3, 6, 7, 8, 10), marks=pytest.mark.slow)])
def test_killed_at_any_moment_and_started_again_gives_the_same_bytes(moments, prepared, videos, tmp_path):
    out = tmp_path / "data"
    for num_notes in moments:
        process = _start(videos, out, num_workers=2)
        _wait_for_notes(process, out, num_notes)
        process.kill()
        process.wait()
        assert not (out / "index.jsonl").exists()
        with pytest.raises(DataError, match="not completely prepared"):
            read_index(out)
    # What a process leaves that dies while it writes:
    (out / "poses" / f".{prepared.clips[0].clip}.npz.1.tmp").write_bytes(b"half")
    (out / ".index.1.partial.jsonl").write_bytes(b"half")
    assert _start(videos, out, num_workers=2).wait() == 0
    assert contents(out) == _as_in(out, prepared.folder)


@pytest.mark.slow
def test_two_ranks_give_what_one_gives(prepared, videos, tmp_path):
    out = tmp_path / "data"
    ranks = [_start(videos, out, num_workers=1, place=Place(rank, 2, rank, 2)) for rank in (1, 0)]
    assert [rank.wait() for rank in ranks] == [0, 0]
    assert contents(out) == _as_in(out, prepared.folder)


def _as_in(out: Path, other: Path) -> dict[str, bytes]:
    """The files of another prepared folder, but for the way from there to the videos."""
    expected = contents(other)
    settings = json.loads(expected["prepare.json"])
    settings["videos_from_here"] = os.path.relpath(settings["videos"], out.resolve())
    return expected | {"prepare.json": (json.dumps(settings, indent=2) + "\n").encode()}


@pytest.mark.slow
def test_poses_that_were_lost_are_found_again(prepared, videos, tmp_path):
    out = shutil.copytree(prepared.folder, tmp_path / "data")
    before = contents(out)
    (out / prepared.clips[-1].poses).unlink()
    prepare(videos, out, SMALL, num_workers=1)
    after = contents(out)
    del before["prepare.json"], after["prepare.json"]
    assert after == before


def test_a_video_that_is_added_changed_or_taken_away_is_noticed(prepared, videos, tmp_path):
    given = shutil.copytree(videos, tmp_path / "videos")
    out = tmp_path / "data"
    for name in ("deep/two shots.MOV", "duo.mkv", "empty room.mp4", "tiny.mp4", "text.avi"):
        (given / name).unlink()
    prepare(given, out, SMALL, num_workers=1)
    assert [clip.video for clip in read_index(out)] == ["one.mp4"]
    shutil.copy(given / "short.mp4", given / "one.mp4")
    shutil.copy(videos / "tiny.mp4", given / "new.mp4")
    found = prepare(given, out, SMALL, num_workers=1)
    assert found.clips == []
    assert [row["video"] for row in found.rejected] == ["new.mp4", "one.mp4", "short.mp4"]
    assert list((out / "poses").iterdir()) == []
    assert not (out / "contact.png").exists()


def test_a_damaged_end_is_rejected_and_the_beginning_serves(videos, tmp_path, monkeypatch):
    from mimic.data.prepare import work
    from mimic.video import VideoError

    read = work.read_frames

    def damaged(path, **options):  # a file that FFmpeg refuses in the middle is hard to make to order
        for number, frame in enumerate(read(path, **options)):
            if number == 9:
                raise VideoError(f"{path} is damaged after 9 frames")
            yield frame

    monkeypatch.setattr(work, "read_frames", damaged)
    given = tmp_path / "videos"
    given.mkdir()
    shutil.copy(videos / "one.mp4", given)
    found = prepare(given, tmp_path / "data", SMALL, num_workers=1)
    assert [(clip.first_frame, clip.num_frames) for clip in found.clips] == [(0, 9)]
    assert [(row["reason"], row["frames"]) for row in found.rejected] == [("unreadable", [9, 12])]
    assert found.rejected[0]["detail"] == "one.mp4 is damaged after 9 frames"


@pytest.mark.slow
def test_following_one_of_several_keeps_them(videos, tmp_path):
    given = tmp_path / "videos"
    given.mkdir()
    shutil.copy(videos / "duo.mkv", given)
    middles = []
    for person in ("0", "1"):
        found = prepare(given, tmp_path / person, SMALL.model_copy(update={"person": person}), num_workers=1)
        (clip,) = found.clips
        middles.append(np.median(clip.load_poses().points[:, 0, :18, 0]))
    assert middles[0] < 0.5 < middles[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda given, out: shutil.rmtree(given), "there is no folder .*given"),
        (lambda given, out: (given / "a.mp4").unlink(), "holds no video; expected files that end in .mp4"),
        (lambda given, out: out.write_text("a file"), "cannot be written"),
        (lambda given, out: (out.mkdir(), (out / "thesis.tex").touch()), "holds other files"),
    ],
)
def test_what_cannot_be_is_told_before_any_work(change, told, tmp_path):
    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    (given / "a.mp4").touch()
    change(given, out)
    with pytest.raises(DataError, match=told):
        prepare(given, out)


def test_a_second_preparation_in_one_folder_is_told_who_holds_it(prepared, videos):
    with (
        locked_folder(prepared.folder, work="mimic prepare", say=print),
        pytest.raises(FolderInUseError, match="is in use by mimic prepare"),
    ):
        prepare(videos, prepared.folder, SMALL)


def test_other_settings_or_videos_are_refused(prepared, videos, tmp_path):
    with pytest.raises(DataError, match="prepared with min_frames: 8, now it is 9"):
        prepare(videos, prepared.folder, SMALL.model_copy(update={"min_frames": 9}))
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match="was prepared from"):
        prepare(tmp_path, prepared.folder, SMALL)


def test_reading_tells_what_is_missing(prepared, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        read_index(tmp_path / "nowhere")
    with pytest.raises(DataError, match="mimic prepare --videos"):
        read_index(tmp_path)
    out = shutil.copytree(prepared.folder, tmp_path / "data")
    settings = json.loads((out / "prepare.json").read_text())
    (out / "prepare.json").write_text(json.dumps(settings | {"videos": "/gone", "videos_from_here": "gone"}))
    with pytest.raises(DataError, match="not at /gone"):
        read_index(out)
    assert len(read_index(out, videos=tmp_path)) == 3
    (out / "index.jsonl").write_text('{"clip": "a"}\n')
    with pytest.raises(DataError, match="the clip a lacks body_confidence"):
        read_index(out, videos=tmp_path)


@pytest.mark.parametrize("person", ["all", "largst", "-1"])
def test_a_person_that_cannot_be_followed_is_refused(person):
    with pytest.raises(ValueError, match="expected one, largest, center or a number"):
        PrepareSettings(person=person)


@pytest.mark.parametrize("num_workers", [0, -1, 1000, 10**9])
def test_a_number_of_workers_that_no_machine_carries_is_refused_before_any_work(
    num_workers, videos, tmp_path
):
    with pytest.raises(DataError, match=r"the number of workers is .* expected a whole number from 1 to"):
        prepare(videos, tmp_path / "data", SMALL, num_workers=num_workers)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [pytest.param("SIGTERM", marks=pytest.mark.slow), "SIGKILL"])
def test_workers_end_when_the_preparation_is_killed(name, videos, tmp_path):
    if not hasattr(signal, name):
        pytest.skip("this system has no such signal")
    out = tmp_path / "data"
    process = _start(videos, out, num_workers=2, stdout=subprocess.PIPE)
    _wait_for_notes(process, out, 2)
    process.send_signal(getattr(signal, name))
    # Workers inherit the pipe: it ends only when the last of them has ended.
    assert process.communicate(timeout=30)[0] == b""
