"""Networks start silently on what the machine has, and say clearly what is wrong with a file or a device."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pose import session
from pose.session import BUNDLED, Network, available_cores, choose_providers
from pose.types import PoseError

GOLDENS = Path(__file__).parents[1] / "goldens" / "dwpose" / "onnx"


def test_loading_and_running_prints_nothing():
    script = (
        "import numpy, logging; from pose.session import BUNDLED, Network\n"
        "logging.getLogger('pose').addHandler(logging.NullHandler())\n"
        "network = Network(BUNDLED / 'hand_recrop.onnx', device='auto')\n"
        "assert network(numpy.zeros((1, 256, 256, 3), numpy.uint8))['points'].shape == (1, 2, 2)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert (ran.stdout, ran.stderr) == ("", "")


def test_importing_the_package_does_not_import_the_runtime():
    script = "import sys, pose, pose.estimators, pose.dwpose; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_cpu_is_taken_where_cuda_does_not_work():
    if session._cuda_works():
        pytest.skip("CUDA works here")
    assert choose_providers("auto") == choose_providers("cpu") == ["CPUExecutionProvider"]
    with pytest.raises(PoseError, match=r"device 'cuda' was asked for.*use device 'cpu'"):
        choose_providers("cuda:0")


@pytest.mark.gpu
def test_cuda_is_taken_where_it_works():
    if not session._cuda_works():
        pytest.skip("onnxruntime cannot use a CUDA device here")
    network = Network(BUNDLED / "hand_recrop.onnx", device="cuda")
    assert network.provider == "CUDAExecutionProvider"


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cpu:1", ""])
def test_an_unknown_device_names_the_known_ones(device):
    with pytest.raises(PoseError, match="expected auto, cpu, cuda or cuda:<index>"):
        choose_providers(device)


def test_a_missing_file_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match="no ONNX network at"):
        Network(tmp_path / "absent.onnx")


def test_a_damaged_file_is_named(tmp_path):
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((BUNDLED / "hand_recrop.onnx").read_bytes()[:5000])
    with pytest.raises(PoseError, match=r"damaged\.onnx cannot be read as an ONNX network"):
        Network(damaged)


def test_a_network_that_takes_one_picture_at_a_time_is_run_for_each():
    network = Network(GOLDENS / "pose_stub.onnx", device="cpu", num_threads=1)
    images = np.random.default_rng(0).normal(size=(3, 3, 384, 288)).astype(np.float32)
    assert network.has_fixed_batch
    together = network(images)["simcc_x"]
    apart = np.concatenate([network(image[None])["simcc_x"] for image in images])
    assert together.shape == (3, 133, 576)
    np.testing.assert_array_equal(together, apart)


def test_there_is_at_least_one_core():
    assert available_cores() >= 1


def test_on_windows_the_systems_telemetry_is_switched_off_as_well(monkeypatch):
    called = []
    runtime = SimpleNamespace(
        disable_telemetry_events=lambda: called.append(os.environ["ORT_DISABLE_TELEMETRY"])
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert session.load_onnxruntime() is runtime
    assert called == ["1"]
