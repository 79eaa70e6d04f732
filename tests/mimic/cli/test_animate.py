"""`mimic animate`: one line makes a video; formats, parts of clips, batches, estimates, JSON lines."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mimic.cli import main
from mimic.cli.animate import seconds_of
from mimic.cli.options import UsageError
from mimic.config import ConfigError
from mimic.config.one_line import RELEASED_MODELS, animate_config, named_model
from mimic.video import probe, write_image
from tests.dancers import Stage, make_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = make_stage(tmp_path_factory.mktemp("stage"))
    made.driving_poses.save(made.model.parent / "moves.npz")
    return made


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def animate(stage: Stage, *arguments: str, clip: Path | None = None) -> int:
    """The command with poses that are known."""
    moves = clip or stage.model.parent / "moves.npz"
    given = ["--model", str(stage.model), "device=cpu", "align=robust"]
    return main(["animate", str(stage.reference), str(moves), *given, *arguments])


def test_one_line_makes_a_video_of_a_part_of_the_clip(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert animate(stage, "-o", "new/out.mp4", "--start", "0.3", "--end", "0:00.7", "seed=7") == 0
    printed = capsys.readouterr()
    assert printed.out == f"{Path('new/out.mp4')}\n"
    report = json.loads(Path("new/out.json").read_text())
    assert probe("new/out.mp4").num_frames == report["output"]["num_frames"] == 4
    assert report["seed"] == 7
    assert animate(stage, "-o", "new/out.mp4", "--start", "0.3", "--end", "0.7", "seed=7") == 0
    assert "kept, settings and inputs are unchanged" in capsys.readouterr().err


def test_an_end_behind_the_clip_is_told_once_before_the_model_is_loaded_and_recorded(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("clips").mkdir()
    stage.driving_poses.save(Path("clips/a.npz"))
    told = f"{Path('clips/a.npz')} ends at 1.0 s; end 12.5 s is later, so it is used to its end"
    assert animate(stage, "-o", "new", "--start", "0.8", "--end", "12.5", clip=Path("clips")) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == told
    assert sum("is used to its end" in line for line in lines) == 1
    (report,) = Path("new").glob("*.json")
    driving = json.loads(report.read_text())["driving"]
    assert (driving["part_s"], driving["part_note"]) == ([0.8, 1.0], told)
    Path("cases.yaml").write_text(
        f"base_model_path: {stage.model}\ntest_case:\n"
        f"  - {{ref_image_path: {stage.reference}, ref_video_path: clips/a.npz, end: 12.5, align: robust, "
        "num_inference_steps: 1}\n"
    )
    assert main(["infer", "--config", "cases.yaml", "--dry-run", "device=cpu"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == told


def test_the_suffix_says_the_format(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.gif", "a.webm", "a.mkv", "a.mp4", "a.png", "frames/"):
        assert animate(stage, "-o", name, "--end", "0.2", "-q") == 0, name
    assert capsys.readouterr().out.splitlines() == ["a.gif", "a.webm", "a.mkv", "a.mp4", "a", "frames"]
    for name in ("a.gif", "a.webm", "a.mkv"):
        assert probe(name).num_frames == 2
    for name in ("a", "frames"):
        assert sorted(path.name for path in Path(name).iterdir()) == ["00001.png", "00002.png"]
    assert {path.name for path in Path().glob("*.json")} == {
        "a.gif.json", "a.webm.json", "a.mkv.json", "a.json", "a.frames.json", "frames.frames.json",
    }  # fmt: skip
    for path in Path().glob("*.json"):
        assert (Path() / json.loads(path.read_text())["output"]["file"]).exists()


def test_the_json_of_a_movie_that_an_earlier_version_made_is_known(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert animate(stage, "-o", "a.mov", "--end", "0.2") == 0
    Path("a.mov.json").rename("a.json")
    assert animate(stage, "-o", "a.mov", "--end", "0.2") == 0
    assert "kept, settings and inputs are unchanged" in capsys.readouterr().err
    assert animate(stage, "-o", "a.mov", "--end", "0.2", "seed=5") == 0
    assert {path.name for path in Path().glob("a.*")} == {"a.mov", "a.mov.json", "a.1.mov", "a.1.mov.json"}


def test_a_suffix_that_no_format_has_makes_no_folder(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.xyz", "a.avi", "my video.v2", "a.MP5", "a.b"):
        assert animate(stage, "-o", name) == 2
        assert "a result's name ends in one of .mp4" in capsys.readouterr().err
    assert animate(stage, "-o", "take.2", "--end", "0.2", "-q") == 0
    assert Path("take.2/00001.png").is_file()


def test_a_folder_of_pictures_is_kept_set_aside_or_refused_like_a_video(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-o", "frames", "--end", "0.2"]
    assert animate(stage, *command) == 0
    assert animate(stage, *command) == 0
    assert "kept, settings and inputs are unchanged" in capsys.readouterr().err
    assert animate(stage, *command, "seed=1") == 0
    assert len(list(Path("frames.1").iterdir())) == 2
    assert Path("frames.1.frames.json").is_file()
    Path("frames/mine.txt").write_text("mine")
    capsys.readouterr()
    assert animate(stage, *command, "seed=2") == 2
    assert "is not replaced" in capsys.readouterr().err
    assert Path("frames/mine.txt").read_text() == "mine"


def test_folders_are_a_batch(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    Path("clips").mkdir()
    for name in ("a", "b"):
        stage.driving_poses.save(Path("clips") / f"{name}.npz")
    Path("clips/notes.txt").write_text("not a clip")
    assert animate(stage, "-o", "made", "--end", "0.2", "format=gif", clip=Path("clips")) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(Path(f"made/{name}_reference.gif")) for name in ("a", "b")]
    assert "notes.txt" in printed.err
    assert animate(stage, "-o", "made.gif", clip=Path("clips")) == 2
    assert "give a folder" in capsys.readouterr().err
    Path("empty").mkdir()
    assert animate(stage, clip=Path("empty")) == 2
    assert "the folder empty holds no videos" in capsys.readouterr().err


def test_a_dry_run_tells_frames_windows_steps_memory_and_time_and_writes_nothing(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert animate(stage, "-o", "new/out.gif", "num_inference_steps=5", "--dry-run", "--log-json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (estimate,) = (event for event in events if event["event"] == "estimate")
    # Windows of 6 frames begin with the reference, share 2, and hold 10 frames in all.
    assert (estimate["num_frames"], estimate["num_steps"], estimate["fps"]) == (10, 5, 10)
    assert estimate["num_windows"] > 1
    assert estimate["total_seconds"] == pytest.approx(sum(estimate["seconds"].values()))
    assert estimate["seconds"].keys() == {"poses", "denoising", "decoding"}
    text = "\n".join(event["text"] for event in events if event["event"] == "output")
    for word in ("10 frames of 32x32", "windows of 6 frames, 5 steps", "estimated time", "estimated peak"):
        assert word in text
    assert not list(Path().iterdir())
    assert animate(stage, "num_inference_steps=1", "--end=0.4", "--dry-run") == 0
    text = "".join(capsys.readouterr())
    assert re.search(r": 1 window of \d frames, 1 step: 1 window prediction$", text, re.MULTILINE), text


def test_json_lines_hold_messages_progress_results_and_errors(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert animate(stage, "-o", "out.mp4", "--end", "0.2", "--log-json") == 0
    printed = capsys.readouterr()
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert printed.err == ""
    by_kind = {event["event"]: event for event in events}
    assert by_kind.keys() == {"message", "progress", "result", "output", "end"}
    assert by_kind["result"]["path"] == "out.mp4"
    stages = {event["stage"] for event in events if event["event"] == "progress"}
    assert {"denoising", "decoding"} <= stages
    assert by_kind["progress"]["done"] == by_kind["progress"]["total"] == 2
    assert animate(stage, "-o", "out.mp4", "sead=3", "--log-json") == 2
    error, end = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert error["event"] == "error"
    assert "did you mean seed?" in error["text"]
    assert end["exit_code"] == error["exit_code"] == 2


def test_lines_tell_progress_where_there_is_no_terminal(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert animate(stage, "-o", "out.mp4", "--end", "0.2") == 0
    assert "decoding: 2 of 2 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--start", "5"], "lasts 1.00 s and has no frame after start 5 s"),
        (["--start", "0.7", "--end", "0.5"], "end must be later than start"),
        (["--start", "soon"], "--start is soon; expected seconds"),
        (["-o", "out.avi"], "a result's name ends in one of .mp4"),
        (["-o", "out.mp5"], "a result's name ends in one of .mp4"),
        (["-o", "out_%04d.png"], "give a folder"),
        (["-o", "take:1.mp4"], "not every system takes"),
        (["-o", "con.mp4"], "Windows keeps that name for a device"),
        (["-o", "x" * 250 + ".mp4"], "bytes"),
        (["-o", "out.gif", "format=mp4"], "leave format=… out"),
        (["--model", "none.yaml"], "there is no config none.yaml"),
        (["ref_image_path=a.png"], "cannot set ref_image_path here"),
        (["num_frames=abc"], "tile_size (num_frames) is 'abc'; expected a whole number"),
    ],
)
def test_mistakes_are_one_sentence(
    stage: Stage, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert animate(stage, *arguments) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not list(Path().iterdir())


def test_picture_and_clip_that_are_swapped_are_told(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["animate", str(stage.driving), str(stage.reference)]) == 2
    assert "the picture comes first" in capsys.readouterr().err


def test_times_are_seconds_or_minutes_and_seconds() -> None:
    assert seconds_of("--start", None) is None
    assert [seconds_of("--start", text) for text in ("2.5", "1:02.5", "1:00:00")] == [2.5, 62.5, 3600]
    for text in ("-1", "a", "1:b", "nan", "inf"):
        with pytest.raises(UsageError):
            seconds_of("--start", text)


def test_names_of_released_models_stand_for_weights_and_settings() -> None:
    for name in RELEASED_MODELS:
        config = animate_config([("a.png", "b.mp4")], model=name, overrides=["seed=3", "device=cpu"])
        (case,) = config.test_case
        assert config.ckpt_path is not None
        assert (case.seed, config.device) == (3, "cpu")
        assert case.tile_size is not None
        assert case.ref_image_path == "a.png"
    assert named_model("models/MimicMotion_1-1.pth")[0]["ckpt_path"] == "models/MimicMotion_1-1.pth"
    assert named_model("owner/name") == ({"base_model_path": "owner/name"}, {})


@pytest.mark.parametrize(("key", "command"), [("family", "train"), ("variants", "compare")])
def test_a_yaml_of_another_command_is_no_model(key: str, command: str) -> None:
    Path("other.yaml").write_text(f"{key}: mimicmotion\noutput_dir: x\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"other\.yaml is a config of another command: mimic {command} "):
        named_model("other.yaml")


def test_a_fault_is_told_once_however_many_cases_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        animate_config([("a.png", "b.mp4")] * 6, model="bundled:mini", overrides=["seed=abc"])
    assert str(caught.value).count("seed") == 1
    Path("six.yaml").write_text(
        "test_case:\n" + "  - {ref_image_path: a.png, ref_video_path: b.mp4}\n" * 6, encoding="utf-8"
    )
    assert main(["infer", "--config", "six.yaml", "seed=abc"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    Path("train.yaml").write_text("family: mimicmotion\ndata: {path: x}\n", encoding="utf-8")
    assert main(["infer", "--config", "train.yaml"]) == 2
    told = "mimic: train.yaml is a config of another command: mimic train --config train.yaml\n"
    assert capsys.readouterr().err == told
    assert main(["train", "--config", "six.yaml"]) == 2
    assert "mimic infer --config six.yaml" in capsys.readouterr().err


def test_a_picture_of_a_batch_is_found_by_its_content(stage: Stage) -> None:
    from mimic.cli.animate import _files

    Path("pictures").mkdir()
    write_image("pictures/b.jpg", np.zeros((8, 8, 3), np.uint8))
    Path("pictures/a").write_bytes(stage.reference.read_bytes())
    Path("pictures/c.mp4").write_bytes(stage.driving.read_bytes())
    assert [Path(path).name for path in _files("pictures", "picture")] == ["a", "b.jpg"]
    assert [Path(path).name for path in _files("pictures", "video")] == ["c.mp4"]
