"""From latents to frames, whole or as they are decoded.

Legend: B videos, F frames, f frames of a chunk, C latent channels, H height, W width; h, w of latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mimic.data.transforms import frames_to_uint8
from mimic.families.stored import StoredPipeline
from mimic.models.vae import decode_frames, vae_downscale

OUTPUT_TYPES = ("pil", "np", "pt", "latent")

Frames = list[list[Image.Image]] | np.ndarray | Tensor


class FramePipeline(StoredPipeline):
    """A pipeline with a VAE whose latents become frames."""

    vae: Any
    released: ClassVar[Mapping[str, Any]]
    """Settings of the published code: used where neither a call nor the weights have one."""

    @property
    def pixels_per_latent(self) -> int:
        """Side of the square of pixels that one latent stands for."""
        return vae_downscale(self.vae)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, height and width of the latents of a video of so many pixels."""
        side = self.pixels_per_latent
        return self.vae.config.latent_channels, height // side, width // side

    def decode(self, latents_BFChw: Tensor, chunk: int, output_type: str) -> Frames:
        """Latents as frames of `output_type`, whole (`decode_stream` gives them bit by bit)."""
        if output_type == "latent":
            return latents_BFChw
        videos = [torch.cat(list(self._stream(latents, chunk))) for latents in latents_BFChw]
        if output_type == "pt":
            return torch.stack(videos)
        if output_type == "np":
            return torch.stack(videos).permute(0, 1, 3, 4, 2).numpy()
        return [[Image.fromarray(frame) for frame in frames_to_uint8(video)] for video in videos]

    @torch.no_grad()
    def decode_stream(self, latents: Tensor, chunk: int | None = None) -> Iterator[Tensor]:
        """Frames of one video as they are decoded, so that nobody has to hold them all.

        Args:
            latents: ``F x C x h x w`` or ``1 x F x C x h x w``, as `output_type` ``latent`` gives them; a
                part of them (without frame 0, for instance) is as good.
            chunk: frames decoded together. The decoder looks along time within a chunk, so this is part of
                the result; None takes the value stored with the weights, then the released one.

        Yields:
            float32 ``f x 3 x H x W`` in [0, 1] on the CPU, f at most `chunk`.
        """
        if latents.ndim == 5:
            if len(latents) != 1:
                raise ValueError(
                    f"latents hold {len(latents)} videos; stream them one at a time: latents[i]."
                )
            latents = latents[0]
        self._align_weights()
        try:
            yield from self._stream(latents, self.default("decode_chunk_size") if chunk is None else chunk)
        finally:
            self.maybe_free_model_hooks()

    def _stream(self, latents_FChw: Tensor, chunk: int) -> Iterator[Tensor]:
        if chunk < 1:
            raise ValueError(f"decode_chunk_size is {chunk}; at least one frame is decoded at a time.")
        for frames in decode_frames(self.vae, latents_FChw.to(self.execution_device), chunk):
            yield (frames / 2 + 0.5).clamp(0, 1).cpu()

    def default(self, name: str) -> Any:
        """The value of a setting that a call leaves out: the weights' own, else the released one."""
        return self.generation_defaults.get(name, self.released.get(name))
