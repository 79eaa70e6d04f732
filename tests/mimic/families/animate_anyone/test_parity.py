"""Number for number what the public re-implementation gave (tests/goldens/animate_anyone)."""

import pytest
import torch

from mimic.data.pose_maps import as_pose_tensor
from mimic.families.animate_anyone.picture import clip_pixels, embed_picture, encode_reference
from mimic.models.image_embedding import image_processor_class
from mimic.models.reference import ReferenceBank, reference_blocks
from mimic.sampling.windows import lay_windows
from tests.mimic.families.animate_anyone.miniature import (
    modules,
    pipeline,
    recorded,
    recorded_json,
    reference_image,
)

PIPELINES = ("pipe1_single_window_cfg", "pipe3_single_window_no_cfg", "pipe4_three_windows_no_cfg")
CASES = recorded_json("cases")


@pytest.fixture(scope="module", autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def test_the_pose_guider():
    given = recorded("pose_guider")
    frames = given["conditioning"][0].transpose(0, 1)  # in [0, 1]
    features = modules()["pose_guider"](frames * 2 - 1)
    torch.testing.assert_close(features.transpose(0, 1)[None], given["embedding"], atol=1e-4, rtol=0)


def test_blocks_pair_as_recorded():
    pairs = recorded_json("attention_pairs")
    assert [pair["reference_unet"] for pair in pairs] == reference_blocks(modules()["reference_unet"])
    assert [pair["denoising_unet"] for pair in pairs] == reference_blocks(modules()["unet"])


def denoised(given, embeddings, reading):
    """The UNet of one recorded forward, ``B x C x F x h x w`` as recorded."""
    latents = given["latents"].transpose(1, 2).expand(len(embeddings), -1, -1, -1, -1)
    sample = modules()["unet"](
        latents,
        given["timestep"],
        embeddings,
        pose_features=given["pose_fea"].transpose(1, 2),
        reference=reading,
    ).sample
    return sample.transpose(1, 2)


def test_the_denoising_unet_without_a_reference():
    given = recorded("attention_control")
    out = denoised(given, given["encoder_hidden_states"], None)
    torch.testing.assert_close(out, given["out_plain_no_reference"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("with_guidance", [False, True])
def test_attention_control(with_guidance):
    given = recorded("attention_control")
    name = "cfg" if with_guidance else "nocfg"
    embedding = given["encoder_hidden_states"]
    embeddings = torch.cat([torch.zeros_like(embedding), embedding]) if with_guidance else embedding
    bank = ReferenceBank("full")
    reference_latents = given["ref_latents"].expand(len(embeddings), -1, -1, -1)
    hidden = modules()["reference_unet"](reference_latents, 0, embeddings, bank)
    torch.testing.assert_close(hidden, given[f"reference_unet_out_{name}"], atol=1e-4, rtol=0)
    own = {key.partition("/")[2]: value for key, value in given.items() if key.startswith(f"bank_{name}/")}
    assert own.keys() == bank.features.keys()
    for block, features in own.items():
        torch.testing.assert_close(bank.features[block], features, atol=1e-4, rtol=0)
    attends = [False, True] if with_guidance else [True]
    for dtype, suffix in ((torch.float16, "fp16"), (torch.float32, "fp32")):
        out = denoised(given, embeddings, bank.rounded(dtype).read(attends))
        # The rounding itself moves the output by 1e-4; half of that tells one from the other.
        torch.testing.assert_close(out, given[f"out_{name}_bank_{suffix}"], atol=2e-5, rtol=0)


def test_the_image_branch():
    given = recorded("image_branch")
    extractor = image_processor_class()()
    pixels = clip_pixels(extractor, reference_image(), 224)
    torch.testing.assert_close(pixels, given["clip_pixel_values"], atol=1e-5, rtol=0)
    embedding = embed_picture(modules()["image_encoder"], extractor, reference_image())
    torch.testing.assert_close(embedding[0], given["clip_image_embeds"], atol=1e-4, rtol=0)
    latents = encode_reference(modules()["vae"], given["vae_input"] / 2 + 0.5)
    torch.testing.assert_close(latents, given["ref_image_latents"], atol=1e-4, rtol=0)
    drawn = as_pose_tensor(recorded("pose_frames")["pose_u8"].numpy()[:1])
    first = given["pose_cond_frame0"].reshape(3, 64, 48)
    torch.testing.assert_close(drawn[0] / 2 + 0.5, first, atol=1e-6, rtol=0)


@pytest.mark.parametrize("case", PIPELINES)
def test_windows_are_the_recorded_ones(case):
    given = CASES[case]
    windows = lay_windows(given["num_frames"], given["context_frames"], given["context_overlap"], "closed")
    assert windows == given["windows"]


def run(case, **changes):
    """A recorded pipeline case: (latents after each step, frames)."""
    given, expected = CASES[case], recorded(case)
    per_step = []

    def keep(pipe, step, timestep, tensors):
        per_step.append(tensors["latents"].transpose(1, 2).clone())
        return {}

    maps = recorded("pose_frames")["pose_u8"].numpy()[: given["num_frames"]]
    arguments = {
        "tile_size": given["context_frames"],
        "tile_overlap": given["context_overlap"],
        "num_inference_steps": given["steps"],
        "guidance_scale": given["guidance_scale"],
        "latents": expected["latents_in"].transpose(1, 2),
        "output_type": "pt",
        "compat": "released",
        "callback_on_step_end": keep,
        **changes,
    }
    frames = pipeline()(reference_image(), maps, **arguments).frames
    return per_step, frames


@pytest.mark.parametrize("case", PIPELINES)
def test_pipelines(case):
    expected = recorded(case)
    per_step, frames = run(case)
    recorded_steps = expected["latents_per_step"].reshape(len(per_step), *per_step[0].shape)
    torch.testing.assert_close(torch.stack(per_step), recorded_steps, atol=5e-4, rtol=0)
    torch.testing.assert_close(per_step[-1], expected["final_latents"], atol=5e-4, rtol=0)
    torch.testing.assert_close(frames.transpose(1, 2), expected["videos"].float(), atol=1.5e-3, rtol=0)


def test_a_seed_draws_the_recorded_noise():
    case = "pipe1_single_window_cfg"
    per_step, _ = run(
        case, latents=None, generator=torch.Generator().manual_seed(CASES[case]["seed"]), output_type="latent"
    )
    torch.testing.assert_close(per_step[-1], recorded(case)["final_latents"], atol=5e-4, rtol=0)


def test_overlaps_are_divided_unless_the_released_fault_is_asked_for():
    case = "pipe4_three_windows_no_cfg"
    right, _ = run(case, compat="none", num_inference_steps=1, output_type="latent")
    released, _ = run(case, num_inference_steps=1, output_type="latent")
    difference = (right[0] - released[0]).abs().amax(dim=(0, 1, 3, 4))
    shared = sorted({f for f in range(10) if sum(f in w for w in CASES[case]["windows"]) > 1})
    assert [f for f in range(10) if difference[f] > 0.1] == shared
    barely, _ = run(case, compat="none", guidance_scale=1.0001, num_inference_steps=1, output_type="latent")
    torch.testing.assert_close(right[0], barely[0], atol=2e-3, rtol=0)
