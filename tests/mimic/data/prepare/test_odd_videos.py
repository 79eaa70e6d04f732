"""What goes wrong with one video is its rejection: all others are prepared, and a second run works."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from mimic.data.index import REJECTED, read_rows
from mimic.data.prepare import Prepared, prepare, run, work
from mimic.data.prepare.contact import contact_sheet
from mimic.data.prepare.sources import walk
from tests.media import write_clip
from tests.mimic.data.prepare.conftest import SMALL
from tests.mimic.data.prepare.deadly import DeadlyJob


@pytest.fixture
def given(videos: Path, tmp_path: Path) -> Path:
    """A folder with a video that is read well, and is too short so that no network has to run."""
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(videos / "short.mp4", folder / "short.mp4")
    return folder


def reasons(found: Prepared) -> dict[str, str]:
    """The reason of each rejected video but the one that is well."""
    reasons = {row["video"]: row["reason"] for row in read_rows(found.folder / REJECTED)}
    assert reasons.pop("short.mp4") == "too short"
    return reasons


def with_odd_title(path: Path) -> None:
    """A good video of which the title is not UTF-8."""
    plain = write_clip(path.with_suffix(".plain.mp4"), [i / 8 for i in range(9)], height=192, width=192)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        target.metadata["title"] = "MARKTITLE"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    plain.unlink()
    path.write_bytes(path.read_bytes().replace(b"MARKTITLE", b"\xff\xfe\x80ARKTIT"))


def test_odd_files_are_rejected_and_the_rest_is_prepared(given, tmp_path):
    (given / "empty.mp4").touch()
    (given / "text.mp4").write_text("no video")
    (given / "folder.mp4").mkdir()
    PIL.Image.new("RGB", (30_000, 1)).save(given / "wide.png")
    (given / "wide.png").rename(given / "wide.mp4")
    write_clip(given / "slow.mp4", [0, 3600, 7200], height=192, width=192)
    with_odd_title(given / "title.mp4")
    expected = dict.fromkeys(("empty.mp4", "text.mp4", "folder.mp4"), "unreadable")
    if hasattr(os, "mkfifo"):
        os.mkfifo(given / "pipe.mp4")
        expected["pipe.mp4"] = "unreadable"
    first = prepare(given, tmp_path / "data", SMALL, num_workers=1)
    assert reasons(first).items() >= expected.items()
    assert set(reasons(first)) == {*expected, "wide.mp4", "slow.mp4", "title.mp4"}
    again = prepare(given, tmp_path / "data", SMALL, num_workers=1)
    assert again.rejected == first.rejected
    details = {row["video"]: row["detail"] for row in again.rejected}
    assert details["folder.mp4"] == "folder.mp4 is a folder; expected a video file"


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), IndexError("beyond"), KeyError("x")])
@pytest.mark.parametrize("step", ["probe", "read_frames"])
def test_any_error_of_a_decoder_is_a_rejection_with_its_reason(
    error, step, given, videos, tmp_path, monkeypatch
):
    shutil.copy(videos / "one.mp4", given / "bad.mp4")
    usual = getattr(work, step)

    def broken(path, **options):
        if Path(path).name == "bad.mp4":
            raise error
        return usual(path, **options)

    monkeypatch.setattr(work, step, broken)
    found = prepare(given, tmp_path / "data", SMALL, num_workers=1)
    assert reasons(found) == {"bad.mp4": "unreadable"}
    assert found.rejected[0]["detail"] == f"{type(error).__name__}: {error}"


def test_a_file_that_is_gone_in_the_middle_is_tried_again_by_the_next_run(
    given, videos, tmp_path, monkeypatch
):
    shutil.copy(videos / "one.mp4", given / "away.mp4")
    usual = work.probe
    seen = []

    def vanishing(path):
        seen.append(Path(path).name)
        if seen == ["away.mp4"]:
            info = usual(path)
            frames = list(usual_frames(path, info=info))
            monkeypatch.setattr(work, "read_frames", lambda *_, **__: iter(frames))
            Path(path).rename(tmp_path / "away.mp4")
            return info
        return usual(path)

    usual_frames = work.read_frames
    monkeypatch.setattr(work, "probe", vanishing)
    found = prepare(given, tmp_path / "data", SMALL, num_workers=1)
    assert reasons(found) == {"away.mp4": "failed"}
    assert found.rejected[0]["frames"] == [0, 12]
    assert "FileNotFoundError" in found.rejected[0]["detail"]
    monkeypatch.undo()
    (tmp_path / "away.mp4").rename(given / "away.mp4")
    again = prepare(given, tmp_path / "data", SMALL, num_workers=1)
    assert [clip.video for clip in again.clips] == ["away.mp4"]
    assert reasons(again) == {}


def test_what_is_not_the_videos_fault_ends_the_run(given, tmp_path, monkeypatch):
    def broken(path, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "probe", broken)
    with pytest.raises(KeyboardInterrupt):
        prepare(given, tmp_path / "data", SMALL, num_workers=1)


def test_an_error_of_the_callers_progress_ends_the_run_and_is_no_rejection(given, videos, tmp_path):
    shutil.copy(videos / "one.mp4", given)

    def stop(stage, unit, done, total):
        raise ZeroDivisionError("the caller's")

    with pytest.raises(ZeroDivisionError, match="the caller's"):
        prepare(given, tmp_path / "data", SMALL, num_workers=1, progress=stop)
    notes = [path.read_text() for path in (tmp_path / "data" / ".prepare").rglob("*.json")]
    assert not any("the caller's" in note for note in notes)


def test_a_name_that_is_no_valid_text_is_prepared_like_others(given, tmp_path):
    try:
        shutil.copy(given / "short.mp4", os.fsencode(given) + b"/\xff.mp4")
    except (OSError, UnicodeDecodeError):
        pytest.skip("this system has no such names")
    found = prepare(given, tmp_path / "data", SMALL, num_workers=1)
    assert reasons(found) == {"\udcff.mp4": "too short"}


def test_a_clip_that_is_gone_leaves_its_place_on_the_contact_sheet_empty(prepared, tmp_path):
    whole = contact_sheet(prepared.clips, seed=0)
    first = prepared.clips[0]
    for gone in (replace(first, video="gone.mp4"), replace(first, poses="poses/gone.npz")):
        sheet = contact_sheet([gone, *prepared.clips[1:]], seed=0)
        assert not np.array_equal(sheet, whole)
        assert sheet.max() > 200


@pytest.fixture
def deadly(given, monkeypatch) -> Path:
    """The same folder with a video at which every process dies, and one that takes much memory."""
    for name in ("crash.mp4", "large.mp4", "more.mp4"):
        shutil.copy(given / "short.mp4", given / name)
    monkeypatch.setattr(run, "Job", DeadlyJob)
    return given


def test_a_video_at_which_processes_die_is_rejected_and_the_others_are_prepared(deadly, tmp_path):
    done = []
    out = tmp_path / "data"
    found = prepare(deadly, out, SMALL, num_workers=2, progress=lambda *at: done.append((at[0], *at[2:])))
    assert reasons(found) == {"crash.mp4": "failed", "large.mp4": "too short", "more.mp4": "too short"}
    rows = {row["video"]: row["detail"] for row in read_rows(out / REJECTED)}
    assert "died twice, the second time alone" in rows["crash.mp4"]
    assert ("cuts", 4, 4) in done
    assert not list(out.rglob("*.begun"))


def test_a_single_process_leaves_to_another_one_what_it_died_at(deadly, tmp_path):
    out = tmp_path / "data"
    key = next(source.key for source in walk(deadly) if source.video == "crash.mp4")
    (out / ".prepare" / key).mkdir(parents=True)
    (out / ".prepare" / key / "video.begun").touch()  # as a command leaves it that died with its only worker
    found = prepare(deadly, out, SMALL, num_workers=1)
    assert reasons(found) == {"crash.mp4": "failed", "large.mp4": "too short", "more.mp4": "too short"}
    large = next(source.key for source in walk(deadly) if source.video == "large.mp4")
    (out / ".prepare" / large / "video.begun").touch()  # as of a process that dies after its last note
    prepare(deadly, out, SMALL, num_workers=1)
    assert not list(out.rglob("*.begun"))
