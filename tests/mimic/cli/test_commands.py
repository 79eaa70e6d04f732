"""Commands whose work is tested elsewhere: that each does it, what it prints, and how it ends."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mimic.cli import main
from mimic.video import VideoWriter, probe, read_frames
from mimic.video.audio import in_step
from mimic.weights.download import RELEASES, Release, ReleasedFile
from mimic.weights.sources import DWPOSE, SVD
from tests.hub import Hub, serve
from tests.media import even_times, write_clip
from tests.mimic.weights.test_sources import use_hub
from tests.pose.released_onnx import DETECTOR, POSE
from tests.tiny import random_pipeline

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_compare_config(model: Path, **changes: object) -> None:
    content = {
        "output_dir": "out",
        "clips": {"num_clips": 1, "num_frames": 3},
        "device": "cpu",
        "common": {"num_inference_steps": 1, "decode_chunk_size": 2},
        "variants": [{"name": "toy", "model": str(model)}],
        **changes,
    }
    Path("compare.yaml").write_text(json.dumps(content))


@pytest.fixture
def compared(capsys):
    """What `mimic compare` printed, and kept in the folder, for one toy model."""
    pipeline = random_pipeline()
    pipeline.generation_defaults = {"height": 32, "width": 32, "tile_size": 4, "tile_overlap": 2}
    pipeline.save_pretrained("toy")
    write_compare_config(Path("toy").absolute())
    assert main(["compare", "--config", "compare.yaml"]) == 0
    return capsys.readouterr()


def test_compare_prints_results_and_page(compared):
    assert compared.out.splitlines() == [str(Path("out/results.jsonl")), str(Path("out/report.html"))]
    assert "1 made, 0 kept, 0 failed" in compared.err
    assert "[1/1] toy, dancer_000, seed 0" in compared.err


def test_the_progress_of_each_cell_of_a_comparison_is_told(compared, capsys):
    assert main(["compare", "--config", "compare.yaml", "seeds=[1]", "--log-json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stages = {event["stage"] for event in events if event["event"] == "progress"}
    assert {"compare", "denoising", "decoding"} <= stages


def test_compare_keeps_results_the_second_time_and_refuses_those_of_other_settings(compared, capsys):
    assert main(["compare", "--config", "compare.yaml"]) == 0
    assert "0 made, 1 kept, 0 failed" in capsys.readouterr().err
    write_compare_config(Path("toy").absolute(), common={"control_scale": 0.5})
    assert main(["compare", "--config", "compare.yaml"]) == 1
    printed = capsys.readouterr()
    assert "was made with another settings" in printed.err
    assert "failed: toy, dancer_000, seed 0: " in printed.err
    assert printed.out.splitlines() == [str(Path("out/results.jsonl"))]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Small files under the names of the released ones."""
    content = os.urandom(2000)
    file = ReleasedFile(DWPOSE, "small.onnx", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(RELEASES, "dwpose", Release("A small one", (file,), licence="free"))
    monkeypatch.setitem(
        RELEASES, "mimicmotion", Release("A base", (), licence="own", base=SVD, needs_consent=True)
    )
    base = {name: b"{}" for name in ("model_index.json", "vae/config.json", "image_encoder/config.json")}
    base |= {f"{part}.fp16.safetensors": b"0" for part in ("vae/model", "image_encoder/model")}
    with serve(Hub({DWPOSE: {"small.onnx": content}, SVD: base})) as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        yield hub


def test_a_download_goes_to_the_folder_and_is_listed(hub, capsys):
    assert main(["download", "dwpose", "--to", "weights"]) == 0
    assert Path("weights/small.onnx").read_bytes() == hub.repositories[DWPOSE]["small.onnx"]
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(Path("weights/small.onnx")))


def test_folders_are_downloaded_with_the_sizes_hashes_and_licence_that_the_hub_states(
    monkeypatch, tmp_path, capsys
):
    repositories = {
        part.repository: {pattern.replace("*", "file"): os.urandom(50) for pattern in part.wanted}
        | {"README.md": b"not wanted"}
        for name in ("animate-anyone", "magic-animate")
        for part in RELEASES[name].folders
    }
    with serve(Hub(repositories)) as hub:
        use_hub(monkeypatch, hub.url, tmp_path / "cache")
        assert main(["download", "animate-anyone", "--yes"]) == 0
        printed = capsys.readouterr().out
        for word in ("licence, as the hub states it: mit", "patrolli/AnimateAnyone to ", "in all"):
            assert word in printed
        assert (
            Path("models/AnimateAnyone/file.pth").read_bytes()
            == (repositories["patrolli/AnimateAnyone"]["file.pth"])
        )
        assert not Path("models/AnimateAnyone/README.md").exists()
        assert main(["download", "magic-animate", "--yes"]) == 0
        assert Path("models/MagicAnimate/temporal_attention/temporal_attention.ckpt").is_file()
        assert main(["download", "animate-anyone", "--yes"]) == 0  # nothing is left to do


