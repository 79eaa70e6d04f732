"""Light decoders: TAESDV's layout, its memory of the frame before, AutoencoderTiny, and what is refused."""

import pytest
import torch
from diffusers import AutoencoderTiny

from mimic.models.preview_decoder import PreviewDecoder, TinyVideoDecoder, load_preview_decoder
from mimic.weights.errors import SourceError
from mimic.weights.strict import WeightsError

HERE = {"device": torch.device("cpu"), "dtype": torch.float32}


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return TinyVideoDecoder(width=8).eval()


def test_keys_are_those_of_the_published_weights(decoder):
    convolutions = [f"decoder.{i}" for i in (1, 7, 12, 17, 19)]
    memories = [f"decoder.{i}.conv.{j}" for i in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18) for j in (0, 2, 4)]
    weights = {f"{name}.weight" for name in (*convolutions, *memories)}
    biases = {f"{name}.bias" for name in ("decoder.1", "decoder.19", *memories)}
    assert set(decoder.state_dict()) == weights | biases


@torch.no_grad()
def test_frames_see_the_one_before_them_whatever_the_chunk(decoder):
    latents = torch.randn(10, 4, 2, 3)
    frames = torch.cat(list(decoder.frames(latents)))
    assert frames.shape == (10, 3, 16, 24)
    changed = latents.clone()
    changed[5] += 1
    differs = (torch.cat(list(decoder.frames(changed))) - frames).abs().amax(dim=(1, 2, 3)) > 1e-6
    assert differs[:7].tolist() == [False] * 5 + [True] * 2  # later ones differ less and less
    for start in (3, 4):  # chunks are of four frames
        torch.testing.assert_close(torch.cat(list(decoder.frames(latents[:start]))), frames[:start])


@pytest.mark.parametrize("name", ["taesdv.pth", "taesdv.safetensors"])
def test_a_published_file_is_loaded_strictly_without_its_encoder(decoder, tmp_path, name):
    from safetensors.torch import save_file

    save = torch.save if name.endswith("pth") else save_file
    state = {**decoder.state_dict(), "encoder.0.weight": torch.zeros(3)}
    save(state, tmp_path / name)
    latents = torch.randn(5, 4, 2, 3)
    loaded = load_preview_decoder(tmp_path / name, **HERE)
    assert torch.equal(loaded(latents), PreviewDecoder(decoder)(latents))
    del state["decoder.7.weight"]
    save(state, tmp_path / name)
    with pytest.raises(WeightsError, match=r"decoder\.7\.weight"):
        load_preview_decoder(tmp_path / name, **HERE)


def test_a_folder_holds_an_autoencoder_tiny(tmp_path):
    torch.manual_seed(0)
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
    )  # fmt: skip
    tiny.save_pretrained(tmp_path)
    loaded = load_preview_decoder(tmp_path, **HERE)
    assert (loaded.channels, loaded.pixels_per_latent) == (4, 2)
    latents = torch.randn(5, 4, 4, 6)
    with torch.no_grad():
        expected = (tiny.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(loaded(latents), expected)


def test_large_frames_are_halved(decoder):
    assert PreviewDecoder(decoder, largest=20)(torch.randn(2, 4, 4, 4)).shape == (2, 3, 16, 16)


def test_other_models_and_missing_files_are_refused(tmp_path):
    with pytest.raises(SourceError, match=r"there is no preview_decoder .* or leave preview_decoder out"):
        load_preview_decoder(tmp_path / "taesdv.pth", **HERE)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(SourceError, match="holds a AutoencoderKL; expected an AutoencoderTiny"):
        load_preview_decoder(tmp_path, **HERE)
