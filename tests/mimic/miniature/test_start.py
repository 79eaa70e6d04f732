"""The miniatures of Animate Anyone and MagicAnimate begin with MimicMotion's spatial layers."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

from mimic import load_pipeline
from mimic.miniature.start import STARTS, main, start
from mimic.weights.strict import WeightsError
from tests.tiny import random_image, random_poses

ATTENTION = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture(scope="module")
def prior():
    return load_pipeline("bundled:mini", device="cpu", dtype="fp32")


@pytest.mark.parametrize("family", list(STARTS))
def test_they_begin_with_what_the_prior_knows_of_pictures(prior, family, tmp_path: Path):
    pipe = start(family, prior)
    pipe.set_progress_bar_config(disable=True)
    reference = getattr(pipe, "reference_unet", None) or pipe.appearance_encoder
    given = prior.unet.state_dict()
    noisy, picture = given["conv_in.weight"].chunk(2, dim=1)
    assert torch.equal(pipe.unet.conv_in.weight, noisy)
    torch.testing.assert_close(reference.conv_in.weight * prior.vae.config.scaling_factor, picture)
    for network in (pipe.unet, reference):
        own = network.state_dict()
        assert torch.equal(own[ATTENTION], given[ATTENTION])
        name = "up_blocks.0.resnets.1.conv1.weight"
        assert torch.equal(own[name], given[name.replace(".conv1", ".spatial_res_block.conv1")])
    assert torch.equal(pipe.unet.conv_out.weight, given["conv_out.weight"])
    pipe.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path, device="cpu", dtype="fp32")
    loaded.set_progress_bar_config(disable=True)
    image, maps = random_image(96, 96), random_poses(2, 96, 96)
    made = [
        each(image, maps, generator=torch.Generator().manual_seed(0), output_type="latent").frames
        for each in (pipe, loaded)
    ]
    assert torch.equal(*made)
    assert loaded.num_timesteps == 1


def test_the_same_seed_gives_the_same_start(prior):
    first, again, other = (start("animate_anyone", prior, seed=seed).pose_guider for seed in (1, 1, 2))
    assert torch.equal(first.conv_in.weight, again.conv_in.weight)
    assert not torch.equal(first.conv_in.weight, other.conv_in.weight)


def test_a_prior_that_lacks_layers_is_told():
    from mimic.miniature.start import _begin_with

    with pytest.raises(WeightsError, match=r"the prior has no weights for bias"):
        _begin_with(torch.nn.Linear(2, 2), {"weight": torch.zeros(2, 2)}, kept=())


def test_a_decoder_trained_further_is_bundled_only_with_its_own_latents(prior, tmp_path: Path, monkeypatch):
    prior.save_pretrained(tmp_path / "trained")
    vae = copy.deepcopy(prior.vae)
    with torch.no_grad():
        vae.decoder.conv_out.bias += 0.25
    vae.register_to_config(scaling_factor=2 * prior.vae.config.scaling_factor)
    vae.save_pretrained(tmp_path / "decoder")
    command = ["start", "--trained", str(tmp_path / "trained"), "--decoder", str(tmp_path / "decoder")]
    monkeypatch.setattr(sys, "argv", [*command, "--output", str(tmp_path / "bundle")])
    main()
    made = load_pipeline(tmp_path / "bundle", device="cpu", dtype="fp32").vae
    torch.testing.assert_close(made.decoder.conv_out.bias, vae.decoder.conv_out.bias, atol=1e-3, rtol=1e-2)
    assert made.config.scaling_factor == prior.vae.config.scaling_factor, "that of the networks"
    with torch.no_grad():
        vae.encoder.conv_in.weight += 0.1
    vae.save_pretrained(tmp_path / "decoder")
    with pytest.raises(WeightsError, match="another encoder"):
        main()
