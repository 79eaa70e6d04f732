"""Frames decoded in tiles are those decoded whole, up to what a decoder sees of its surroundings."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mimic import load_pipeline
from mimic.models.vae import decode_frames, encode_images
from mimic.models.vae_tiles import decode_in_tiles
from tests.tiny import random_image, random_poses


def local(latents: torch.Tensor) -> torch.Tensor:
    """A decoder that sees one latent pixel at a time."""
    return functional.interpolate(latents[:, :3], scale_factor=4, mode="nearest")


@pytest.mark.parametrize("size", [(8, 8), (9, 30), (31, 8), (40, 23)])
def test_a_decoder_without_surroundings_gives_the_same_frames_whatever_the_tiles(size: tuple[int, int]):
    latents = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(decode_in_tiles(local, latents, 8), local(latents), atol=1e-5, rtol=1e-5)


def test_no_tile_is_larger_than_asked():
    seen: list[tuple[int, ...]] = []

    def watched(latents: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(latents.shape[-2:]))
        return local(latents)

    decode_in_tiles(watched, torch.zeros(1, 4, 33, 50), 16)
    assert set(seen) == {(16, 16)}
    assert len(seen) == 3 * 4


def test_tiles_of_the_temporal_decoder_leave_no_border():
    pipe = load_pipeline("bundled:mini", device="cpu", dtype="fp32")
    side = 4 * pipe.generation_defaults["height"]
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    picture = torch.stack([0.5 * torch.sin(5 * x), 0.6 * y, 0.4 * torch.cos(4 * x * y)])[None]
    with torch.no_grad():
        latents = encode_images(pipe.vae, picture) * pipe.vae.config.scaling_factor
        (whole,) = decode_frames(pipe.vae, latents, 1)
        (tiled,) = decode_frames(pipe.vae, latents, 1, tile=side // 2)
    assert tiled.shape == whole.shape
    error = (tiled - whole).abs()
    assert 0 < error.mean() < 0.02
    # At the borders of tiles, frames change from pixel to pixel no more than elsewhere.
    steps = [made.diff(dim=-1).abs().mean(dim=(0, 1, 2)) for made in (whole, tiled)]
    borders = [border for border in range(side // 4, side, side // 4)]
    assert (steps[1] - steps[0])[[border - 1 for border in borders]].max() < 0.005


def test_a_run_decodes_in_tiles_where_it_is_asked_to():
    pipe = load_pipeline("bundled:mini", device="cpu", dtype="fp32")
    pipe.set_progress_bar_config(disable=True)
    pixels = pipe.generation_defaults["height"]

    def run(**settings):
        return pipe(
            random_image(pixels, pixels), random_poses(2, pixels, pixels), num_inference_steps=1,
            generator=torch.Generator().manual_seed(0), output_type="pt", **settings,
        ).frames  # fmt: skip

    whole, one_tile, tiled = run(), run(decode_tile_size=4 * pixels), run(decode_tile_size=64)
    assert torch.equal(whole, one_tile)
    assert not torch.equal(whole, tiled)
    assert (whole - tiled).abs().mean() < 0.1
    with pytest.raises(ValueError, match="decode_tile_size"):
        run(decode_tile_size=8)
