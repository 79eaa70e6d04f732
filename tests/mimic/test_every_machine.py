"""What other systems refuse or lack: open files, encodings, home folders, shared memory, double precision."""

import ctypes
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mimic.cli import doctor, main
from mimic.config import load_inference_config
from mimic.config.loading import ConfigError, read_yaml
from mimic.devices import missing_cuda
from mimic.files import replace, write_json
from mimic.generation.pose_cache import cache_folder
from mimic.provenance import versions
from mimic.results import ResultFiles, ResultInUseError, finish_placing, place, set_aside
from mimic.training import signals
from mimic.training.workers import WorkerError, samples_or_raise
from mimic.video import VideoWriter
from mimic.video.write import VideoWriteError
from mimic.weights.torchscript import load_torchscript
from pose import PoseSequence
from pose.dwpose import weights_folder
from pose.session import has_nvidia_device

ROOT = Path(__file__).parents[2]


def run_python(*arguments, **environment):
    """Run Python in the project's folder with a changed environment; None removes a variable."""
    merged = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    given = {name: value for name, value in merged.items() if value is not None}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=given, capture_output=True, timeout=280, check=False
    )


class Refusals:
    """`os.replace` that is refused for files of given names, a number of times, as by a virus scanner."""

    def __init__(self, monkeypatch, number, names=()):
        self.left, self.names, self.real = number, names, os.replace
        monkeypatch.setattr(os, "replace", self)
        monkeypatch.setattr("time.sleep", lambda seconds: None)

    def __call__(self, source, target):
        if self.left and (
            not self.names or Path(source).name in self.names or Path(target).name in self.names
        ):
            self.left -= 1
            raise PermissionError(13, "used by another process", os.fspath(target))
        self.real(source, target)


def test_a_rename_that_is_refused_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    refusals = Refusals(monkeypatch, 3)
    write_json(tmp_path / "a.json", {"a": 1})
    assert refusals.left == 0
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    Refusals(monkeypatch, 100)
    with pytest.raises(PermissionError):
        replace(tmp_path / "a.json", tmp_path / "b.json")
    assert (tmp_path / "a.json").exists()


def test_a_finished_video_is_kept_beside_one_that_a_player_has_open(tmp_path, monkeypatch):
    Refusals(monkeypatch, 100, names=["dance.mp4"])
    frame = np.zeros((16, 16, 3), np.uint8)
    with (
        pytest.raises(VideoWriteError, match=r"dance\.mp4 could not be written.*dance\.unfinished\.mp4"),
        VideoWriter(tmp_path / "dance.mp4", height=16, width=16, fps=8, keep_unfinished=True) as writer,
    ):
        writer.write(frame)
    assert (tmp_path / "dance.unfinished.mp4").stat().st_size > 100


def test_a_former_result_that_is_open_is_copied_aside(tmp_path, monkeypatch):
    files = ResultFiles(tmp_path / "dance.mp4")
    files.video.write_bytes(b"former")
    files.report.write_text("{}")
    Refusals(monkeypatch, 100, names=["dance.mp4"])
    with set_aside(files, is_kept=True) as former:
        files.video.write_bytes(b"new")
    assert former.video.read_bytes() == b"former"
    assert files.video.read_bytes() == b"new"


def test_a_new_result_whose_former_one_is_open_stays_whole_and_is_named(tmp_path, monkeypatch):
    files = ResultFiles(tmp_path / "dance.mp4")
    staged = tmp_path / "dance.unfinished" / "1"
    staged.mkdir(parents=True)
    for path in files:
        path.write_bytes(b"former")
    for path in files.inside(staged):
        path.write_bytes(b"new")
    refusals = Refusals(monkeypatch, 1000, names=["dance.mp4"])
    with pytest.raises(ResultInUseError, match=r"dance\.mp4 cannot be replaced .*dance\.unfinished"):
        place(staged, files, is_former_kept=True)
    assert files.inside(staged).video.read_bytes() == b"new"
    refusals.left = 0
    assert finish_placing(staged)
    assert [path.read_bytes() for path in files] == [b"new", b"new"]
    assert files.numbered(1).video.read_bytes() == b"former"


def test_poses_are_written_although_a_scanner_looks_at_them_for_a_moment(tmp_path, monkeypatch):
    refusals = Refusals(monkeypatch, 3)
    PoseSequence(np.zeros((1, 1, 134, 2)), np.ones((1, 1, 134)), 16, 16).save(tmp_path / "a.npz")
    assert refusals.left == 0
    assert len(PoseSequence.load(tmp_path / "a.npz")) == 1


