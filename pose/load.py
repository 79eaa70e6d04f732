"""Choose a pose estimator by name and load its networks."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pose import dwpose
from pose.blazepose import BlazePose
from pose.estimators import Estimator
from pose.session import BUNDLED
from pose.text import shown
from pose.types import PoseError

NAMES = ("auto", "dwpose", "blazepose")

log = logging.getLogger("pose")


def load_estimator(
    name: str = "auto",
    *,
    weights: str | os.PathLike[str] | None = None,
    device: str = "auto",
    num_threads: int | None = None,
) -> Estimator:
    """A pose estimator, with its networks loaded.

    Args:
        name: `dwpose` (the original two ONNX files, see `pose.dwpose.find_weights`), `blazepose` (bundled
            with this package), or `auto`: DWPose when its files are there. What `auto` took is logged to
            "pose".
        weights: folder with the DWPose files; with `auto` they must be there then.
        device: `auto`, `cpu`, `cuda` or `cuda:<index>`. The small networks of blazepose run on the CPU
            unless a CUDA device is named.
        num_threads: CPU threads; None means as many as are useful.

    Raises:
        PoseError: unknown name or device.
        EstimatorWeightsError: DWPose was asked for and its files are missing.
    """
    if _is_bundled(name, weights):
        estimator: Estimator = BlazePose(device=device, num_threads=num_threads)
        reason = "the bundled one; `mimic download dwpose` gets DWPose, which is more accurate"
    else:
        files = dwpose.find_weights(weights)
        estimator = dwpose.DWPose(files.detector, files.pose, device=device, num_threads=num_threads)
        reason = f"weights in {files.pose.parent}"
    if name == "auto":
        log.info("pose estimator: %s (%s)", estimator.name, reason)
    return estimator


def estimator_files(name: str = "auto", *, weights: str | os.PathLike[str] | None = None) -> list[Path]:
    """The files of networks that `load_estimator` would load, by which its results are known again.

    Raises:
        PoseError: unknown name.
        EstimatorWeightsError: DWPose was asked for and its files are missing.
    """
    if _is_bundled(name, weights):
        return sorted(BUNDLED.glob("*.onnx"))
    found = dwpose.find_weights(weights)
    return [found.detector, found.pose]


def _is_bundled(name: str, weights: str | os.PathLike[str] | None) -> bool:
    if name not in NAMES:
        raise PoseError(f"unknown pose estimator {shown(name)}; choose one of {', '.join(NAMES)}")
    return name == "blazepose" or (name == "auto" and weights is None and not dwpose.has_weights())
