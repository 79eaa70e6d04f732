"""Download released weights (`mimic download`): their files, sizes, hashes and licences."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from mimic.files import whole_file
from mimic.progress import has_bar
from mimic.weights.errors import SourceError
from mimic.weights.sources import (
    BASE_FILES,
    DWPOSE,
    MIMICMOTION,
    SVD,
    hub_file,
    published_files,
    sha256,
    snapshot,
)


@dataclass(frozen=True)
class ReleasedFile:
    """One file as published."""

    repository: str
    """On the hub; of a file elsewhere, who publishes it."""
    name: str
    num_bytes: int
    sha256: str | None = None
    url: str | None = None
    """Address of a file that is not on the hub."""


@dataclass(frozen=True)
class ReleasedFolder:
    """Files of a hub repository that go to a folder of their own; sizes, hashes and licence are the hub's."""

    repository: str
    name: str
    """Name of the folder, as the shipped YAMLs have it."""
    wanted: tuple[str, ...]
    """Patterns of the files."""


@dataclass(frozen=True)
class Release:
    """A set of released weights that `mimic download NAME` downloads.

    Args:
        title: description of the weights.
        files: files to download into a folder.
        licence: description of the files' licence.
        base: hub repository of the base model, which is downloaded to the cache of huggingface_hub, because
            configs name it by its id.
        base_bytes: size of the downloaded part of the base model in bytes.
        base_licence: description of the base model's licence.
        needs_consent: whether users have to agree to a restrictive licence before the download.
        folders: further repositories, each downloaded to a folder.
        folder: default folder of the files, which the shipped YAMLs and the documents name.
    """

    title: str
    files: tuple[ReleasedFile, ...]
    licence: str
    base: str | None = None
    base_bytes: int = 0
    base_licence: str = ""
    needs_consent: bool = False
    folders: tuple[ReleasedFolder, ...] = ()
    folder: str = "models"
    """Where the files go unless another folder is named."""

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files) + self.base_bytes


_MIMICMOTION_LICENCE = "for research use only (the authors' terms; the code of MimicMotion is Apache-2.0)"
_SVD_LICENCE = "Stability AI's own, to be accepted on the model's page before it can be downloaded"
# VAE and image encoder in float16, and configs; MimicMotion's checkpoint contains the UNet.
_SVD_BYTES = 195_531_910 + 1_264_217_240 + 4_000

_VAE = ("config.json", "diffusion_pytorch_model.safetensors")

RELEASES = {
    "mimicmotion": Release(
        title="MimicMotion 1.1 (72-frame windows) and the parts of Stable Video Diffusion that it needs",
        files=(
            ReleasedFile(
                MIMICMOTION,
                "MimicMotion_1-1.pth",
                3_049_867_447,
                "b812659ea273b2758c918facf759af5d7cad9564dc35156c59ec17e93f9749a4",
            ),
        ),
        licence=_MIMICMOTION_LICENCE,
        base=SVD,
        base_bytes=_SVD_BYTES,
        base_licence=_SVD_LICENCE,
        needs_consent=True,
    ),
    "animate-anyone": Release(
        title="Animate Anyone's public re-implementation and the parts of Stable Diffusion that it needs",
        files=(),
        licence="",
        needs_consent=True,
        folders=(
            ReleasedFolder("patrolli/AnimateAnyone", "AnimateAnyone", ("*.pth",)),
            ReleasedFolder(
                "lambdalabs/sd-image-variations-diffusers",
                "sd-image-variations-diffusers",
                ("model_index.json", "unet/config.json", "image_encoder/*", "feature_extractor/*"),
            ),
            ReleasedFolder("stabilityai/sd-vae-ft-mse", "sd-vae-ft-mse", _VAE),
        ),
    ),
    "magic-animate": Release(
        title="MagicAnimate and the parts of Stable Diffusion 1.5 that it needs",
        files=(),
        licence="",
        needs_consent=True,
        folders=(
            ReleasedFolder(
                "zcxu-eric/MagicAnimate",
                "MagicAnimate",
                (
                    "appearance_encoder/*.json",
                    "appearance_encoder/*.safetensors",
                    "densepose_controlnet/*.json",
                    "densepose_controlnet/*.safetensors",
                    "temporal_attention/temporal_attention.ckpt",
                ),
            ),
            ReleasedFolder(
                "stable-diffusion-v1-5/stable-diffusion-v1-5",
                "stable-diffusion-v1-5",
                (
                    "model_index.json",
                    "*/*.json",
                    "*/*.txt",
                    "unet/diffusion_pytorch_model.safetensors",
                    "text_encoder/model.safetensors",
                ),
            ),
            ReleasedFolder("stabilityai/sd-vae-ft-mse", "sd-vae-ft-mse", _VAE),
        ),
    ),
    "dwpose": Release(
        title="DWPose, the whole-body pose estimator that MimicMotion was trained with",
        files=(
            ReleasedFile(
                DWPOSE,
                "yolox_l.onnx",
                216_746_733,
                "7860ae79de6c89a3c1eb72ae9a2756c0ccfbe04b7791bb5880afabd97855a411",
            ),
            ReleasedFile(
                DWPOSE,
                "dw-ll_ucoco_384.onnx",
                134_399_116,
                "724f4ff2439ed61afb86fb8a1951ec39c6220682803b4a8bd4f598cd913b1843",
            ),
        ),
        licence="Apache-2.0",
    ),
    "metrics": Release(
        title="Networks of LPIPS, FID, FVD and FID-VID, for `mimic evaluate` and `mimic compare`",
        files=(
            ReleasedFile(
                "pytorch.org",
                "vgg16-397923af.pth",
                553_433_881,
                "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                "https://download.pytorch.org/models/vgg16-397923af.pth",
            ),
            ReleasedFile(
                "github.com/richzhang/PerceptualSimilarity",
                "vgg.pth",
                7_289,
                "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
                "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/"
                "082bb24f84c091ea94de2867d34c4544f68e0963/lpips/weights/v0.1/vgg.pth",
            ),
            ReleasedFile(
                "github.com/mseitzer/pytorch-fid",
                "pt_inception-2015-12-05-6726825d.pth",
                95_628_359,
                "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
            ),
            ReleasedFile(
                "flateon/FVD-I3D-torchscript",
                "i3d_torchscript.pt",
                51_235_320,
                "bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
            ),
        ),
        licence="VGG-16: BSD-3-Clause; LPIPS: BSD-2-Clause; Inception and I3D: Apache-2.0 (the networks that "
        "they were converted from; the conversion of I3D states none)",
        folders=(ReleasedFolder("Sony/humangif", "humangif", ("eval_fvd/resnet-50-kinetics.pth",)),),
        needs_consent=True,
        folder="models/metrics",
    ),
}


