"""An ONNX network and the device it runs on.

Only execution providers that exist and work are asked for, so that a machine without a GPU starts silently
with either build of onnxruntime.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pose.text import one_line, shown
from pose.types import PoseError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

log = logging.getLogger("pose")

BUNDLED = Path(__file__).parent / "bundled"


class Network:
    """One ONNX network with a single image input.

    Args:
        path: the ONNX file.
        device: `auto` (CUDA when it works, else the CPU), `cpu`, `cuda` or `cuda:<index>`.
        num_threads: CPU threads that share one call; None means every core this process may use.

    Attributes:
        has_fixed_batch: whether the network takes one picture at a time, not any number.
        input_shape: the sizes behind the batch dimension.

    Raises:
        FileNotFoundError: there is no such file.
        PoseError: the file is no ONNX network, or CUDA was asked for and does not work.
    """

    def __init__(self, path: str | Path, *, device: str = "auto", num_threads: int | None = None) -> None:
        self.path = Path(path)
        self._session = _open_session(self.path, device, num_threads or available_cores())
        network_input = self._session.get_inputs()[0]
        self._input_name = network_input.name
        self._output_names = [output.name for output in self._session.get_outputs()]
        batch, *sizes = network_input.shape
        self.has_fixed_batch = isinstance(batch, int)
        if self.has_fixed_batch and batch != 1:
            raise PoseError(
                f"{path} takes batches of {batch} alone; expected one picture at a time, or any number"
            )
        self.input_shape: tuple[int, ...] = tuple(sizes)

    def __call__(self, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run on a batch of any length; a network of fixed batch is run once for every image.

        Returns the outputs by name, each with the batch first. Safe to call from several threads.
        """
        if not self.has_fixed_batch:
            return self._run(images)
        runs = [self._run(images[i : i + 1]) for i in range(len(images))]
        return {name: np.concatenate([run[name] for run in runs]) for name in self._output_names}

    def _run(self, images: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        outputs = self._session.run(None, {self._input_name: images})
        return dict(zip(self._output_names, outputs, strict=True))

    @property
    def provider(self) -> str:
        """The execution provider that is asked first."""
        return str(self._session.get_providers()[0])


def available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_providers(device: str) -> list[str | tuple[str, dict[str, Any]]]:
    """Execution providers for a device name, the preferred one first.

    Raises:
        PoseError: the name is unknown, or CUDA was asked for by name and does not work here.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdigit())):
        raise PoseError(f"unknown device {shown(device)}; expected auto, cpu, cuda or cuda:<index>")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if _cuda_works():
        options = {"device_id": int(index or 0), "cudnn_conv_algo_search": "HEURISTIC"}
        return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]
    if kind == "cuda":
        raise PoseError(
            "device 'cuda' was asked for, but onnxruntime cannot use a CUDA device here; "
            "use device 'cpu', or install onnxruntime-gpu[cuda,cudnn] on a machine with an NVIDIA GPU"
        )
    return ["CPUExecutionProvider"]


def disable_telemetry() -> None:
    """Switch ONNX Runtime's telemetry off, before its import, when the variable is read.

    From version 1.29 on it collects data about the machine by default and writes files to the home folder.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load_onnxruntime() -> ModuleType:
    """Import ONNX Runtime with its telemetry switched off; on Windows, that of the system as well."""
    disable_telemetry()
    import onnxruntime

    if sys.platform == "win32":
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def _open_session(path: Path, device: str, num_threads: int) -> InferenceSession:
    onnxruntime = load_onnxruntime()
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX network at {path}")
    try:
        providers = choose_providers(device)
        # It would print, and try the same again, where there is nothing to fall back to.
        fallback = {"enable_fallback": 0} if providers == ["CPUExecutionProvider"] else {}
        return onnxruntime.InferenceSession(
            str(path), _session_options(num_threads), providers=providers, **fallback
        )
    except PoseError:
        raise
    except Exception as error:  # onnxruntime raises a dozen classes that share nothing else
        raise PoseError(f"{path} cannot be read as an ONNX network: {one_line(error)}") from error


def _session_options(num_threads: int) -> SessionOptions:
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    # Waiting threads sleep: between two networks other work (decoding, cropping) has the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


@functools.lru_cache(maxsize=1)
def _cuda_works() -> bool:
    """Whether a network really runs on CUDA; tried once, on the smallest bundled one."""
    onnxruntime = load_onnxruntime()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers() or not has_nvidia_device():
        return False
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    with _quiet_runtime():
        try:
            if hasattr(onnxruntime, "preload_dlls"):
                onnxruntime.preload_dlls()
            session = onnxruntime.InferenceSession(
                str(BUNDLED / "hand_recrop.onnx"), _session_options(1), providers=providers
            )
            session.run(None, {"image": np.zeros((1, 256, 256, 3), np.uint8)})
            works = "CUDAExecutionProvider" in session.get_providers()
        except Exception:  # whatever the reason, the CPU takes over
            works = False
    if not works:
        log.warning(
            "there is a GPU, but onnxruntime cannot use it (are its CUDA and cuDNN libraries installed? "
            "pip install 'onnxruntime-gpu[cuda,cudnn]'); poses are estimated on the CPU"
        )
    return works


def has_nvidia_device() -> bool:
    """Whether the NVIDIA driver is installed and finds a device."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@contextlib.contextmanager
def _quiet_runtime() -> Iterator[None]:
    """Keep a failing trial off the screen: the runtime logs and prints while it looks for libraries."""
    onnxruntime = load_onnxruntime()
    onnxruntime.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        onnxruntime.set_default_logger_severity(2)  # the runtime's own default
