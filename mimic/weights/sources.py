"""Resolve a user's name of a model (a folder, a hub id, ``bundled:mini``) to local files."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimic.files import ASSETS, bundled_models, local_path
from mimic.weights.errors import OfflineError, SourceError
from mimic.weights.training_folders import check_is_no_training
from pose.text import one_line
from pose.video.source import why_no_file

SVD = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
MIMICMOTION = "tencent/MimicMotion"
DWPOSE = "yzd-v/DWPose"

# Files of Stable Video Diffusion that a MimicMotion checkpoint needs; the checkpoint contains the UNet.
BASE_FILES = ("model_index.json", "*/*.json", "vae/*.fp16.safetensors", "image_encoder/*.fp16.safetensors")
# Files of any model in diffusers' layout other than the weights of its parts.
MODEL_TEXTS = ("*.json", "*/*.json", "*/*.txt")
_DOWNLOADS = {
    SVD: "mimicmotion",
    MIMICMOTION: "mimicmotion",
    DWPOSE: "dwpose",
    "patrolli/AnimateAnyone": "animate-anyone",
    "lambdalabs/sd-image-variations-diffusers": "animate-anyone",
    "zcxu-eric/MagicAnimate": "magic-animate",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "magic-animate",
    "flateon/FVD-I3D-torchscript": "metrics",
    "Sony/humangif": "metrics",
}
_LOCAL_NAMES = {
    "animate-anyone": ("AnimateAnyone", "sd-image-variations-diffusers"),
    "magic-animate": ("MagicAnimate", "stable-diffusion-v1-5", "sd-vae-ft-mse"),
}
"""Folders that `mimic download NAME` makes and shipped YAMLs name."""
SHARED_FILE = "shared.json"
"""Stands in a part's folder of a bundled model for weights that are those of another bundled model."""
_IN_CACHE = re.compile(
    r"(?P<cache>.*)/models--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+)/snapshots/[^/]+/?(?P<part>.*)"
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx", ".yaml")
_NUM_TRIES = 3
_BREAKS = {"ChunkedEncodingError", "ReadError", "RemoteProtocolError"}
"""Errors of requests or httpx, whichever huggingface_hub has, for a connection that ends within a file."""


def resolve(
    model: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    variant: str | None = None,
    wanted: Sequence[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """Return the folder of a model; a hub model that is not in the cache is downloaded.

    Args:
        model: a folder; ``owner/name`` or ``hf:owner/name`` on the Hugging Face hub; or ``bundled:name``.
        checkpoint: if given, the model is only its base: the UNet's weights are not downloaded, and the
            float16 files of the other parts are.
        variant: of a hub model's weight files, for example ``fp16``.
        wanted: patterns of the files of a hub model; by default, the weights of its parts in one precision.
        local_files_only: use only files on disk; never access the hub.

    Raises:
        SourceError: the model is not found or cannot be downloaded (an `OSError`).
    """
    text = os.fspath(model)
    if text.startswith("bundled:"):
        return _bundled(text)
    if not text.startswith("hf:"):
        folder = local_path(text)
        if folder.is_dir():
            check_is_no_training(folder)
            return folder
        if folder.is_file():
            raise SourceError(f"{folder} is a file; a model is a folder in diffusers' layout, or a hub id")
        if not looks_like_hub_id(text):
            raise SourceError(f"there is no model folder {folder}{_remedy(folder) or _nearest_model(text)}")
    repository = text.removeprefix("hf:")
    if not _HUB_ID.fullmatch(repository):
        raise SourceError(f"{text!r} is no model: expected a folder, a hub id (owner/name) or bundled:mini")
    if wanted is not None:
        return snapshot(repository, wanted=wanted, local_files_only=local_files_only)
    unwanted: Sequence[str] = ()
    if checkpoint is not None:
        wanted = BASE_FILES
    elif variant is not None:
        wanted = (*MODEL_TEXTS, f"*/*.{variant}.safetensors")
    else:
        wanted, unwanted = (*MODEL_TEXTS, "*/*.safetensors"), ("*/*.*.safetensors",)
    folder = snapshot(repository, wanted=wanted, unwanted=unwanted, local_files_only=local_files_only)
    # Parts that only exist in another precision or format.
    for other in ("*.fp16.safetensors", "*.safetensors", "*.bin"):
        parts = {path.parent for path in folder.glob("*/config.json")}
        lacking = sorted(part.name for part in parts if not weight_files(part))
        if checkpoint is not None:
            lacking = [name for name in lacking if name in ("vae", "image_encoder")]
        if not lacking:
            break
        missing = [f"{name}/{other}" for name in lacking]
        snapshot(repository, wanted=missing, local_files_only=local_files_only)
    return folder


def resolve_checkpoint(checkpoint: str | os.PathLike[str], *, local_files_only: bool = False) -> Path:
    """Return the file of a checkpoint: a path, or ``hf:owner/repository/file`` on the hub.

    Args:
        checkpoint: the path or hub name.
        local_files_only: use only files on disk; never access the hub.

    Raises:
        SourceError: the checkpoint is not found or cannot be downloaded (an `OSError`).
    """
    text = os.fspath(checkpoint)
    if text.startswith("hf:"):
        owner, _, rest = text.removeprefix("hf:").partition("/")
        name, _, file = rest.partition("/")
        if not (owner and name and file):
            raise SourceError(f"{text!r} is no checkpoint on the hub; expected hf:owner/repository/file")
        return hub_file(f"{owner}/{name}", file, local_files_only=local_files_only)
    path = local_path(text)
    if path.is_file():
        return path
    if path.is_dir():
        raise SourceError(f"{path} is a folder; a checkpoint is one file (.pth or .safetensors)")
    if path.exists():
        raise SourceError(f"{path} is {why_no_file(path) or 'no file'}; expected a .pth or .safetensors file")
    also = f", or use hf:{MIMICMOTION}/{path.name} instead" if path.name.startswith("MimicMotion") else ""
    raise SourceError(f"there is no checkpoint {path}{_remedy(path)}{also}")


def snapshot(
    repository: str,
    *,
    wanted: Sequence[str],
    unwanted: Sequence[str] = (),
    folder: Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download the files of a hub repository that match ``wanted`` and not ``unwanted``.

    Files go to the cache, or to ``folder`` if given. Skip files already downloaded; resume partial downloads,
    also where a connection breaks off, which huggingface_hub does of some breaks only.

    Returns:
        the folder with the files.

    Raises:
        SourceError: as in `resolve`.
    """
    import huggingface_hub

    with explained(repository):
        for num_left in reversed(range(_NUM_TRIES)):
            try:
                found = huggingface_hub.snapshot_download(
                    repository,
                    allow_patterns=list(wanted),
                    ignore_patterns=list(unwanted) or None,
                    local_dir=folder,
                    local_files_only=local_files_only,
                )
                break
            except Exception as error:
                if num_left == 0 or not _BREAKS.intersection(kind.__name__ for kind in type(error).__mro__):
                    raise
    return Path(str(found))


@dataclass(frozen=True)
class PublishedFile:
    """Size and hash of a file as the hub states them."""

    num_bytes: int
    sha256: str | None
    """None for small files, of which the hub states none."""


@dataclass(frozen=True)
class Published:
    """What the hub states about files of a repository."""

    files: dict[str, PublishedFile]
    licence: str | None


def published_files(repository: str, wanted: Sequence[str]) -> Published:
    """Ask the hub for sizes, hashes and licence of the files that match `wanted`.

    Raises:
        SourceError: the hub cannot be reached, or the repository has no such file.
    """
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    with explained(repository):
        info = huggingface_hub.HfApi().model_info(repository, files_metadata=True)
    known = {entry.rfilename: entry for entry in info.siblings or ()}
    files = {
        name: PublishedFile(known[name].size or 0, large.sha256 if (large := known[name].lfs) else None)
        for name in filter_repo_objects(known, allow_patterns=list(wanted))
    }
    if not files:
        raise SourceError(f"{repository} has none of the files {', '.join(wanted)} on the hub")
    stated = (tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:"))
    return Published(files, next(stated, None))


def hub_file(
    repository: str, name: str, *, folder: Path | None = None, local_files_only: bool = False
) -> Path:
    """Download one file of a hub repository to the cache, or to ``folder``; resume partial downloads.

    Returns:
        path of the file.

    Raises:
        SourceError: as in `resolve`.
    """
    # Not hf_hub_download, which waits half a minute before it fails without a network.
    path = snapshot(repository, wanted=[name], folder=folder, local_files_only=local_files_only) / name
    if not path.is_file():
        if local_files_only:
            raise OfflineError(_not_here(f"{name} of {repository}", repository))
        raise SourceError(f"there is no file {name} in {repository} on the hub, and none in the cache")
    return path


@contextlib.contextmanager
def explained(repository: str) -> Iterator[None]:
    """Convert errors of the hub into a `SourceError` with one sentence that says what to do."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{repository}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{repository} requires you to accept its licence: sign in, open {page}, click "
            f"'Agree and access repository', make a token at {constants.ENDPOINT}/settings/tokens, then run "
            "`hf auth login` (or set HF_TOKEN) and rerun the command"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"there is neither a folder {repository} here nor a model of that name on the hub ({page}); a "
            "private one needs `hf auth login` or HF_TOKEN"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise OfflineError(_not_here(repository, repository)) from error
    except errors.HFValidationError as error:
        raise SourceError(f"{repository!r} is no hub id: expected owner/name") from error
    except Exception as error:
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):  # no connection was made
            raise OfflineError(_not_here(repository, repository)) from error
        # The errors of httpx, which huggingface_hub has from 1.0 on, are kin of no builtin.
        if not (isinstance(error, OSError) or type(error).__module__.startswith("httpx")):
            raise
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        reason = str(reason).rstrip(".")
        raise SourceError(
            f"{repository} could not be downloaded: {reason}. Rerun the command to resume the download"
        ) from error


def weight_files(folder: Path) -> dict[str, Path]:
    """Return the files of a model folder that hold weights, by their name in it. For a part without weights
    in its folder, these are the shared ones."""
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".safetensors", ".bin", ".pth", ".ckpt") and path.is_file()
    }
    own = {name.rpartition("/")[0] for name in found}
    for note in sorted(folder.rglob(SHARED_FILE)):
        if note.parent.relative_to(folder).as_posix() in own:
            continue
        path = shared_weights(note.parent)
        if path is not None:
            found[(note.parent / path.name).relative_to(folder).as_posix()] = path
    return found


def shared_weights(part: Path) -> Path | None:
    """Return the file of weights that a part of a bundled model shares with another; None for other parts.

    Args:
        part: folder of the part.

    Raises:
        SourceError: the other model does not have the file, or its content has changed.
    """
    note = part / SHARED_FILE
    if not note.is_file():
        return None
    try:
        stated = json.loads(note.read_text(encoding="utf-8"))
        name, expected = str(stated["weights"]), str(stated["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SourceError(f"{note} does not name shared weights. Install mimic-motion again.") from error
    path = (ASSETS / name).resolve()
    if not path.is_relative_to(ASSETS.resolve()):
        raise SourceError(f"{note} names {one_line(name)}, which is not in this package; it is refused.")
    if not path.is_file() or sha256(path) != expected:
        raise SourceError(
            f"the weights of {part} are those of bundled:{Path(name).parent.as_posix()}, whose file "
            f"{'has changed' if path.is_file() else 'is missing'}. Install mimic-motion again."
        )
    return path


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file; for a large file in the hub's cache it is the blob's name."""
    blob = path.resolve().name
    if path.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", blob):
        return blob
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()


def hub_id_of(folder: Path) -> str | None:
    """Return the hub id of a folder in the hub's cache; None elsewhere."""
    found = _IN_CACHE.fullmatch(folder.absolute().as_posix())
    return None if found is None else f"{found['owner']}/{found['name']}"


def fetch_hint(folder: Path, names: Sequence[str], *, is_damaged: bool = False) -> str | None:
    """Return a sentence with the command that downloads files of a folder in the hub's cache; None elsewhere.

    Args:
        folder: the folder.
        names: names of the files.
        is_damaged: the files exist and have to be replaced.
    """
    from huggingface_hub import constants

    found, repository = _IN_CACHE.fullmatch(folder.absolute().as_posix()), hub_id_of(folder)
    if found is None or repository is None:
        return None
    if repository in _DOWNLOADS and not is_damaged:
        return f"Run `mimic download {_DOWNLOADS[repository]}` once while online."
    files = " ".join(f"{found['part']}/{name}".lstrip("/") for name in names)
    own_cache = Path(found["cache"]) == Path(constants.HF_HUB_CACHE).absolute()
    options = "" if own_cache else f" --cache-dir {found['cache']}"
    options += " --force-download" if is_damaged else ""
    return f"Run `hf download {repository} {files}{options}` once while online."


def _bundled(text: str) -> Path:
    folder = local_path(text)
    if not folder.is_dir() or not (folder / "model_index.json").is_file():
        there = ", ".join(bundled_models()) or "none"
        raise SourceError(f"no model {text} comes with this package; there is: {there}")
    return folder


def _remedy(path: Path) -> str:
    """Name the command that downloads a model whose folder or file is missing; empty for others."""
    named = (name for name, names in _LOCAL_NAMES.items() if path.name in names)
    release = "metrics" if path.parent.name == "metrics" else next(named, None)
    if release is None and path.name.startswith("MimicMotion"):
        release = "mimicmotion"
    return f". Get it with `mimic download {release}`" if release is not None else ""


def _nearest_model(text: str) -> str:
    """Name the model that a word may mean; empty for others."""
    names = {name.replace("_", "-"): f"bundled:{name}" for name in bundled_models()}
    names |= {name: name for name in ("mimicmotion", *_LOCAL_NAMES)}
    near = difflib.get_close_matches(text.lower().replace("_", "-"), names, n=1, cutoff=0.7)
    return f"; did you mean {names[near[0]]}?" if near else ""


def looks_like_hub_id(text: str) -> bool:
    """Whether a name can be one on the Hugging Face hub, and is not written like a path."""
    is_path = text.startswith((".", "/", "~")) or "\\" in text or text.endswith(_FILE_SUFFIXES)
    return bool(_HUB_ID.fullmatch(text)) and not is_path


def _not_here(what: str, repository: str) -> str:
    known = _DOWNLOADS.get(repository)
    remedy = f"mimic download {known}" if known is not None else f"hf download {repository}"
    return (
        f"{what} is not on this machine and the Hugging Face hub cannot be reached. Run `{remedy}` "
        "once while online, or give the path of a local copy"
    )