def test_a_shipped_yaml_without_its_weights_names_the_command_that_gets_them(capsys):
    for name, release in (("animate_anyone", "animate-anyone"), ("magic_animate", "magic-animate")):
        assert main(["infer", "--config", f"bundled:{name}"]) == 2
        assert f"`mimic download {release}`" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("no\n", 2), ("", 2)])
def test_licences_that_restrict_use_are_agreed_to_first(answer, code, hub, monkeypatch, tmp_path, capsys):
    (tmp_path / "answer").write_text(answer)
    with open(tmp_path / "answer", encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert main(["download", "mimicmotion"]) == code
    assert bool(hub.sent) == (code == 0)
    capsys.readouterr()
    assert main(["doctor"]) == 0
    assert (f"{SVD} is not in the cache" in capsys.readouterr().out) == (code != 0)


def test_the_doctor_finds_pose_weights_and_checkpoint(monkeypatch, capsys):
    monkeypatch.setenv("MIMIC_DWPOSE", "nowhere")
    assert main(["doctor"]) == 0
    assert "DWPose needs" in capsys.readouterr().out
    Path("dwpose").mkdir()
    shutil.copy(DETECTOR, "dwpose/yolox_l.onnx")
    shutil.copy(POSE, "dwpose/dw-ll_ucoco_384.onnx")
    monkeypatch.setenv("MIMIC_DWPOSE", "dwpose")
    Path("models").mkdir()
    Path("models/MimicMotion_1-1.pth").touch()
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "dwpose (dwpose)" in text
    assert str(Path("models/MimicMotion_1-1.pth")) in text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_doctor_names_the_gpu(capsys):
    assert main(["doctor"]) == 0
    assert torch.cuda.get_device_name(0) in capsys.readouterr().out


def test_poses_of_a_clip_are_drawn_with_its_sound(capsys):
    assert main(["synth", "-n", "1", "--seconds", "0.5", "--fps", "4", "-o", "d", "-q", "--densepose"]) == 0
    assert Path("d/clip_0000.densepose.mp4").is_file()
    sound = in_step(
        write_clip(Path("sound.mp4"), even_times(4, 8), clap_times_s=[0.2], sound_s=0.5),
        start_s=0.0,
        source_s=0.5,
        result_s=0.5,
    )
    with VideoWriter("clap.mp4", height=384, width=384, fps=4, audio=sound) as writer:
        for frame in read_frames("d/clip_0000.mp4"):
            writer.write(frame)
    options = ["--estimator", "blazepose", "--person", "0", "--max-frames", "1", "--smooth", "3"]
    assert main(["pose", "clap.mp4", *options, "--overlay", "seen.mp4", "-o", "p/poses.npz"]) == 0
    printed = capsys.readouterr()
    assert "1 frame of 384x384, poses of one person; somebody in 1 of them" in printed.err
    assert (probe("seen.mp4").num_frames, probe("seen.mp4").has_audio) == (1, True)
    assert main(["pose", "clap.mp4", "--max-frames", "0"]) == 2


def test_a_training_is_checked_without_a_step(capsys):
    config = ROOT / "configs/train/debug.yaml"
    assert main(["train", f"output_dir={Path('run').absolute()}", "--config", str(config), "--dry-run"]) == 0
    assert "parameters" in capsys.readouterr().out
    assert not list(Path().glob("run/checkpoint*"))


def test_a_folder_of_dancers_becomes_a_data_set(capsys):
    assert main(["synth", "-n", "1", "--seconds", "1", "--fps", "6", "-o", "videos", "-q"]) == 0
    capsys.readouterr()
    arguments = [
        "--estimator",
        "blazepose",
        "--workers",
        "1",
        "--seed",
        "1",
        "--person",
        "largest",
        "min_frames=4",
    ]
    assert main(["prepare", "--videos", "videos", "--out", "data", *arguments]) == 0
    assert "of the frames have a hand mask (data.hand_threshold 0.8)" in capsys.readouterr().err
    assert main(["prepare", "--videos", "videos", "--out", "data", *arguments, "-q"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(Path("data") / name) for name in ("rejected.jsonl", "contact.png", "index.jsonl")]


@pytest.mark.parametrize("option", [["--port", "99999"], ["--max-upload", "0"], ["--max-seconds", "nan"]])
def test_numbers_that_a_studio_cannot_have_are_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", *option]) == 2
    assert "expected" in capsys.readouterr().err


def test_a_grey_picture_has_nobody(capsys):
    with VideoWriter("grey.mp4", height=64, width=64, fps=4) as writer:
        writer.write(np.full((64, 64, 3), 128, np.uint8))
    assert main(["pose", "grey.mp4", "--estimator", "blazepose"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
