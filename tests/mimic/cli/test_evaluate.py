"""`mimic evaluate` from end to end: what it measures, prints and writes, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mimic.cli import main
from mimic.metrics.image import psnr
from mimic.metrics.video import changes, seam_jump, seam_steps
from mimic.sampling.windows import lay_windows
from mimic.video import write_image

ROOT = Path(__file__).parents[3]
NUM_FRAMES = 25

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


def clip(seed: int, noise: int = 0, num_frames: int = NUM_FRAMES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x, t = np.mgrid[:24, :32, :num_frames].transpose(0, 3, 1, 2)
    frames = np.stack([127 + 100 * np.sin((x + 2 * t) / 6 + c) * np.cos(y / 5) for c in range(3)], -1)
    return (frames + rng.integers(-noise, noise + 1, frames.shape)).clip(0, 255).astype(np.uint8)


def write(folder: Path, frames: np.ndarray) -> None:
    for number, frame in enumerate(frames):
        write_image(folder / f"{number:03d}.png", frame)


@pytest.fixture(autouse=True)
def _two_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        write(Path("made") / name, clip(seed, noise=30))
        write(Path("true") / name, clip(seed))


def evaluate(*arguments: str, code: int = 0) -> dict:
    assert main(["evaluate", "-q", "-g", "made", "-t", "true", "-o", "new/figures.json", *arguments]) == code
    return json.loads(Path("new/figures.json").read_text(encoding="utf-8")) if code == 0 else {}


def run_json(layout: str | None, fusion: str = "average", pipeline: str = "AnimateAnyonePipeline") -> str:
    settings = {"tile_size": 8, "tile_overlap": 2, "windows": layout, "fusion": fusion}
    return json.dumps({"settings": settings, "model": {"pipeline": pipeline}})


def jump(layout: str, size: int = 8, overlap: int = 2) -> float:
    """Of clip a, measured by hand."""
    first = 1 if layout == "reference" else 0
    seams = seam_steps(lay_windows(NUM_FRAMES + first, size, overlap, layout), first_frame=first)
    found = seam_jump(changes(clip(0, noise=30), clip(0)), seams)
    assert found is not None
    return found


def test_figures_are_printed_and_written(capsys):
    report = evaluate()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "protocol none (no published protocol); 2 clips, 50 frames"
    assert lines[1].split() == [
        "metric",
        "mean",
        "over",
        "clips",
        "95",
        "%",
        "interval",
        "mean",
        "over",
        "frames",
        "better",
    ]
    assert lines[-1] == str(Path("new/figures.json"))
    expected = np.mean([psnr(m, t) for seed in (0, 1) for m, t in zip(clip(seed, noise=30), clip(seed))])
    entry = report["summary"]["psnr"]
    assert entry["value"] == pytest.approx(expected)
    printed = next(line for line in lines if line.startswith("psnr"))
    assert f"{entry['value']:.5g}" in printed
    assert f"{entry['low']:.5g} … {entry['high']:.5g}" in printed
    assert any(line.startswith("fid ") and "not measured: no network is named" in line for line in lines)
    assert {"mimic", "torch"} <= set(report["versions"])
    assert (report["generated"], report["truth"]) == ("made", "true")


@pytest.mark.parametrize(
    ("written", "layout"),
    [
        (run_json("closed"), "closed"),
        (run_json("sliding"), "sliding"),
        (run_json("closed", fusion="progressive"), "sliding"),  # as earlier versions wrote it
        (run_json(None, pipeline="MimicMotionPipeline"), "reference"),
        (run_json("reference", pipeline="MimicMotionPipeline"), "reference"),
    ],
)
def test_seams_are_those_of_the_windows_that_the_run_used(written, layout):
    Path("made/a.json").write_text(written)
    rows = evaluate()["clips"]
    assert rows[0]["metrics"]["seam_jump"] == pytest.approx(jump(layout))
    assert "windows" in rows[1]["not_measured"]["seam_jump"]


def test_options_stand_in_for_a_json_and_replace_one():
    for arguments, expected in (
        (("--tile-size", "8", "--tile-overlap", "2"), jump("reference")),
        (("--tile-size", "8", "--tile-overlap", "2", "--windows", "closed"), jump("closed")),
    ):
        assert evaluate(*arguments)["clips"][0]["metrics"]["seam_jump"] == pytest.approx(expected)
    Path("made/a.json").write_text(run_json("closed"))
    for arguments, expected in (
        (("--windows", "sliding"), jump("sliding")),
        (("--tile-size", "6", "--tile-overlap", "1"), jump("closed", 6, 1)),
    ):
        assert evaluate(*arguments)["clips"][0]["metrics"]["seam_jump"] == pytest.approx(expected)


class Means(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(dim=2)


class Distance(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().flatten(1).mean(dim=1)


def test_networks_named_by_options_are_measured_with_and_named(capsys):
    torch.jit.script(Means()).save("means.pt")
    torch.jit.script(Distance()).save("distance.pt")
    options = ("--fid-network", "means.pt", "--lpips-network", "distance.pt", "--device", "cpu")
    report = evaluate(*options, "--protocol", "B")
    assert report["summary"]["fid"]["num_features"] == 2 * NUM_FRAMES
    assert report["summary"]["lpips"]["value"] > 0
    assert report["networks"]["lpips"]["file"] == "distance.pt"
    printed = capsys.readouterr().out
    assert f"of {2 * NUM_FRAMES} features" in printed
    assert "note: generated frames were resized" in printed


def test_poses_are_compared_when_asked_for():
    write(Path("short/a"), clip(0, num_frames=2))
    code = main(
        ["evaluate", "-g", "short", "-t", "short", "--pose", "--estimator", "blazepose", "-o", "p.json"]
    )
    assert code == 0
    report = json.loads(Path("p.json").read_text())
    assert report["networks"]["pose_estimator"] == "blazepose"
    assert "hand_confidence" in report["clips"][0]["metrics"]


def test_unequal_and_unpaired_clips_are_measured_when_allowed():
    write(Path("true/c"), clip(3))
    Path("made/b/024.png").unlink()
    report = evaluate("--frames", "shortest", "--allow-unpaired")
    assert [(row["name"], row["num_frames"]) for row in report["clips"]] == [("a", 25), ("b", 24)]
    evaluate(code=2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "figures.txt"], "metrics are written as .json"),
        (["-o", "folder.json"], "a folder; give the name of a file"),
        (["-o", "con.json"], "Windows keeps that name for a device"),
        (["--tile-size", "8"], "belong together"),
        (["--tile-size", "-8", "--tile-overlap", "2"], "a window holds at least one frame"),
        (["--tile-size", "8", "--tile-overlap", "8"], "smaller than the window"),
        (["--fid-network", "none.pt"], "none.pt"),
        (["--face-model", "none.onnx"], "none.onnx"),
        (["--device", "warp"], "device is 'warp'"),
        (["-t", "nowhere"], "there is no folder or video nowhere"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_measured(arguments, expected, capsys):
    Path("folder.json").mkdir()
    assert main(["evaluate", "-g", "made", "-t", "true", *arguments]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_and_odd_files_beside_a_clip_are_no_reason_to_wait_or_to_fail(capsys) -> None:
    os.mkfifo("pipe")
    assert main(["evaluate", "-g", "pipe", "-t", "true"]) == 2
    assert "pipe is a named pipe; expected a video file" in capsys.readouterr().err
    os.mkfifo("figures.json")
    assert main(["evaluate", "-g", "made/a", "-t", "true/a", "-o", "figures.json"]) == 2
    assert "figures.json is there and holds no metrics" in capsys.readouterr().err
    Path("made/a.json").write_text("[" * 100_000)
    assert main(["evaluate", "-q", "-g", "made/a", "-t", "true/a"]) == 0


def test_a_closed_pipe_loses_no_figure(tmp_path):
    command = [
        sys.executable,
        "-m",
        "mimic",
        "evaluate",
        "-g",
        "made/a",
        "-t",
        "true/a",
        "-o",
        "f.json",
        "-q",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    assert process.wait(timeout=120) == 1
    assert error == b"" or os.name == "nt"  # where a closed pipe is an OSError like others
    assert json.loads((tmp_path / "f.json").read_text())["summary"]["psnr"]["value"] > 0


def test_figures_that_cannot_be_written_are_printed_all_the_same(capsys, monkeypatch):
    def refuse(path: Path, content: object) -> Path:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("mimic.files.write_json", refuse)
    code = main(["evaluate", "-q", "-g", "made", "-t", "true", "-o", "figures.json"])
    said = capsys.readouterr()
    assert "psnr" in said.out
    assert code != 0
    assert "No space left on device" in said.err


def test_a_name_that_is_too_long_is_refused_before_anything_is_measured(capsys):
    assert main(["evaluate", "-q", "-g", "made", "-t", "true", "-o", "n" * 245 + ".json"]) != 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "--output is nnn" in said.err


def test_the_same_evaluation_is_not_made_twice(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate()
    written = Path("new/figures.json").stat().st_mtime_ns
    first = capsys.readouterr().out
    evaluate()
    assert Path("new/figures.json").stat().st_mtime_ns == written
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    "changed",
    [["--protocol", "A"], ["--tile-size", "8", "--tile-overlap", "2"], "a picture", "the run beside"],
)
def test_figures_of_other_things_are_set_aside(changed: list[str] | str) -> None:
    first = evaluate()
    if changed == "a picture":
        write(Path("made") / "a", clip(5))
    elif changed == "the run beside":
        Path("made/a.json").write_text(run_json("reference"))
    second = evaluate(*(changed if isinstance(changed, list) else ()))
    assert second["identity"] != first["identity"]
    assert json.loads(Path("new/figures.1.json").read_text()) == first


def test_former_figures_are_replaced_if_asked() -> None:
    evaluate()
    evaluate("--protocol", "A", "--overwrite")
    assert [path.name for path in Path("new").iterdir()] == ["figures.json"]


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_json_of_somebody_else_stays(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    Path("new").mkdir()
    Path("new/figures.json").write_text('{"my": "notes"}')
    evaluate(*options, code=2)
    assert "holds no metrics" in capsys.readouterr().err
    assert Path("new/figures.json").read_text() == '{"my": "notes"}'


def test_what_a_killed_run_was_writing_is_removed():
    for name in (".m.1234.partial.json", ".m.json.partial"):
        Path(name).write_text("half")
    assert main(["evaluate", "-q", "-g", "made/a", "-t", "true/a", "-o", "m.json"]) == 0
    assert [path.name for path in Path().glob(".m*")] == [".m.json.partial"]  # not of that form: the user's
