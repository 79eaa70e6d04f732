"""Decode latents to frames, all at once or as a stream.

Legend: B videos, F frames, f frames of a chunk, C latent channels, H height, W width; h, w of latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from mimic.data.transforms import frames_to_uint8
from mimic.families.checks import check_decoding
from mimic.families.stored import StoredPipeline
from mimic.models.vae import decode_frames, vae_downscale
from mimic.sampling.denoise import check_finite

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

Frames = list[list[Image.Image]] | np.ndarray | Tensor


class FramePipeline(StoredPipeline):
    """A pipeline that decodes its latents to frames with a VAE."""

    vae: Any
    released: ClassVar[Mapping[str, Any]]
    """Settings of the published code, used where neither the call nor the stored defaults give a value."""

    @property
    def pixels_per_latent(self) -> int:
        """Factor by which the VAE downsamples height and width."""
        return vae_downscale(self.vae)

    def enable_vae_slicing(self) -> None:
        """Decode one frame of a chunk at a time, if the VAE can; `decode_chunk_size` does it for all.

        Raises:
            NotImplementedError: the VAE cannot.
        """
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Undo `enable_vae_slicing`."""
        if getattr(self.vae, "use_slicing", False):
            self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Decode large frames in tiles, if the VAE can; the setting `decode_tile_size` does it for all.

        Raises:
            NotImplementedError: the VAE cannot.
        """
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Undo `enable_vae_tiling`."""
        if getattr(self.vae, "use_tiling", False):
            self.vae.disable_tiling()

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return (channels, height, width) of the latents for a video's height and width in pixels."""
        side = self.pixels_per_latent
        return self.vae.config.latent_channels, height // side, width // side

    def decode(
        self,
        latents_BFChw: Tensor,
        chunk: int,
        output_type: str,
        *,
        overlap: int = 0,
        tile: int | None = None,
        optimize: bool = True,
    ) -> Frames:
        """Decode latents to frames of `output_type`, all at once (`decode_stream` yields them in chunks)."""
        if output_type == "latent":
            return latents_BFChw
        videos = [
            torch.cat(list(self._stream(latents, chunk, overlap, tile=tile, optimize=optimize)))
            for latents in latents_BFChw
        ]
        if output_type == "pt":
            return torch.stack(videos)
        if output_type == "np":
            return rearrange(torch.stack(videos), "b f c h w -> b f h w c").numpy()
        return [[Image.fromarray(frame) for frame in frames_to_uint8(video)] for video in videos]

    @torch.no_grad()
    def decode_stream(
        self,
        latents: Tensor,
        chunk: int | None = None,
        *,
        overlap: int | None = None,
        first_chunk: int = 0,
        tile: int | None = None,
        optimize: bool = True,
    ) -> Iterator[Tensor]:
        """Decode one video chunk by chunk, so that not all frames are in memory at once.

        Args:
            latents: ``F x C x h x w`` or ``1 x F x C x h x w``, as returned with `output_type` ``latent``, or
                any range of their frames (for example without frame 0).
            chunk: frames decoded together. Temporal decoders mix the frames of a chunk, so the result depends
                on it. None takes the value stored with the weights, else the released one.
            overlap: frames at both ends of each chunk that are only context; see `decode_frames`. None takes
                the value stored with the weights, else 0, at most what `chunk` allows.
            first_chunk: number of the chunk to begin with, to go on where an earlier call ended.
            tile: side in pixels of the tiles in which larger frames are decoded; None decodes whole frames.
            optimize: use the faster implementation where the results differ only by rounding.

        Yields:
            float32 ``f x 3 x H x W`` in [0, 1] on the CPU, f at most `chunk`.

        Raises:
            ValueError: latents hold several videos, `chunk` is below 1, or `overlap` is too large for it.
        """
        if latents.ndim == 5:
            if len(latents) != 1:
                raise ValueError(
                    f"latents hold {len(latents)} videos; stream them one at a time: latents[i]."
                )
            latents = latents[0]
        if chunk is None:
            chunk = int(self.default("decode_chunk_size"))
        if overlap is None:
            overlap = min(self.default("decode_overlap") or 0, max(chunk - 1, 0) // 2)
        self._align_weights()
        try:
            yield from self._stream(latents, chunk, overlap, first_chunk, tile, optimize)
        finally:
            self.maybe_free_model_hooks()

    def _stream(
        self,
        latents_FChw: Tensor,
        chunk: int,
        overlap: int,
        first_chunk: int = 0,
        tile: int | None = None,
        optimize: bool = True,
    ) -> Iterator[Tensor]:
        check_decoding(chunk, overlap)
        latents = latents_FChw.to(self.execution_device)
        for frames in decode_frames(
            self.vae, latents, chunk, overlap=overlap, first_chunk=first_chunk, tile=tile, optimize=optimize
        ):
            check_finite(frames, "the decoded frames")
            yield (frames / 2 + 0.5).clamp(0, 1).cpu()

    def default(self, name: str) -> Any:
        """The value of a setting that a call leaves out: the weights' own, else the released one."""
        return self.generation_defaults.get(name, self.released.get(name))
