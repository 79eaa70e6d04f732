"""Number for number what the released code gave (tests/goldens/mimicmotion)."""

import pytest
import torch

from mimic.models.vae import decode_frames
from tests.tiny import golden, golden_image, golden_json, golden_pipeline

CASES = golden_json("cases")
NOT_ARGUMENTS = {
    "generator_seed",
    "randn_shapes",
    "tiles",
    "unet_calls_per_step",
    "unet_calls_pose_flags_first_step",
}


@pytest.fixture(scope="module")
def pipe():
    return golden_pipeline()


def arguments_of(case, recorded):
    arguments = {key: value for key, value in CASES[case].items() if key not in NOT_ARGUMENTS}
    return {
        **arguments,
        "tile_size": 6,
        "image_pose": golden("pose_pixels")["pose"][: arguments["num_frames"]],
        "latents": recorded.get("latents_in"),
        "generator": torch.Generator().manual_seed(CASES[case]["generator_seed"]),
        "device": torch.device("cpu"),
    }


@torch.no_grad()
@pytest.mark.parametrize("case", sorted(set(CASES) - {"_common"}))
def test_frames_and_latents_are_the_recorded_ones(pipe, case):
    recorded = golden(case)
    per_step = []

    def keep(pipe, step, timestep, tensors):
        per_step.append(tensors["latents"].clone())
        return tensors

    arguments = arguments_of(case, recorded)
    frames = pipe([golden_image()], output_type="pt", callback_on_step_end=keep, **arguments).frames
    torch.testing.assert_close(per_step[-1], recorded["final_latents"], atol=2e-4, rtol=0)
    if "latents_per_step" in recorded:
        torch.testing.assert_close(torch.stack(per_step), recorded["latents_per_step"], atol=5e-4, rtol=1e-5)
    if "frames_raw" in recorded:
        raw = torch.cat(list(decode_frames(pipe.vae, per_step[-1][0], CASES[case]["decode_chunk_size"])))
        torch.testing.assert_close(raw.transpose(0, 1)[None], recorded["frames_raw"], atol=1e-4, rtol=0)
    in_half = recorded["frames_pt"].dtype == torch.float16
    torch.testing.assert_close(frames, recorded["frames_pt"].float(), atol=5e-4 if in_half else 1e-4, rtol=0)


def test_half_precision_stays_near():
    half = golden_pipeline(torch.float16)
    recorded = golden("case1_single_tile")
    latents = half(golden_image(), output_type="latent", **arguments_of("case1_single_tile", recorded)).frames
    assert latents.dtype == torch.float16
    torch.testing.assert_close(latents.float(), recorded["final_latents"], atol=0.06, rtol=0)


def test_the_model_sees_the_recorded_tiles_with_and_without_poses(pipe):
    case = CASES["case8_ragged_tail_by_one"]
    had_pose, num_frames = [], []

    def note(module, inputs, given):
        had_pose.append(given["pose_latents"] is not None)
        num_frames.append(inputs[0].shape[1])

    hook = pipe.unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        arguments = arguments_of("case8_ragged_tail_by_one", golden("case8_ragged_tail_by_one"))
        pipe(
            golden_image(), output_type="latent",
            **{**arguments, "num_inference_steps": 1, "batch_guidance": False},
        )  # fmt: skip
    finally:
        hook.remove()
    assert len(had_pose) == case["unet_calls_per_step"]
    assert sum(had_pose) == sum(case["unet_calls_pose_flags_first_step"])
    assert num_frames == [len(tile) for tile in case["tiles"] for _ in range(2)]


def test_noise_is_drawn_in_the_released_order(monkeypatch, pipe):
    """Image noise first, even where its strength is 0, then one tile of latents."""
    from mimic.families import base
    from mimic.families.mimicmotion import pipeline

    drawn = []

    def recording(shape, *arguments, **keywords):
        drawn.append(draw(shape, *arguments, **keywords))
        return drawn[-1]

    draw = pipeline.draw_noise
    for module in (base, pipeline):
        monkeypatch.setattr(module, "draw_noise", recording)
    recorded = golden("case6_seeded_generator")
    arguments = arguments_of("case6_seeded_generator", recorded)
    pipe(
        golden_image(),
        output_type="latent",
        **{**arguments, "num_inference_steps": 1, "noise_aug_strength": 0.0},
    )
    assert [list(noise.shape) for noise in drawn] == CASES["case6_seeded_generator"]["randn_shapes"]
    assert torch.equal(drawn[0], recorded["drawn_image_noise"])
    assert torch.equal(drawn[1], recorded["drawn_latents"])
