"""`mimic doctor`: report what this machine has and what can be run on it."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mimic.cli.options import Subparsers

if TYPE_CHECKING:
    from packaging.markers import Marker

_USERS_EXTRAS = ("train", "ui", "heif", "cluster", "notebook")
_GPU_GB_FOR_MIMICMOTION = 16  # what its authors state for 72 frames at 576x1024


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "doctor",
        parents=[shared],
        help="report what this machine can do",
        description="List the devices, codecs, pose estimators and weights found here, and what can be run.",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    for line in report():
        print(line)
    return 0


def report() -> Iterator[str]:
    """Lines to print."""
    from mimic.files import bundled_models

    yield from _software()
    yield from _extras()
    yield from _devices()
    yield from _codecs()
    estimator_line = _estimator()
    yield estimator_line
    has_mini, mini_line = _mini()
    yield mini_line
    for name in bundled_models():
        if name != "mini":
            yield f"{'':<16}bundled:{name}"
    base_line, has_base = _base()
    checkpoint_line, has_checkpoint = _checkpoint()
    yield base_line
    yield checkpoint_line
    yield f"{'disk':<16}{shutil.disk_usage('.').free / 1e9:.0f} GB free here"
    yield ""
    if has_mini:
        yield "mimic demo runs here, on the CPU."
    yield _released_verdict(has_weights=has_base and has_checkpoint)


def _software() -> Iterator[str]:
    from mimic.provenance import versions

    found = versions()
    yield f"{'mimic':<16}{found['mimic']}, Python {found['python']}, {found['platform']}"
    yield f"{'libraries':<16}" + ", ".join(
        f"{name} {found[name]}" for name in ("torch", "diffusers", "transformers")
    )


def _extras() -> Iterator[str]:
    """Packages of each extra, and what of them is missing; nothing where mimic itself is not installed."""
    from importlib import metadata

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        needed = [Requirement(line) for line in metadata.requires("mimic-motion") or ()]
    except metadata.PackageNotFoundError:
        return
    installed = {canonicalize_name(found.name) for found in metadata.distributions()}
    for extra in _USERS_EXTRAS:
        names = [need.name for need in needed if _is_of(need.marker, extra)]
        absent = [name for name in names if canonicalize_name(name) not in installed]
        text = f'without {" and ".join(absent)}: pip install "mimic-motion[{extra}]"'
        yield f"{'[' + extra + ']':<16}{text if absent else ', '.join(names)}"


def _is_of(marker: Marker | None, extra: str) -> bool:
    """Whether a requirement with this marker is an extra's on this system."""
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _devices() -> Iterator[str]:
    import torch

    from mimic.devices import missing_cuda
    from pose.session import load_onnxruntime

    onnxruntime = load_onnxruntime()
    yield f"{'processor':<16}{os.cpu_count()} cores"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield f"{'GPU':<16}cuda:{index} {properties.name}, {properties.total_memory / 2**30:.0f} GB"
    elif torch.backends.mps.is_available():
        yield f"{'GPU':<16}mps (Apple): videos are made on it in float32; poses are estimated on the CPU"
    else:
        yield f"{'GPU':<16}{missing_cuda() or 'none that torch can use; everything runs on the CPU'}"
    usable = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    yield f"{'onnxruntime':<16}{onnxruntime.__version__}, built for {', '.join(usable)}"


def _codecs() -> Iterator[str]:
    import av

    from mimic.video.write import best_codec

    encoder = "H.264 (libx264)" if best_codec() == "libx264" else "MPEG-4 only, this build lacks libx264"
    yield f"{'video':<16}PyAV {av.__version__}; writes {encoder}"


def _estimator() -> str:
    from pose import PoseError
    from pose.dwpose import has_weights, weights_folder

    try:
        if has_weights():
            return f"{'poses':<16}dwpose ({weights_folder()})"
    except PoseError as error:
        return f"{'poses':<16}{error}"
    return f"{'poses':<16}blazepose (bundled); `mimic download dwpose` gets DWPose, which is more accurate"


def _mini() -> tuple[bool, str]:
    from mimic.weights.errors import SourceError
    from mimic.weights.sources import resolve

    try:
        return True, f"{'bundled:mini':<16}{resolve('bundled:mini')}"
    except SourceError as error:
        return False, f"{'bundled:mini':<16}missing: {error}"


def _base() -> tuple[str, bool]:
    from mimic.weights.errors import SourceError
    from mimic.weights.sources import BASE_FILES, SVD, snapshot

    try:
        folder = snapshot(SVD, wanted=BASE_FILES, local_files_only=True)
        return f"{'base model':<16}{folder}", True
    except SourceError:
        return f"{'base model':<16}{SVD} is not in the cache (`mimic download mimicmotion`)", False


def _checkpoint() -> tuple[str, bool]:
    from mimic.weights.errors import SourceError
    from mimic.weights.sources import MIMICMOTION, hub_file

    name = "MimicMotion_1-1.pth"
    path = Path("models") / name
    if not path.is_file():
        try:
            path = hub_file(MIMICMOTION, name, local_files_only=True)
        except SourceError:
            return f"{'checkpoint':<16}models/{name} is not here (`mimic download mimicmotion`)", False
    return f"{'checkpoint':<16}{path}", True


def _released_verdict(*, has_weights: bool) -> str:
    import torch

    if torch.backends.mps.is_available() and not torch.cuda.is_available():
        return (
            "The released MimicMotion runs on Apple's GPU (mps); its memory and speed there are not measured."
        )
    if not torch.cuda.is_available():
        return "The released MimicMotion needs an NVIDIA GPU; on the CPU it is far too slow to be of use."
    gb = (
        max(
            torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())
        )
        / 2**30
    )
    if not has_weights:
        return (
            "The released MimicMotion can run here once `mimic download mimicmotion` has fetched its weights."
        )
    if gb < _GPU_GB_FOR_MIMICMOTION - 1:
        return f"The released MimicMotion wants {_GPU_GB_FOR_MIMICMOTION} GB of GPU; try cpu_offload=true."
    return "The released MimicMotion runs here: mimic animate PICTURE CLIP --model mimicmotion"
