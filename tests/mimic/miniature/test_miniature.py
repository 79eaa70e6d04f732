"""The trainer of the miniature's VAE at a size of seconds: it learns and resumes; the bundle."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from mimic.cli.main import main
from mimic.config.loading import ConfigError
from mimic.families.mimicmotion.tiny import tiny_pipeline
from mimic.families.registry import load_pipeline
from mimic.locks import LOCK_FILE, locked_folder
from mimic.miniature.bundle import BITS, rounded, save_bundle
from mimic.miniature.crops import CropStream
from mimic.miniature.dancers import DancerSettings, as_network_input, make_dancer
from mimic.miniature.kept_latents import half_size
from mimic.miniature.made_latents import LatentMaker
from mimic.miniature.other_vae import pose_strides
from mimic.miniature.train_vae import MiniVAESettings, train_mini_vae
from mimic.models.mini import (
    MiniTemporalVAE,
    initialise_as_averaging,
    widen_latents,
)
from mimic.models.temporal_convolution import TemporalConv, use_fast_temporal_convolutions
from mimic.training.state import StateError, checkpoints, load_state, save_state

ROOT = Path(__file__).parents[3]
DANCERS = DancerSettings(height=32, width=32, num_pictures=4, canvas_short_side=96)


def tiny_vae(latent_channels: int = 4, widths: tuple[int, ...] = (32, 32, 32)) -> MiniTemporalVAE:
    torch.manual_seed(0)
    return MiniTemporalVAE(
        down_block_types=("DownEncoderBlock2D",) * len(widths), block_out_channels=widths,
        latent_channels=latent_channels, norm_num_groups=8, sample_size=32,
    ).eval()  # fmt: skip


def test_the_vae_starts_as_an_averaging_autoencoder():
    vae = tiny_vae()
    initialise_as_averaging(vae)
    pictures = make_dancer(1, DancerSettings(num_pictures=2)).pictures.float() / 127.5 - 1
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pictures).latent_dist.mode(), num_frames=1).sample
    # The norms may shift a picture's colour as a whole; what differs within it is carried through.
    shapes = [(picture - picture.mean((2, 3), keepdim=True)).flatten() for picture in (decoded, pictures)]
    assert torch.corrcoef(torch.stack(shapes))[0, 1] > 0.8


def test_fast_temporal_convolutions_change_no_result():
    vae = tiny_vae()
    latents = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.decode(latents, num_frames=6).sample
        use_fast_temporal_convolutions(vae)
        assert any(isinstance(module, TemporalConv) for module in vae.modules())
        assert torch.allclose(vae.decode(latents, num_frames=6).sample, expected, atol=1e-5)


def test_widened_latents_keep_what_the_narrow_vae_encodes():
    narrow, wide = tiny_vae(4), tiny_vae(6)
    widen_latents(narrow, wide)
    pictures = make_dancer(2, DANCERS).pictures[:1].float() / 127.5 - 1
    with torch.no_grad():
        old, new = narrow.encode(pictures).latent_dist, wide.encode(pictures).latent_dist
    assert torch.allclose(new.mean[:, :4], old.mean, atol=1e-5)
    assert torch.allclose(new.logvar[:, :4], old.logvar, atol=1e-5)


def test_a_dancer_is_a_function_of_its_number():
    first, again, other = make_dancer(7, DANCERS), make_dancer(7, DANCERS), make_dancer(8, DANCERS)
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(first.maps, again.maps)
    assert not torch.equal(first.pictures, other.pictures)
    assert first.regions.shape == (4, 3, 8, 8)
    assert first.regions.max() <= 100


def test_a_decoder_trained_on_clips_with_an_opponent_looks_along_time(tmp_path):
    changes = {
        "dancers": DANCERS.model_copy(update={"timing": "clip"}), "frames": 2, "adversarial_weight": 0.1,
        "matching_weight": 0.1, "max_steps": 1, "block_out_channels": (32, 32, 32), "batch_size": 2,
        "crop": 16, "save_every": 1, "num_workers": 0, "full_picture_share": 0.0,
    }  # fmt: skip
    settings = MiniVAESettings(output_dir=tmp_path / "vae", latent_channels=4, **changes)
    final = train_mini_vae(settings, progress=False)
    tensors, facts = load_state(checkpoints(settings.output_dir)[-1])
    assert facts["step"] == 1
    temporal = "decoder.mid_block.resnets.0.temporal_res_block.conv2.weight"
    assert tensors["model"][temporal].abs().max() > 0  # begins at zero
    vae = MiniTemporalVAE.from_pretrained(final)
    latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both, alone = vae.decode(latents, num_frames=2).sample, vae.decode(latents[:1], num_frames=1).sample
    assert not torch.equal(both[:1], alone)
    assert [path.name for path in (settings.output_dir / "figures").glob("*.png")] == ["000001.png"]


def test_clips_need_consecutive_pictures():
    with pytest.raises(ValueError, match=r"consecutive frames need dancers\.timing: clip"):
        MiniVAESettings(frames=4)


def test_a_decoder_trained_alone_keeps_the_latents(tmp_path):
    vae = tiny_vae(4, (32, 32, 32))
    vae.save_pretrained(tmp_path / "start")
    settings = MiniVAESettings(
        output_dir=tmp_path / "vae", dancers=DANCERS, block_out_channels=(32, 32, 32), latent_channels=4,
        start_from=tmp_path / "start", trains_encoder=False, max_steps=1, batch_size=1, crop=16,
        num_workers=0, warmup_steps=1,
    )  # fmt: skip
    trained = MiniTemporalVAE.from_pretrained(train_mini_vae(settings, progress=False))
    assert torch.equal(trained.encoder.conv_in.weight, vae.encoder.conv_in.weight)
    assert not torch.equal(trained.decoder.conv_in.weight, vae.decoder.conv_in.weight)


def test_crops_of_made_latents_show_what_the_crops_of_pictures_show():
    clips = DANCERS.model_copy(update={"timing": "clip"})

    def coarse(dancer, seed):  # latents that show the picture itself, at a quarter of its size
        return functional.avg_pool2d(as_network_input(dancer.pictures), 4)

    stream = CropStream(
        (make_dancer(number, clips) for number in itertools.count()), factors={}, small_gain=1.0,
        centres={"figure": 1.0}, frames=2, step=4, rng=np.random.default_rng(0), make_latents=coarse,
    )  # fmt: skip
    crops = stream.draw(6 * 2 * 16 * 16, 16)
    assert crops.made.shape == (12, 3, 4, 4)
    assert torch.allclose(crops.made, functional.avg_pool2d(crops.pixels, 4), atol=1e-6)


def test_a_decoder_learns_to_draw_the_latents_of_a_miniature(tmp_path):
    vae = tiny_vae(4, (32, 32, 32))
    pipe = tiny_pipeline(height=32, width=32, seed=0)
    pipe.vae = vae
    pipe.generation_defaults = {"num_inference_steps": 1, "tile_size": 4, "max_guidance_scale": 1.0}
    pipe.save_pretrained(tmp_path / "miniature")
    changes = {
        "output_dir": tmp_path / "vae", "dancers": DANCERS.model_copy(update={"timing": "clip"}), "frames": 2,
        "block_out_channels": (32, 32, 32), "latent_channels": 4,
        "start_from": tmp_path / "miniature" / "vae", "trains_encoder": False, "max_steps": 1,
        "batch_size": 2, "crop": 16, "num_workers": 0,
        "warmup_steps": 1, "latents_of": tmp_path / "miniature",
    }  # fmt: skip
    dancer = make_dancer(3, DANCERS)
    made = LatentMaker(tmp_path / "miniature")(dancer, 0)
    assert made.shape == (4, 4, 8, 8)
    assert not torch.equal(made, LatentMaker(tmp_path / "miniature")(dancer, 1))
    seen = []
    for share in (0.0, 1.0):
        settings = MiniVAESettings(
            **changes | {"output_dir": tmp_path / f"{share}", "latents_of_share": share, "precision": "bf16"}
        )
        seen.append(MiniTemporalVAE.from_pretrained(train_mini_vae(settings, progress=False)))
        assert torch.equal(seen[-1].encoder.conv_in.weight, vae.encoder.conv_in.weight)
    assert not torch.equal(seen[0].decoder.conv_in.weight, seen[1].decoder.conv_in.weight)
    with pytest.raises(ValueError, match="latents_of trains the decoder alone"):
        MiniVAESettings(**changes | {"trains_encoder": True})
    with pytest.raises(ConfigError, match="there is no miniature in"):
        train_mini_vae(MiniVAESettings(**changes | {"latents_of": tmp_path / "none"}), progress=False)


def test_pose_strides_follow_the_vae():
    assert pose_strides(8) == (1, 2, 1, 2, 1, 2, 1, 1)
    assert pose_strides(4) == (1, 2, 1, 2, 1, 1, 1, 1)


def test_a_checkpoint_is_whole_or_not_there(tmp_path):
    tensors = {"model": {"weight": torch.ones(2)}}
    for step in (1, 2, 3):
        save_state(tmp_path, step, tensors=tensors, facts={"seconds": 1.0})
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-3"]
    loaded, facts = load_state(tmp_path / "checkpoint-3")
    assert torch.equal(loaded["model"]["weight"], torch.ones(2))
    assert facts["step"] == 3


def test_a_checkpoint_with_a_missing_file_is_refused(tmp_path):
    save_state(tmp_path, 3, tensors={"model": {"weight": torch.ones(2)}}, facts={"seconds": 1.0})
    (tmp_path / "checkpoint-3" / "facts.json").unlink()
    with pytest.raises(StateError, match="not a whole checkpoint"):
        load_state(tmp_path / "checkpoint-3")


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path):
    tensors = {"model": {"weight": torch.ones(2)}}
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(StateError, match="could not be written"):
        save_state(blocked, 1, tensors=tensors, facts={})


def test_a_second_training_of_a_vae_in_one_folder_is_told_who_holds_it(tmp_path, capsys):
    config = ROOT / "configs/train/mini_vae.yaml"
    command = ["train", "--config", str(config), f"output_dir={tmp_path}", "keeps_latents_of=null"]
    with locked_folder(tmp_path, work="a training", say=print):
        assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} is in use by a training of process {os.getpid()} on " in line
    assert not list(tmp_path.iterdir())


def test_a_training_of_a_vae_holds_its_folder_while_it_lasts(tmp_path, monkeypatch):
    held = []

    def look(*_):
        held.append((tmp_path / LOCK_FILE).is_file())
        return {"latents_std": 1.0}

    monkeypatch.setattr("mimic.miniature.train_vae.write_figures", look)
    settings = MiniVAESettings(
        output_dir=tmp_path, dancers=DANCERS, block_out_channels=(32, 32, 32), latent_channels=4,
        max_steps=1, batch_size=1, crop=16, num_workers=0,
    )  # fmt: skip
    train_mini_vae(settings, progress=False)
    assert held == [True]
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.slow
def test_training_of_a_vae_goes_on_from_its_last_checkpoint(tmp_path):
    settings = MiniVAESettings(
        output_dir=tmp_path, dancers=DANCERS, block_out_channels=(32, 32, 32), latent_channels=4,
        max_steps=4, batch_size=2, crop=16, save_every=2, num_workers=0, mixed_pictures=0.5,
        crop_centres={"hands": 0.5, "face": 0.5},
    )  # fmt: skip
    train_mini_vae(settings, progress=False)
    before, before_facts = load_state(checkpoints(tmp_path)[-1])
    train_mini_vae(settings.model_copy(update={"max_steps": 6}), progress=False)
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-6"]
    after, after_facts = load_state(checkpoints(tmp_path)[-1])
    assert (before_facts["step"], after_facts["step"]) == (4, 6)
    assert any(not torch.equal(value, after["average"][name]) for name, value in before["average"].items())


@pytest.mark.slow
def test_a_vae_learns_the_latents_of_a_smaller_one_and_keeps_their_scale(tmp_path):
    source = tiny_vae(4, (32, 32))
    source.register_to_config(scaling_factor=0.7)
    source.save_pretrained(tmp_path / "source")
    settings = MiniVAESettings(
        output_dir=tmp_path / "vae", dancers=DANCERS, block_out_channels=(32, 32, 32), latent_channels=6,
        keeps_latents_of=tmp_path / "source", kept_weight=10.0, max_steps=40, batch_size=2, crop=16,
        num_workers=0, learning_rate=3e-3, warmup_steps=5,
    )  # fmt: skip
    trained = MiniTemporalVAE.from_pretrained(train_mini_vae(settings, progress=False))
    assert trained.config["scaling_factor"] == 0.7
    pictures = as_network_input(make_dancer(4, DANCERS).pictures[:1])
    with torch.no_grad():
        kept = source.encode(half_size(pictures)).latent_dist.mode()
        own, other = (vae.encode(pictures).latent_dist.mode() for vae in (trained, tiny_vae(6)))
    missed, start = ((latents[:, :4] - kept).square().mean() / kept.var() for latents in (own, other))
    assert missed < 0.5 * start


def test_a_bundle_is_in_half_precision_keeps_its_defaults_and_names_no_path(tmp_path):
    pipeline = tiny_pipeline(height=32, width=32, seed=0)
    pipeline.save_pretrained(tmp_path / "trained")
    loaded = load_pipeline(tmp_path / "trained", device="cpu", dtype="fp32")
    loaded.generation_defaults = {"height": 32, "width": 32, "tile_size": 3, "num_inference_steps": 1}
    size = save_bundle(loaded, tmp_path / "bundle")
    whole = sum(file.stat().st_size for file in (tmp_path / "trained").rglob("*.safetensors"))
    assert 0.4 * whole < size < 0.6 * whole
    assert load_pipeline(tmp_path / "bundle").generation_defaults["tile_size"] == 3
    for file in (tmp_path / "bundle").rglob("*.json"):
        assert str(tmp_path) not in file.read_text(encoding="utf-8")
    state = load_file(next((tmp_path / "bundle" / "unet").glob("*.safetensors")))
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert all(torch.equal(rounded(value), value) for value in state.values()), "packs small"


def test_weights_are_rounded_to_the_nearest_with_few_bits():
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0)).half() * 10
    values = torch.cat([values, torch.tensor([0.0, -0.0, 1.0, -1.0, 0.999, -0.999, 6e-8, 60_000]).half()])
    found = rounded(values)
    mantissa = found.double().abs() / 2.0 ** found.double().abs().clamp(min=1e-7).log2().floor()
    normal = found.abs() > 1e-4
    assert ((mantissa[normal] * 2**BITS) % 1 == 0).all()
    error = (found.double() - values.double()).abs()[normal] / values.double().abs()[normal]
    assert 0.9 * 2.0 ** -(BITS + 1) < error.max() <= 2.0 ** -(BITS + 1)
    kept = torch.tensor([0.0, 1.0, -1.0, 0.0]).half()
    assert torch.equal(rounded(kept), kept)
    assert (found.double() * values.double() >= 0).all(), "no sign is lost"
    assert torch.equal(rounded(found), found)