@pytest.mark.parametrize("encoding", ["cp1252", "cp850", "ascii"])
def test_streams_replace_what_they_cannot_show(tmp_path, encoding):
    folder = tmp_path / "舞蹈 → こんにちは"
    folder.mkdir()
    (folder / "a.yaml").write_text("typo: 1\n")
    done = run_python("-m", "mimic", "infer", "--config", str(folder / "a.yaml"), PYTHONIOENCODING=encoding)
    assert done.returncode == 2, done.stderr
    assert b"typo" in done.stderr
    assert b"UnicodeEncodeError" not in done.stderr


SHOWN = """
import sys
from mimic.cli import main
try:
    main(["--version"])
except SystemExit:
    pass
print("lr: 1 → 2, 舞蹈")
"""


@pytest.mark.parametrize(
    "encoding", ["cp1252", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cp850", "ascii"))]
)
def test_what_goes_to_standard_output_is_replaced_too(encoding):
    done = run_python("-c", SHOWN, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"2" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_folder_of_any_letters_is_named_after_the_work(tmp_path):
    made = ("-n", "1", "--seconds", "0.25", "--fps", "8", "--size", "32", "32", "-q")
    done = run_python("-m", "mimic", "synth", *made, "-o", str(tmp_path / "舞蹈"), PYTHONIOENCODING="cp1252")
    assert done.returncode == 0, done.stderr
    assert b"clip_0000.mp4" in done.stdout


NOBODY = """
import os, pwd, sys
def unknown(number): raise KeyError(number)
pwd.getpwuid = unknown
from mimic.cli import main
sys.exit(main(["demo", "--output-dir", sys.argv[1], "test_case.0.max_frames=2", "device=cpu"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows always has a home folder")
def test_the_demonstration_runs_for_a_user_without_a_home_folder(tmp_path):
    without = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "MIMIC_POSE_CACHE", "MIMIC_DWPOSE", "USER", "LOGNAME"))
    done = run_python("-c", NOBODY, str(tmp_path), **without)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "demo.mp4").exists()


def test_versions_are_not_those_of_the_metadata(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")  # PyPI's metadata lacks +cu130
    assert versions()["torch"] == torch.__version__
    assert any(f"torch {torch.__version__}" in line for line in doctor.report())


def test_the_doctor_names_what_computes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert any("mps (Apple)" in line and "poses are estimated on the CPU" in line for line in doctor.report())
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr("mimic.devices.missing_cuda", lambda: "built without CUDA; pip install x")
    assert any("built without CUDA; pip install x" in line for line in doctor.report())


def test_ctrl_break_ends_every_command_as_ctrl_c_does(monkeypatch):
    number = getattr(signal, "SIGBREAK", None) or signal.SIGUSR2
    monkeypatch.setattr(signal, "SIGBREAK", number, raising=False)
    before = signal.getsignal(number)
    try:
        with pytest.raises(SystemExit):
            main(["--version"])
        assert signal.getsignal(number) is not before
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("command", [("animate", "é.png", "舞.mp4"), ("evaluate", "-g", "é", "-t", "舞")])
def test_letters_outside_ascii_are_one_sentence_where_the_system_knows_none(command):
    changed = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": None}
    done = run_python("-m", "mimic", *command, **changed)
    told = done.stderr.decode("ascii").strip().splitlines()
    assert done.returncode in (1, 2), told
    assert all(line.startswith("mimic: ") for line in told), told
    assert command[0] != "animate" or "no text in this system's encoding (ascii); set PYTHONUTF8=1" in told[0]


POSE_ESTIMATION = """
import numpy as np
from pose.session import BUNDLED, Network
Network(BUNDLED / "hand_recrop.onnx", device="cpu")(np.zeros((1, 256, 256, 3), np.uint8))
"""
LOADING_AND_SAVING = """
import sys
import diffusers
from mimic import load_pipeline
load_pipeline("bundled:mini", device="cpu").save_pretrained(sys.argv[1])
diffusers.utils.logging.disable_progress_bar()
diffusers.DiffusionPipeline.from_pretrained(sys.argv[1])
"""


@pytest.mark.parametrize(
    "script", [POSE_ESTIMATION, pytest.param(LOADING_AND_SAVING, marks=pytest.mark.slow)]
)
def test_onnxruntime_sends_and_stores_nothing(tmp_path, script):
    """Also where diffusers imports it, which it does whenever it loads or saves a pipeline."""
    home = tmp_path / "home"
    home.mkdir()
    changed = {"HOME": str(home), "XDG_CACHE_HOME": None, "ORT_DISABLE_TELEMETRY": None}
    done = run_python("-c", script, str(tmp_path / "model"), **changed)
    assert done.returncode == 0, done.stderr
    assert b"elemetry" not in done.stderr
    assert not [path for path in home.rglob("*") if "onnxruntime" in str(path) or path.name == "Microsoft"]


@pytest.mark.skipif(os.name == "nt", reason="Windows always has a home folder")
def test_a_user_without_a_home_folder_can_run_doctor_and_the_demonstration(monkeypatch):
    """Nor a folder for temporary files, as in a container with a read-only root."""
    import pwd
    import tempfile

    from mimic.cli import doctor

    def unknown(number):
        raise KeyError(number)

    def none_writable():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_writable)
    for name in ("HOME", "XDG_CACHE_HOME", "MIMIC_DWPOSE", "MIMIC_POSE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert weights_folder().is_absolute()
    assert any("blazepose" in line for line in doctor.report())
    assert cache_folder() is None, "the demonstration runs without a cache of poses"


class Driver:
    """NVIDIA's driver library with one device."""

    def __init__(self, name):
        self.name = name

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = 1
        return 0


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_a_torch_without_cuda_beside_an_nvidia_device_is_said(monkeypatch):
    assert has_nvidia_device() or missing_cuda() is None
    monkeypatch.setattr(ctypes, "CDLL", Driver)
    assert "--index-url https://download.pytorch.org/whl/" in missing_cuda()


def test_versions_are_those_that_run():
    assert versions()["torch"] == torch.__version__


@pytest.mark.parametrize(
    "text", [r'"D:\new\clip.mp4"', r'"D:\data\clip.mp4"', r'"C:\temp"', r'"clips\new"', r'"videos\take 1"']
)
def test_backslashes_in_double_quotes_get_a_hint(tmp_path, text):
    (tmp_path / "a.yaml").write_text(f"output_dir: {text}\n")
    with pytest.raises(ConfigError, match=r"In double quotes YAML reads .* single quotes: 'D:\\new'"):
        read_yaml(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(f"output_dir: {text}\n".replace('"', "'"))
    assert read_yaml(tmp_path / "a.yaml")["output_dir"] == text.strip('"')


def test_shipped_configs_have_no_such_path():
    for path in (ROOT / "configs").glob("*.yaml"):
        load_inference_config(path)


def test_a_worker_ended_by_the_system_gets_a_sentence():
    def batches():
        raise RuntimeError("DataLoader worker (pid(s) 12) exited unexpectedly")
        yield []

    with pytest.raises(WorkerError, match=r"--shm-size=8g, or set num_workers=0") as caught:
        list(samples_or_raise(batches()))
    assert "\n" not in str(caught.value)


def test_ctrl_break_stops_a_training_as_ctrl_c_does(monkeypatch):
    number = getattr(signal, "SIGBREAK", None) or signal.SIGUSR2
    monkeypatch.setattr(signals, "INTERRUPTS", (signal.SIGINT, number))
    with signals.StopRequest() as stop:
        signal.raise_signal(number)
        assert stop.name == signal.Signals(number).name
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_torchscript_is_read_from_a_folder_of_any_letters(tmp_path, monkeypatch):
    """Torch opens no such path on Windows, so it has to be given the content."""
    load = torch.jit.load

    def of_content(file, *rest, **named):
        assert not isinstance(file, str | os.PathLike)
        return load(file, *rest, **named)

    monkeypatch.setattr(torch.jit, "load", of_content)
    folder = tmp_path / "模型"
    folder.mkdir()
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), buffer)
    (folder / "a.pt").write_bytes(buffer.getvalue())
    module = load_torchscript(folder / "a.pt", torch.device("cpu"))
    assert torch.equal(module(torch.ones(2)), torch.ones(2))


TRAIN = ("train.py", "--config", "configs/train/debug.yaml", "checkpoints.every=2")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the simulation reads /proc")
def test_training_and_inference_run_where_open_files_cannot_be_replaced(tmp_path):
    simulated = {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "tests/windows"), str(ROOT)]),
        "MIMIC_WINDOWS_FOLDER": str(tmp_path),
        "PYTHONIOENCODING": "cp1252",
    }
    out = [f"output_dir={tmp_path / 'run'}", "num_workers=1"]
    for steps in (4, 6):
        done = run_python(*TRAIN, *out, f"max_steps={steps}", "resume=auto", **simulated)
        assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "final").is_dir()
    demo = ("-m", "mimic", "demo", "--output-dir", str(tmp_path / "out"), "test_case.0.max_frames=2")
    for seed in (1, 2):
        done = run_python(*demo, f"seed={seed}", **simulated)
        assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "out" / "demo.1.mp4").exists()
