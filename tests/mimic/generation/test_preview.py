"""A preview shows what the steps point to, changes nothing, and goes when the result is there."""

import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler

from mimic.families.animate_anyone.keys import SCHEDULER
from mimic.families.mimicmotion.tiny import tiny_pipeline
from mimic.families.stable_video_diffusion import svd_scheduler
from mimic.generation.preview import Preview, decoder_for_previews, preview_path
from mimic.results import ResultError
from mimic.video import read_frames
from mimic.weights.strict import WeightsError
from tests.mimic.generation.test_animate import make
from tests.tiny import quiet, random_image, random_poses

pytestmark = pytest.mark.filterwarnings("ignore:This is a toy")


@pytest.fixture(scope="module")
def tiny():
    return quiet(tiny_pipeline(height=16, width=24, seed=0))


def preview_of(pipeline, path):
    return Preview(pipeline, path, np.asarray(random_image(16, 24)), fps=8)


@pytest.mark.parametrize(
    "scheduler", [svd_scheduler(), DDIMScheduler(**SCHEDULER)], ids=["euler", "ddim without signal at first"]
)
def test_a_perfect_denoiser_is_previewed_without_noise(tiny, tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(tiny, "scheduler", scheduler)
    scheduler.set_timesteps(6)
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 3, 4, 4, 6, generator=generator)
    preview, shown = preview_of(tiny, tmp_path / "p.mp4"), []
    preview.show = shown.append
    latents = noise * scheduler.init_noise_sigma
    for i, t in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(latents, t)
        if isinstance(scheduler, DDIMScheduler):
            bar = scheduler.alphas_cumprod[int(t)]
            eps = (latents - bar.sqrt() * clean) / (1 - bar).sqrt()
            predicted = bar.sqrt() * eps - (1 - bar).sqrt() * clean
        else:
            sigma = scheduler.sigmas[scheduler.step_index]
            skip, scale = 1 / (sigma**2 + 1), -sigma / (sigma**2 + 1) ** 0.5
            predicted = (clean - skip * latents) / scale
        latents = scheduler.step(predicted, t, latents).prev_sample
        assert preview(tiny, i, t, {"latents": latents}) is None
    assert len(shown) >= 4
    expected = preview.colours(clean[0])
    assert all(np.abs(frames.astype(int) - expected.astype(int)).max() <= 3 for frames in shown)


def test_colours_are_those_of_a_picture_that_latents_determine(tiny, tmp_path):
    preview = preview_of(tiny, tmp_path / "p.mp4")
    preview._map = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    colours = preview.colours(torch.linspace(0, 1, 24).view(1, 4, 2, 3))
    assert colours.shape == (1, 2, 3, 3)
    assert colours[0, 0, 0].tolist() == [0, round(255 * 6 / 23), round(255 * 12 / 23)]


def test_a_preview_is_a_video_and_changes_no_latents(tiny, tmp_path):
    preview, path = preview_of(tiny, tmp_path / "p.mp4"), tmp_path / "p.mp4"
    arguments = {
        "num_inference_steps": 2,
        "tile_size": 3,
        "tile_overlap": 1,
        "output_type": "latent",
    }
    latents = [
        tiny(
            random_image(16, 24),
            random_poses(5, 16, 24),
            generator=torch.Generator().manual_seed(0),
            callback_on_step_end=callback,
            **arguments,
        ).frames
        for callback in (None, preview)
    ]
    assert torch.equal(*latents)
    frames = list(read_frames(path))
    assert len(frames) == 4  # without the reference's
    preview.remove()
    preview.remove()
    assert not path.exists()


def test_a_preview_takes_no_place_of_another_file(stage, pipeline, tmp_path):
    assert preview_path(tmp_path / "frames") == tmp_path / "frames_preview.mp4"
    (tmp_path / "result_preview.mp4").write_bytes(b"holiday")
    make(stage, pipeline, tmp_path / "result.mp4", preview=True, max_frames=2)
    assert (tmp_path / "result_preview.1.mp4").read_bytes() == b"holiday"
    shutil.copy(stage.driving, tmp_path / "dance_preview.mp4")
    with pytest.raises(ResultError, match="would be replaced"):
        make(stage, pipeline, tmp_path / "dance.mp4", driving=tmp_path / "dance_preview.mp4", preview=True)


def test_the_preview_of_a_result_is_gone_when_the_result_is_there(stage, pipeline, tmp_path):
    result = make(stage, pipeline, tmp_path / "result.mp4", preview=True, max_frames=2)
    assert result.path.exists()
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".json"}
    assert not (tmp_path / "result_preview.mp4").exists()


def test_a_light_decoder_shows_whole_frames(tiny, tmp_path):
    torch.manual_seed(0)
    side = tiny.pixels_per_latent
    widths, blocks = (8,) * (1 + side.bit_length() - 1), (1,) * (1 + side.bit_length() - 1)
    light = AutoencoderTiny(
        latent_channels=tiny.vae.config.latent_channels, encoder_block_out_channels=widths,
        decoder_block_out_channels=widths, num_encoder_blocks=blocks, num_decoder_blocks=blocks,
    )  # fmt: skip
    light.save_pretrained(tmp_path / "light")
    decoder = decoder_for_previews(tiny, str(tmp_path / "light"))
    picture = np.asarray(random_image(16, 24))
    preview = Preview(tiny, tmp_path / "p.mp4", picture, fps=8, decoder=decoder)
    colours = preview.colours(torch.randn(3, tiny.vae.config.latent_channels, 16 // side, 24 // side))
    assert colours.shape == (3, 16, 24, 3)
    assert colours.dtype == np.uint8
    preview.show(colours)
    assert len(list(read_frames(tmp_path / "p.mp4"))) == 2


def test_a_light_decoder_of_other_latents_is_refused(tiny, tmp_path, monkeypatch):
    AutoencoderTiny(latent_channels=7).save_pretrained(tmp_path / "light")
    with pytest.raises(WeightsError, match="takes latents of 7 channels, 8 pixels wide; those of the model"):
        decoder_for_previews(tiny, str(tmp_path / "light"))
    (tmp_path / "taesdv.pth").write_bytes(b"")  # not even read: the model has its own VAE
    monkeypatch.setattr("mimic.generation.preview.DECODER", tmp_path / "taesdv.pth")
    assert decoder_for_previews(tiny, None) is None
