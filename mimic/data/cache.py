"""Cache of latents and image embeddings on disk, so that frozen networks run only once for each frame.

A file holds all frames of one clip with one geometry. Its name is the hash of everything that its content
depends on (weights of the networks, source file, frames, crop box, mirroring, size). Stale files are
therefore never read.

Legend: F frames, C latent channels, h x w latents, D width of image embeddings, k frames encoded together.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mimic.data.clips import ClipSource
from mimic.data.crops import Geometry
from mimic.data.transforms import pose_maps_to_tensor
from mimic.files import whole_file
from mimic.weights.strict import DAMAGED_SAFETENSORS, is_finite
from pose.text import one_line

_LATENTS, _EMBEDDINGS = "latents", "image_embeddings"  # names of tensors in a file
_SUMS = "sums"
"""Key of a file's header: JSON with the CRC-32 of each frame of each tensor."""
_VERSION = 1
"""Version of the files' content and of the cropping of frames; after a change, everything is encoded
again."""

Encode = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Encodes pictures ``k x 3 x H x W`` in [-1, 1] to latents ``k x C x h x w`` and, if the family has one,
image embeddings ``k x D``; usually `TrainingTask.encode_pictures`."""


class CutClips(Protocol):
    """Clips with the geometries by which they are cut, such as `ClipDataset`."""

    @property
    def source(self) -> ClipSource: ...

    def cuts(self) -> list[tuple[int, Geometry]]:
        """Return the index of a clip and its geometry, for all that samples may need."""


class CacheError(OSError):
    """A cache whose content is missing, or cannot be read or written."""


def weights_digest(modules: Mapping[str, nn.Module]) -> str:
    """Hash names, dtypes and weights of networks, for use with `EncodingCache`."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        for key, value in sorted(modules[name].state_dict().items()):
            digest.update(f"{name} {key} {value.dtype} {tuple(value.shape)};".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class EncodingCache:
    """Reads and writes a folder of encoded clips.

    Args:
        folder: path of the folder, created on the first write.
        weights: `weights_digest` of the encoding networks, plus anything else their output depends on.

    Example::

        cache = EncodingCache(folder, weights=weights_digest(task.frozen))
        cache.fill(dataset, task.encode_pictures, rank=rank, num_ranks=num_ranks)
        dataset = dataset.with_cache(cache)
    """

    def __init__(self, folder: str | os.PathLike[str], *, weights: str) -> None:
        self.folder = Path(folder)
        self.weights = weights

    def fill(
        self,
        dataset: CutClips,
        encode: Encode,
        *,
        device: torch.device | str = "cpu",
        frames_at_once: int = 8,
        rank: int = 0,
        num_ranks: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Encode everything that a dataset may need and that is not cached yet.

        Args:
            dataset: the clips.
            encode: encodes pictures.
            device: device of the pictures that are encoded.
            frames_at_once: number of pictures passed to it.
            rank, num_ranks: of the processes that share the work; each encodes a part of the clips.
            progress: called with the numbers of finished clips and of all clips.

        Returns:
            number of written files.

        Raises:
            ConfigError: the dataset crops at random, so that latents cannot be reused (a `ValueError`).
            OSError: a clip cannot be read.
            CacheError: a file cannot be written.
        """
        wanted = dataset.cuts()[rank::num_ranks]
        num_written = 0
        for number, (clip, geometry) in enumerate(wanted):
            path, key = self._place(dataset, clip, geometry)
            if not path.is_file():
                self._write(path, key, _encode_clip(dataset, clip, geometry, encode, device, frames_at_once))
                num_written += 1
            if progress is not None:
                progress(number + 1, len(wanted))
        return num_written

    def read(
        self, dataset: CutClips, clip: int, geometry: Geometry, frames: list[int]
    ) -> tuple[Tensor, Tensor | None]:
        """Read latents and image embeddings of frames of a clip.

        Args:
            dataset: the clips.
            clip: index of the clip.
            geometry: how it is cut.
            frames: indices of frames in the clip.

        Returns:
            latents ``F x C x h x w``, and image embeddings ``F x D`` or None if the family has none.

        Raises:
            CacheError: they are not in the cache, or the file is damaged.
        """
        path, key = self._place(dataset, clip, geometry)
        try:
            with safe_open(str(path), framework="pt") as file:
                about = file.metadata() or {}
                if about.get("key") != key:
                    raise CacheError(f"{path} holds another clip than its name says; remove it")
                rows = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                found = {name: torch.cat([row[at : at + 1] for at in frames]) for name, row in rows.items()}
                latents, embeddings = found[_LATENTS], found.get(_EMBEDDINGS)
                sums = json.loads(about.get(_SUMS, "{}"))  # files of earlier versions have none
                is_whole = all(
                    len(own) == len(frames)
                    and is_finite(own)
                    and (not sums or _sums(own) == [sums[name][at] for at in frames])
                    for name, own in found.items()
                )
        except CacheError:
            raise
        except FileNotFoundError:
            raise CacheError(
                f"the cache {self.folder} lacks {dataset.source.infos[clip].name} with the current crop and "
                "weights: the video, the crop or the weights have changed since it was filled. Fill it again"
            ) from None
        except (OSError, *DAMAGED_SAFETENSORS) as error:
            raise CacheError(
                f"{path} is damaged ({one_line(error)}); remove it and fill the cache again"
            ) from error
        if not is_whole:
            raise CacheError(f"{path} is damaged; remove it and fill the cache again")
        return latents, embeddings

    def _place(self, dataset: CutClips, clip: int, geometry: Geometry) -> tuple[Path, str]:
        info = dataset.source.infos[clip]
        key = json.dumps(
            {
                "version": _VERSION,
                "weights": self.weights,
                "source": dataset.source.identity(clip),
                "first_frame": info.first_frame,
                "num_frames": info.num_frames,
                "geometry": asdict(geometry),
            }
        )
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors", key

    def _write(self, path: Path, key: str, content: dict[str, Tensor]) -> None:
        try:
            with whole_file(path) as beside:
                sums = json.dumps({name: _sums(tensor) for name, tensor in content.items()})
                save_file(content, beside, metadata={"key": key, _SUMS: sums})
        except (OSError, SafetensorError) as error:
            raise CacheError(
                f"the cache {self.folder} cannot be written: {' '.join(str(error).split())}. What is in it "
                "stays; make room, or set memory.cache to another folder, then rerun the command"
            ) from error


def _sums(tensor: Tensor) -> list[int]:
    """CRC-32 of each frame of latents or embeddings."""
    return [zlib.crc32(row.contiguous().reshape(-1).view(torch.uint8).numpy()) for row in tensor]


def _encode_clip(
    dataset: CutClips,
    clip: int,
    geometry: Geometry,
    encode: Encode,
    device: torch.device | str,
    frames_at_once: int,
) -> dict[str, Tensor]:
    num_frames = dataset.source.infos[clip].num_frames
    latents, embeddings = [], []
    for start in range(0, num_frames, frames_at_once):
        frames = list(range(start, min(start + frames_at_once, num_frames)))
        pictures, _ = dataset.source.load(clip, frames, np.random.default_rng(0))
        pixels = pose_maps_to_tensor(geometry.pictures(pictures)).to(device)  # k x 3 x H x W
        with torch.no_grad():
            own_latents, own_embeddings = encode(pixels)
        latents.append(own_latents.cpu())
        if own_embeddings is not None:
            embeddings.append(own_embeddings.cpu())
    content = {_LATENTS: torch.cat(latents).contiguous()}
    if embeddings:
        content[_EMBEDDINGS] = torch.cat(embeddings).contiguous()
    return content