def describe(release: Release, folder: Path) -> str:
    """Describe files, sizes, destinations and licences of a release.

    Raises:
        SourceError: the hub, which knows sizes and licences of `Release.folders`, cannot be reached.
    """
    published = [(part, published_files(part.repository, part.wanted)) for part in release.folders]
    num_bytes = release.num_bytes + sum(
        file.num_bytes for _, found in published for file in found.files.values()
    )
    lines = [f"{release.title}: {size_text(num_bytes)} in all"]
    for part, found in published:
        lines += [
            f"  {name}  {size_text(file.num_bytes)}  from {part.repository} to {folder / part.name}"
            for name, file in found.files.items()
        ]
        lines.append(f"    licence, as the hub states it: {found.licence or 'none is stated'}")
    if not release.files and release.base is None:
        return "\n".join(lines)
    lines += [
        f"  {file.name}  {size_text(file.num_bytes)}  from {file.repository} to {folder}"
        for file in release.files
    ]
    lines.append(f"    licence: {release.licence}")
    if release.base is not None:
        lines.append(f"  {release.base}  {size_text(release.base_bytes)}  to the cache of huggingface_hub")
        lines.append(f"    licence: {release.base_licence}")
    return "\n".join(lines)


def fetch(release: Release, folder: Path, *, say: Callable[[str], None]) -> list[Path]:
    """Download a release: skip files already downloaded, resume partial downloads, check sizes and hashes.

    Args:
        release: the weights.
        folder: folder for the files.
        say: called with a line for each step.

    Returns:
        paths of the files, followed by the folder of the base model in the cache, if there is one.

    Raises:
        SourceError: a file cannot be downloaded, does not fit on the disk, or differs from the published one.
    """
    absent = [file for file in release.files if not _is_whole(folder / file.name, file)]
    _check_space(folder, sum(file.num_bytes for file in absent))
    found: list[Path] = []
    if release.base is not None:  # first, because access to it may be refused
        say(f"{release.base}: configs, VAE and image encoder")
        found.append(snapshot(release.base, wanted=BASE_FILES))
    for number, file in enumerate(release.files):
        path = folder / file.name
        if file in absent:
            say(f"{file.name} ({size_text(file.num_bytes)})")
            path = (
                hub_file(file.repository, file.name, folder=folder)
                if file.url is None
                else _fetch_url(file.url, folder / file.name)
            )
            _check(path, file)
        else:
            say(f"{file.name} is already in {folder}")
        found.insert(number, path)
    for part in release.folders:
        say(f"{part.repository} to {folder / part.name}")
        found.append(_fetch_folder(part, folder / part.name))
    return found


def _fetch_url(url: str, path: Path) -> Path:
    from torch.hub import download_url_to_file

    try:
        with whole_file(path) as beside:
            download_url_to_file(url, str(beside), progress=has_bar())
    except (OSError, HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", error) or type(error).__name__).split())
        raise SourceError(f"{url} could not be downloaded: {reason}. Rerun the command") from error
    return path


def _fetch_folder(part: ReleasedFolder, folder: Path) -> Path:
    published = published_files(part.repository, part.wanted).files
    absent = [
        file
        for name, file in published.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != file.num_bytes
    ]
    _check_space(folder, sum(file.num_bytes for file in absent))
    snapshot(part.repository, wanted=part.wanted, folder=folder)
    for name, file in published.items():
        _check(folder / name, ReleasedFile(part.repository, name, file.num_bytes, file.sha256))
    return folder


def size_text(num_bytes: int) -> str:
    """Format a size, such as 3.05 GB or 195 MB."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{max(1, round(num_bytes / 1e6))} MB"


def _is_whole(path: Path, file: ReleasedFile) -> bool:
    return path.is_file() and path.stat().st_size == file.num_bytes


def _check(path: Path, file: ReleasedFile) -> None:
    if not path.is_file():
        raise SourceError(f"{path} is missing after the download; rerun the command")
    if not _is_whole(path, file):
        raise SourceError(
            f"{path} has {path.stat().st_size} bytes, the published file {file.num_bytes}. "
            "Remove it and rerun the command"
        )
    if file.sha256 is not None and sha256(path) != file.sha256:
        raise SourceError(
            f"{path} is not the published file (its SHA-256 differs). Remove it and rerun the command"
        )


def _check_space(folder: Path, num_bytes: int) -> None:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise SourceError(f"{folder} has {size_text(free)} free, and {size_text(num_bytes)} are needed")
