"""Configs from end to end: everything is checked first, one failing case leaves the others alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from mimic.config import ConfigError, load_inference_config
from mimic.devices import chosen_device, device_name
from mimic.generation import RunResult, run_config
from mimic.generation.cases import summary, why_failed
from mimic.generation.checks import InputError, check_space
from mimic.generation.result import GenerateResult
from mimic.locks import FolderInUseError, locked_folder
from mimic.video import PictureError, probe, write_image
from mimic.weights.errors import SourceError
from mimic.weights.strict import WeightsError
from pose import PoseSequence
from tests.dancers import Stage
from tests.media import even_times, write_clip
from tests.tiny import CHECKPOINT, write_base


@pytest.fixture
def moves(stage: Stage, tmp_path: Path) -> Path:
    return stage.driving_poses.save(tmp_path / "moves.npz")


def run(stage: Stage, tmp_path: Path, cases: list[dict[str, Any]], *changes: str, **top: Any) -> RunResult:
    settings = {
        "base_model_path": str(stage.model),
        "device": "cpu",
        "estimator": "blazepose",
        "output_dir": str(tmp_path / "out"),
        "sample_stride": 1,
        "align": "robust",
        "max_frames": 2,
    } | top
    cases = [{"ref_image_path": str(stage.reference)} | case for case in cases]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings | {"test_case": cases}))
    return run_config(load_inference_config(path, changes), is_progress_shown=False, say=TOLD.append)


TOLD: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    TOLD.clear()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_cases_run_and_the_models_warning_is_told_once(stage: Stage, tmp_path: Path, moves: Path) -> None:
    outcome = run(
        stage, tmp_path, [{"ref_video_path": str(moves)}, {"ref_video_path": str(moves), "name": "b"}]
    )
    assert outcome.failures == ()
    assert [result.path.name for result in outcome.results] == ["moves_reference.mp4", "b.mp4"]
    assert names(tmp_path / "out") == ["b.json", "b.mp4", "moves_reference.json", "moves_reference.mp4"]
    assert [line for line in TOLD if "toy" in line] == ["note: This is a toy."]
    report = json.loads((tmp_path / "out" / "b.json").read_text())
    assert report["model"]["name"] == str(stage.model)
    assert report["model"]["weights_sha256"]


def test_a_case_that_fails_leaves_the_others_alone(stage: Stage, tmp_path: Path, moves: Path) -> None:
    gap = np.ones((len(stage.driving_poses), 1), np.bool_)
    gap[1:-1] = False
    gappy = replace(stage.driving_poses, is_present=gap).save(tmp_path / "gap.npz")
    gap_fails = {"missing": "fail", "bridge_gaps": 0}
    outcome = run(
        stage,
        tmp_path,
        [
            {"ref_video_path": str(gappy), "name": "a", **gap_fails},
            {"ref_video_path": str(moves), "name": "b"},
        ],
    )
    assert [failure.name for failure in outcome.failures] == ["a"]
    assert "nobody" in why_failed(outcome.failures[0].error)
    assert names(tmp_path / "out") == ["b.json", "b.mp4"]


def test_everything_wrong_is_told_at_once_and_nothing_is_run(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "other.npz").write_bytes(b"no poses")
    cases = [
        {"ref_video_path": str(moves), "name": "fine"},
        {"ref_video_path": str(tmp_path / "none.mp4"), "name": "gone"},
        {"ref_video_path": str(tmp_path / "text.mp4"), "name": "broken"},
        {"ref_video_path": str(tmp_path / "other.npz"), "name": "poseless"},
        {"ref_video_path": str(moves), "ref_image_path": str(tmp_path / "text.png"), "name": "pictureless"},
    ]
    with pytest.raises(InputError) as caught:
        run(stage, tmp_path, cases)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["gone", "broken", "poseless", "pictureless"]
    assert not (tmp_path / "out").exists()


def test_a_picture_of_nobody_is_found_before_the_first_case_runs(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    write_image(tmp_path / "empty.png", np.full((200, 200, 3), 220, np.uint8))
    cases = [
        {"ref_video_path": str(moves)},
        {"ref_video_path": str(moves), "ref_image_path": str(tmp_path / "empty.png"), "name": "empty"},
    ]
    with pytest.raises(InputError, match=r"^empty: .*empty\.png: nobody is found in the picture"):
        run(stage, tmp_path, cases)
    assert not (tmp_path / "out").exists()


def test_sizes_and_windows_that_do_not_suit_the_model_are_found_before(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    cases = [
        {"ref_video_path": str(moves)},
        {"ref_video_path": str(moves), "name": "odd", "height": 30, "width": 32},
        {"ref_video_path": str(moves), "name": "overlapping", "tile_overlap": 9},
        {"ref_video_path": str(moves), "name": "stepping", "timesteps": [900, 100]},
    ]
    with pytest.raises(InputError) as caught:
        run(stage, tmp_path, cases)
    odd, overlapping, stepping = str(caught.value).splitlines()
    assert odd.startswith("odd: the result would be 30 x 32")
    assert stepping.startswith("stepping: timesteps are given, and this family takes continuous ones")
    assert overlapping.startswith("overlapping: tile_overlap is 9 and tile_size 6")
    assert not (tmp_path / "out").exists()


def test_models_that_are_not_there_or_do_not_fit(stage: Stage, tmp_path: Path, moves: Path) -> None:
    case = [{"ref_video_path": str(moves)}]
    with pytest.raises(SourceError, match="there is no model folder"):
        run(stage, tmp_path, case, base_model_path=str(tmp_path / "none"))
    with pytest.raises(SourceError, match="there is no checkpoint"):
        run(stage, tmp_path, case, ckpt_path=str(tmp_path / "MimicMotion_1-1.pth"))
    with pytest.raises(InputError, match=r"no model_index\.json"):
        run(stage, tmp_path, case, base_model_path=str(tmp_path))
    (tmp_path / "junk.pth").write_text("no weights")
    with pytest.raises(WeightsError, match=r"junk\.pth"):
        run(
            stage,
            tmp_path,
            case,
            base_model_path=str(write_base(tmp_path / "base")),
            ckpt_path=str(tmp_path / "junk.pth"),
        )


def test_a_released_checkpoint_over_its_base_runs(stage: Stage, tmp_path: Path, moves: Path) -> None:
    base = write_base(tmp_path / "base")
    outcome = run(
        stage,
        tmp_path,
        [{"ref_video_path": str(moves), "name": "a", "num_frames": 6, "frames_overlap": 2}],
        "height=64",
        "width=64",
        "num_inference_steps=1",
        base_model_path=str(base),
        ckpt_path=str(CHECKPOINT),
    )
    assert outcome.failures == ()
    assert probe(outcome.results[0].path).height == 64
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["model"]["checkpoint"] == str(CHECKPOINT)
    assert CHECKPOINT.name in report["model"]["weights_sha256"]


def test_a_missing_densepose_model_is_named(stage: Stage, tmp_path: Path, moves: Path) -> None:
    with pytest.raises(InputError, match=r"densepose_model: there is no file .*no\.onnx; expected an ONNX"):
        run(stage, tmp_path, [{"ref_video_path": str(moves)}], densepose_model=str(tmp_path / "no.onnx"))


def test_an_output_folder_that_cannot_be_written_is_found_first(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*choose another place"):
        run(stage, tmp_path, [{"ref_video_path": str(moves)}], output_dir=str(tmp_path / "file" / "out"))


def test_too_little_space_is_found_before(tmp_path: Path) -> None:
    check_space(tmp_path, 1000)
    with pytest.raises(InputError, match="MB free, and the results may need 1000000000000 MB"):
        check_space(tmp_path, 10**18)


def test_a_disk_that_fills_up_midway_costs_only_the_case_that_needs_it(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    small = {"ref_video_path": str(moves), "name": "small"}
    large = {
        "ref_video_path": str(moves),
        "name": "large",
        "height": 64,
        "width": 64,
        "crf": 0,
        "max_frames": 8,
    }
    resource = pytest.importorskip("resource", reason="limits of file size are a POSIX matter")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, before[1]))
    try:
        outcome = run(stage, tmp_path, [large, small])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [failure.name for failure in outcome.failures] == ["large"]
    assert "no space is left on the disk" in why_failed(outcome.failures[0].error)
    assert names(tmp_path / "out") == ["small.json", "small.mp4"]


def test_devices_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda"):
        chosen_device("gpu0")
    with pytest.raises(ConfigError, match="torch sees no such device here"):
        chosen_device("cuda:77")


def test_errors_become_one_line() -> None:
    assert why_failed(PictureError("a\n  b")) == "a b"
    assert why_failed(KeyError("x")) == "KeyError: 'x'"
    assert "cpu_offload=true" in why_failed(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))


def test_results_replace_neither_each_other_nor_what_is_read(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    case = {"ref_video_path": str(moves)}
    with pytest.raises(InputError, match="would both write"):
        run(stage, tmp_path, [case | {"name": "a", "side_by_side": True}, case | {"name": "a_side_by_side"}])
    clip = write_clip(tmp_path / "self.mp4", even_times(3, 10))
    before = clip.read_bytes()
    with pytest.raises(InputError, match="would be replaced"):
        run(stage, tmp_path, [{"ref_video_path": str(clip), "name": "self"}], output_dir=str(tmp_path))
    assert clip.read_bytes() == before


def test_unchanged_results_are_kept_and_others_set_aside(stage: Stage, tmp_path: Path, moves: Path) -> None:
    case = {"ref_video_path": str(moves), "name": "case", "num_inference_steps": 1}
    out = {"output_dir": str(tmp_path / "out")}
    first = run(stage, tmp_path, [case], **out)
    assert not first.results[0].is_kept
    video = (tmp_path / "out" / "case.mp4").read_bytes()
    kept = run(stage, tmp_path, [case], **out).results[0]
    assert kept.is_kept
    assert (kept.num_frames, kept.fps, kept.path) == (
        first.results[0].num_frames, first.results[0].fps, first.results[0].path,
    )  # fmt: skip
    other = run(stage, tmp_path, [case | {"seed": 7}], **out).results[0]
    assert (other.former.name, other.former.read_bytes()) == ("case.1.mp4", video)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "case.1.json", "case.1.mp4", "case.json", "case.mp4",
    ]  # fmt: skip


def test_another_input_of_the_same_name_makes_another_result(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    case = {"ref_video_path": str(moves), "name": "case", "num_inference_steps": 1}
    out = {"output_dir": str(tmp_path / "out")}
    run(stage, tmp_path, [case], **out)
    PoseSequence.load(moves)[slice(1, 5)].save(moves)
    again = run(stage, tmp_path, [case], **out).results[0]
    assert (again.is_kept, again.former is not None) == (False, True)


def test_a_file_that_is_not_ours_is_refused_before_any_work(
    stage: Stage, tmp_path: Path, moves: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "case.mp4").write_bytes(b"holiday")
    with pytest.raises(InputError, match="is no result of mimic's"):
        run(stage, tmp_path, [{"ref_video_path": str(moves), "name": "case"}], output_dir=str(folder))
    assert (folder / "case.mp4").read_bytes() == b"holiday"


def test_a_second_run_in_a_folder_is_told_who_holds_it(stage: Stage, tmp_path: Path, moves: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    case = {"ref_video_path": str(moves), "name": "case"}
    with locked_folder(folder, work="mimic infer", say=lambda line: None), pytest.raises(FolderInUseError):
        run(stage, tmp_path, [case], output_dir=str(folder))


def test_a_torch_without_cuda_beside_an_nvidia_device_is_said_first(
    stage: Stage, tmp_path: Path, moves: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimic.generation.run.missing_cuda", lambda: "torch is built without CUDA")
    monkeypatch.setattr("mimic.generation.run.chosen_device", lambda name: torch.device("cpu"))
    run(stage, tmp_path, [{"ref_video_path": str(moves)}], device="auto")
    assert TOLD[0] == "note: torch is built without CUDA"


def test_numbers_are_told_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    result = GenerateResult(
        path=Path("a.mp4"), side_by_side=None, report=Path("a.json"), num_frames=1, fps=25 / 3, height=8,
        width=8, has_audio=False, seconds=2.4,
    )  # fmt: skip
    assert summary(result) == "a.mp4 (1 frame of 8x8, 8.33 fps); took 2 s"
    for number, told in ((1, "cpu (1 thread)"), (2, "cpu (2 threads)")):
        monkeypatch.setattr(torch, "get_num_threads", lambda number=number: number)
        assert device_name(torch.device("cpu")) == told
