"""A VAE in small portions: pictures in one by one, frames out chunk by chunk.

Legend: B batch, F frames, C latent channels, H height, W width; h, w of latents.

The temporal decoder looks along time (its convolutions and its group norms span the frames of one call), so
the number of frames decoded together is part of the result, not only of the memory needed: the released code
decodes 8 at a time. The same `chunk` gives the same bytes, whatever the streaming, batching and length of the
clip. The picture VAE of Stable Diffusion has no temporal layers: it decodes frames one at a time, and
chunks change nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, AutoencoderTiny
from torch import Tensor

from mimic.models.temporal_convolution import fast_temporal_convolutions
from mimic.models.vae_tiles import MIN_TILE, decode_in_tiles

VAE: TypeAlias = AutoencoderKL | AutoencoderKLTemporalDecoder | AutoencoderTiny


def vae_downscale(vae: VAE) -> int:
    """How many times smaller latents are than pixels, from the VAE's config."""
    blocks = vae.config.get("block_out_channels") or vae.config["encoder_block_out_channels"]
    return 2 ** (len(blocks) - 1)


def encode_images(vae: VAE, images_B3HW: Tensor, *, batch: int = 1, upcast: bool = True) -> Tensor:
    """The mode of the posterior of each image, ``B x C x h x w``, not multiplied by the scaling factor.

    Args:
        images_B3HW: in [-1, 1].
        batch: images encoded together; with 1, a batch gives the same bits as single calls.
        upcast: encode in float32 where a float16 VAE's config has `force_upcast`, as diffusers and the
            released MimicMotion do. Decoders of videos ignore the flag there, and here.
    """
    with _upcast(vae) if upcast else nullcontext():
        images = images_B3HW.to(vae.dtype).split(batch)
        return torch.cat([_latents_of(vae.encode(image)) for image in images])


@contextmanager
def _upcast(vae: VAE) -> Iterator[None]:
    """Keep a VAE in float32 if it overflows in float16; its float16 weights come back unchanged."""
    is_overflowing = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if is_overflowing:
        vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        if is_overflowing:
            vae.to(dtype=torch.float16)


def _latents_of(encoded: Any) -> Tensor:
    """The mode of a posterior; AutoencoderTiny has latents without one."""
    return encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents


def decode_frames(
    vae: VAE,
    latents_FChw: Tensor,
    chunk: int,
    *,
    overlap: int = 0,
    first_chunk: int = 0,
    tile: int | None = None,
    optimize: bool = True,
) -> Iterator[Tensor]:
    """Frames of one clip, at most `chunk` at a time: float32 ``f x 3 x H x W``, about [-1, 1], where the VAE
    computes.

    Args:
        latents_FChw: as the sampler leaves them, that is, times the scaling factor.
        chunk: frames decoded together (see above); without `overlap` the last chunk may be shorter.
        overlap: frames at both ends of a chunk, except at the ends of the clip, that are context for the
            others and are thrown away, less than half of `chunk`. Each frame then comes from the middle of a
            chunk, and all chunks are full. VAEs without temporal layers ignore it.
        first_chunk: number of the chunk to begin with.
        tile: side in pixels of the overlapping tiles in which larger frames are decoded; None decodes whole
            frames (see `mimic.models.vae_tiles`).
        optimize: compute convolutions along time as two-dimensional ones, the same up to the order of sums.
    """
    is_temporal = _is_temporal(vae)

    def decode(latents: Tensor) -> Tensor:
        if is_temporal:
            with fast_temporal_convolutions(vae) if optimize else nullcontext():
                return vae.decode(latents, num_frames=len(latents)).sample.float()
        return torch.cat([vae.decode(latent).sample.float() for latent in latents.split(1)])

    side = None if tile is None else max(MIN_TILE, tile // vae_downscale(vae))
    for decoded, kept in chunk_spans(vae, len(latents_FChw), chunk, overlap)[first_chunk:]:
        unscaled = (latents_FChw[decoded] / vae.config.scaling_factor).to(vae.dtype)
        frames = decode(unscaled) if side is None else decode_in_tiles(decode, unscaled, side)
        yield frames[kept]


def decode_pictures(vae: VAE, latents_NChw: Tensor) -> Tensor:
    """Single pictures, ``N x 3 x H x W``, about [-1, 1], with their gradient; each is a clip of one frame.

    Args:
        latents_NChw: as the VAE leaves them, not scaled.
    """
    latents = latents_NChw.to(vae.dtype)
    if not _is_temporal(vae):
        return vae.decode(latents).sample
    with fast_temporal_convolutions(vae):
        return vae.decode(latents, num_frames=1).sample


def chunk_spans(vae: VAE, num_frames: int, chunk: int, overlap: int) -> list[tuple[slice, slice]]:
    """The chunks of `decode_frames`: frames to decode together, and which of the decoded ones are kept."""
    return list(_spans(num_frames, chunk, overlap if _is_temporal(vae) else 0))


def _is_temporal(vae: VAE) -> bool:
    network: Any = getattr(vae, "_orig_mod", vae)  # of torch.compile
    # Older versions of diffusers wrap `decode` without its signature.
    is_known = isinstance(network, AutoencoderKLTemporalDecoder)
    return is_known or "num_frames" in inspect.signature(network.decode).parameters


def _spans(num_frames: int, chunk: int, overlap: int) -> Iterator[tuple[slice, slice]]:
    """Lay chunks over a clip: the frames to decode together, and which of them are kept, in order."""
    start = 0
    while start < num_frames:
        first = max(0, start - overlap)
        if overlap:
            first = max(0, min(first, num_frames - chunk))
        end = min(num_frames, first + chunk)
        stop = end if end == num_frames else end - overlap
        yield slice(first, end), slice(start - first, stop - first)
        start = stop
