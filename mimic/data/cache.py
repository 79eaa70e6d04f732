"""Latents and image embeddings of clips on disk, so that frozen networks run once for each frame.

A file holds all frames of one clip, cut in one way. Its name is the hash of everything that its content
depends on (the networks' weights, the source file, which frames, the box, mirrored or not, the size), so that
a changed one is simply not found: what is stale cannot be taken for fresh.

Legend: F frames, C latent channels, h x w latents, D width of image embeddings, k frames encoded together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mimic.data.batch import Batch
from mimic.data.clips import ClipSource
from mimic.data.crops import Geometry
from mimic.data.transforms import pose_maps_to_tensor
from mimic.files import whole_file

_LATENTS, _EMBEDDINGS = "latents", "image_embeddings"  # names in a file
_VERSION = 1
"""Of what a file holds and of how frames are cut; a change of either makes all anew."""

Encode = Callable[[Batch], Batch]


class CutClips(Protocol):
    """Clips and how each is cut; `ClipDataset` is one."""

    @property
    def source(self) -> ClipSource: ...

    def cuts(self) -> list[tuple[int, Geometry]]:
        """Number of a clip and its cut, for all that a sample may ask for."""


class CacheError(OSError):
    """A cache that lacks what it should hold, or cannot be read."""


def weights_digest(modules: Mapping[str, nn.Module]) -> str:
    """A hash of networks' names, dtypes and weights: for `EncodingCache`, of those that encode."""
    digest = hashlib.sha256()
    for name in sorted(modules):
        for key, value in sorted(modules[name].state_dict().items()):
            digest.update(f"{name} {key} {value.dtype} {tuple(value.shape)};".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class EncodingCache:
    """A folder of encoded clips.

    Args:
        folder: where; made when something is written.
        weights: `weights_digest` of the encoding networks, and whatever else their output depends on.

    Example::

        cache = EncodingCache(folder, weights=weights_digest(task.frozen))
        cache.fill(dataset, task.encode, rank=rank, num_ranks=num_ranks)
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
        """Encode what a dataset may ask for and is not there yet.

        Args:
            encode: fills in `latents`, and `image_embedding` where the family has one, of a batch where
                they are None; a task's.
            device: where batches are put before they are encoded.
            frames_at_once: frames in such a batch.
            rank, num_ranks: of the processes that share the work; each does its part.
            progress: called with clips done and to do.

        Returns:
            how many files were written.

        Raises:
            ConfigError: the dataset cuts at random, so that no two samples have latents in common.
            OSError: a clip cannot be read, or a file cannot be written.
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
        """Latents ``F x C x h x w`` and image embeddings ``F x D`` of frames of a clip; no embeddings if the
        networks that filled it make none.

        Raises:
            CacheError: they are not there, or the file is damaged.
        """
        path, key = self._place(dataset, clip, geometry)
        try:
            with safe_open(str(path), framework="pt") as file:
                if (file.metadata() or {}).get("key") != key:
                    raise CacheError(f"{path} is of another clip than its name says; remove it")
                rows = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                found = {name: torch.cat([row[at : at + 1] for at in frames]) for name, row in rows.items()}
                return found[_LATENTS], found.get(_EMBEDDINGS)
        except FileNotFoundError:
            raise CacheError(
                f"the cache {self.folder} lacks {dataset.source.infos[clip].name} as it is cut and encoded "
                "now: the video, the crop or the weights have changed since it was filled. Fill it again"
            ) from None
        except SafetensorError as error:
            raise CacheError(f"{path} is damaged ({error}); remove it and fill the cache again") from error

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
        with whole_file(path) as beside:
            save_file(content, beside, metadata={"key": key})


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
        batch = Batch(
            frames=pixels[:, None],
            reference=pixels,
            pose_maps=pixels.new_zeros(len(frames), 0, *pixels.shape[1:]),
            masks={},
            keys=tuple(f"{dataset.source.infos[clip].name} frame {frame}" for frame in frames),
            # The reference's latents are those of the frame itself; given, they are not made twice.
            reference_latents=pixels.new_zeros(len(frames)),
        )
        with torch.no_grad():
            encoded = encode(batch)
        assert encoded.latents is not None
        latents.append(encoded.latents[:, 0].cpu())
        if encoded.image_embedding is not None:
            embeddings.append(encoded.image_embedding.cpu())
    content = {_LATENTS: torch.cat(latents).contiguous()}
    if embeddings:
        content[_EMBEDDINGS] = torch.cat(embeddings).contiguous()
    return content
