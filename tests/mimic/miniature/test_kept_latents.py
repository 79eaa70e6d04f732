"""Miniatures put on a VAE for larger pictures begin with what the smaller ones know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from mimic import load_pipeline
from mimic.miniature.kept_latents import half_size, kept_latents_loss
from mimic.miniature.other_vae import fit_pose_network, on_other_vae
from mimic.models.mini import MiniTemporalVAE
from tests.tiny import random_image, random_poses

FAMILIES = ("mini", "mini_animate_anyone", "mini_magic_animate")
SPARE = 5


@pytest.fixture(scope="module")
def source() -> MiniTemporalVAE:
    return load_pipeline("bundled:mini", device="cpu", dtype="fp32").vae


def larger(source: MiniTemporalVAE) -> MiniTemporalVAE:
    widths = tuple(source.config["block_out_channels"])
    torch.manual_seed(0)
    return MiniTemporalVAE(
        down_block_types=("DownEncoderBlock2D",) * (len(widths) + 1),
        block_out_channels=(widths[0], *widths),
        latent_channels=source.config["latent_channels"] + SPARE,
        sample_size=2 * source.config["sample_size"],
        scaling_factor=source.config["scaling_factor"],
    ).requires_grad_(False)


@pytest.fixture(scope="module")
def larger_vae(source) -> MiniTemporalVAE:
    return larger(source).eval()


def test_the_loss_of_kept_latents_is_of_both_errors(source):
    kept = torch.randn(2, 4, 6, 6)
    spare = kept.std() * torch.nn.functional.normalize(torch.randn(2, 3, 6, 6), dim=1) * 3**0.5
    same = kept_latents_loss(torch.cat([kept, spare], dim=1), kept)
    moved = kept_latents_loss(torch.cat([kept + 1, spare], dim=1), kept)
    narrow = kept_latents_loss(torch.cat([kept, spare / 3], dim=1), kept)
    assert same < 0.01 < narrow < moved


@pytest.mark.parametrize("name", FAMILIES)
def test_a_miniature_on_a_larger_vae_predicts_the_kept_latents_as_before(name, larger_vae, tmp_path: Path):
    prior = load_pipeline(f"bundled:{name}", device="cpu", dtype="fp32")
    pipe = on_other_vae(prior, larger_vae)
    K, side = prior.vae.config["latent_channels"], larger_vae.config["sample_size"]
    given, own = prior.unet.state_dict(), pipe.unet.state_dict()
    other = {key for key, value in own.items() if value.shape != given[key].shape}
    assert other == {"conv_in.weight", "conv_out.weight", "conv_out.bias"}
    assert all(torch.equal(own[key], given[key]) for key in own.keys() - other)
    torch.testing.assert_close(own["conv_in.weight"][:, :K], given["conv_in.weight"][:, :K])
    assert own["conv_out.weight"][K:].abs().max() == 0
    assert pipe.latent_shape(side, side)[0] == K + SPARE
    pipe.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, device="cpu", dtype="fp32")
    assert loaded.generation_defaults["height"] == side
    loaded.set_progress_bar_config(disable=True)
    latents = loaded(
        random_image(side, side), random_poses(2, side, side), num_inference_steps=1, output_type="latent"
    ).frames
    assert latents.isfinite().all()


def test_posenet_halves_once_more_and_computes_the_same(larger_vae):
    prior = load_pipeline("bundled:mini", device="cpu", dtype="fp32")
    pipe = on_other_vae(prior, larger_vae)
    maps = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(pipe.pose_net(maps), prior.pose_net(half_size(maps)), atol=1e-4, rtol=1e-4)
    strides = tuple(prior.pose_net.config["strides"])
    assert tuple(pipe.pose_net.config["strides"]) == (1, 2, *strides)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "mini"])
def test_the_network_of_the_poses_learns_what_the_smaller_one_computes(name, larger_vae):
    prior = load_pipeline(f"bundled:{name}", device="cpu", dtype="fp32")
    pipe = on_other_vae(prior, larger_vae)
    generator = torch.Generator().manual_seed(0)
    maps = [functional.interpolate(torch.rand(2, 3, 8, 8, generator=generator), 48) * 2 - 1] * 60
    first = fit_pose_network(pipe, prior, maps[:1], num_steps=1)
    assert fit_pose_network(pipe, prior, maps, num_steps=60) < 0.75 * first
