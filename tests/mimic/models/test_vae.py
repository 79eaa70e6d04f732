import pytest
import torch
from torch import nn

from mimic.models.temporal_convolution import TemporalConv
from mimic.models.vae import decode_frames, encode_images, vae_downscale
from tests.tiny import golden, golden_pipeline, random_pipeline


@pytest.fixture(scope="module")
def vae():
    return golden_pipeline().vae


@pytest.fixture(scope="module")
def recorded():
    return golden("image_branch")


@pytest.mark.parametrize("chunk", [5, 2])
@torch.no_grad()
def test_chunks_decode_to_the_recorded_frames(vae, recorded, chunk):
    chunks = list(decode_frames(vae, recorded["dec_latents"][0], chunk))
    assert [len(frames) for frames in chunks] == ([5] if chunk == 5 else [2, 2, 1])
    expected = recorded[f"decoded_chunk{chunk}"][0].transpose(0, 1)
    torch.testing.assert_close(torch.cat(chunks), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_frames_come_chunk_by_chunk_and_do_not_depend_on_later_ones(vae, recorded):
    latents = recorded["dec_latents"][0]
    whole = torch.cat(list(decode_frames(vae, latents, 2)))
    stream = decode_frames(vae, latents, 2)
    assert torch.equal(next(stream), whole[:2])
    assert torch.equal(torch.cat(list(decode_frames(vae, latents[:4], 2))), whole[:4])


@torch.no_grad()
def test_faster_convolutions_decode_to_the_same_frames_and_leave_the_layers(vae, recorded):
    latents = recorded["dec_latents"][0]
    kinds = [type(module) for module in vae.modules()]
    assert nn.Conv3d in kinds
    seen = []
    hook = vae.decoder.conv_in.register_forward_hook(
        lambda *_: seen.append([type(module) for module in vae.modules()])
    )
    plain = torch.cat(list(decode_frames(vae, latents, 2, optimize=False)))
    fast = torch.cat(list(decode_frames(vae, latents, 2)))
    hook.remove()
    assert seen[0] == kinds
    assert TemporalConv in seen[-1]
    assert nn.Conv3d not in seen[-1]
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)
    assert [type(module) for module in vae.modules()] == kinds


@pytest.mark.parametrize(("chunk", "overlap", "lengths"), [(3, 1, [2, 1, 2]), (4, 1, [3, 2]), (5, 2, [5])])
@torch.no_grad()
def test_overlapping_chunks_take_each_frame_from_among_its_neighbours(vae, recorded, chunk, overlap, lengths):
    latents = recorded["dec_latents"][0]
    chunks = list(decode_frames(vae, latents, chunk, overlap=overlap))
    assert [len(frames) for frames in chunks] == lengths
    if chunk == 3:  # the second chunk is frames 1 to 3, of which it gives the middle one
        (together,) = decode_frames(vae, latents[1:4], 3)
        assert torch.equal(chunks[1], together[1:2])


@torch.no_grad()
def test_an_overlap_brings_chunks_nearer_to_decoding_all_at_once(vae):
    latents = torch.randn(24, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    (whole,) = decode_frames(vae, latents, 24)
    errors = [
        float((torch.cat(list(decode_frames(vae, latents, 8, overlap=overlap))) - whole).abs().mean())
        for overlap in (0, 1, 3)
    ]
    assert errors[0] > errors[1] > errors[2] > 0


@torch.no_grad()
def test_the_reference_is_encoded_to_the_mode_without_scaling(vae, recorded):
    latents = encode_images(vae, recorded["vae_input"])
    torch.testing.assert_close(latents, recorded["image_latents_cfg"][1:], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_batch_encodes_to_the_bytes_of_its_items(vae, recorded):
    images = torch.cat([recorded["vae_input"], -recorded["vae_input"]])
    assert torch.equal(encode_images(vae, images)[1:], encode_images(vae, images[1:]))


@pytest.mark.parametrize("vae_blocks", [2, 3])
def test_downscale_follows_the_config(vae_blocks):
    vae = random_pipeline(vae_blocks=vae_blocks).vae
    downscale = vae_downscale(vae)
    assert downscale == 2 ** (vae_blocks - 1)
    with torch.no_grad():
        assert encode_images(vae, torch.zeros(1, 3, 16, 32)).shape[-2:] == (16 // downscale, 32 // downscale)


@pytest.mark.parametrize("is_overflowing", [True, False])
@torch.no_grad()
def test_a_vae_that_overflows_in_float16_encodes_in_float32_unless_asked_not_to(is_overflowing):
    vae = random_pipeline().vae
    pictures = torch.linspace(-1, 1, 3 * 16 * 32).reshape(1, 3, 16, 32)
    vae.half().register_to_config(force_upcast=is_overflowing)
    weights = {name: value.clone() for name, value in vae.state_dict().items()}
    exact = encode_images(vae.float(), pictures)
    seen = []
    hook = vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    found = encode_images(vae.half(), pictures)
    as_released = encode_images(vae, pictures, upcast=False)
    hook.remove()
    assert seen == [torch.float32 if is_overflowing else torch.float16, torch.float16]
    if is_overflowing:
        assert torch.equal(found, exact)
    assert as_released.dtype == torch.float16
    assert all(torch.equal(value, weights[name]) for name, value in vae.state_dict().items())
