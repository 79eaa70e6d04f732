"""Faster implementations give what the plain ones give, and leave the networks as they were."""

import pytest
import torch
from diffusers.hooks import (
    PyramidAttentionBroadcastConfig,
    apply_group_offloading,
    apply_pyramid_attention_broadcast,
)
from diffusers.schedulers import AysSchedules
from torch import nn

from mimic.families.animate_anyone.tiny import tiny_pipeline as animate_anyone
from mimic.families.inputs import read_inputs
from mimic.families.magic_animate.tiny import tiny_pipeline as magic_animate
from mimic.families.mimicmotion.tiny import tiny_pipeline as mimicmotion
from mimic.models.attention import attention_layers
from mimic.models.deep_features import FeatureReuse
from mimic.models.speed import UnusedNorm, exact_speed
from mimic.sampling.presets import PRESETS
from mimic.sampling.schedules import noise_levels
from tests.tiny import needs_group_offloading, random_image, random_poses

FAMILIES = {"mimicmotion": mimicmotion, "animate_anyone": animate_anyone, "magic_animate": magic_animate}
# What the other two show together is shown of Animate Anyone by the slow tests.
QUICK_FIRST = ["mimicmotion", "magic_animate", pytest.param("animate_anyone", marks=pytest.mark.slow)]


def made_different(pipeline):
    """Random weights also where layers begin at zero, so that every part takes part."""
    torch.manual_seed(1)
    for part in pipeline.components.values():
        for parameter in part.parameters() if isinstance(part, nn.Module) else ():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latents_of(pipeline, **settings):
    given = {"num_inference_steps": 3, "guidance_scale": 2.0, "tile_size": 4, "tile_overlap": 2}
    return pipeline(
        random_image(16, 24),
        random_poses(6, 16, 24),
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        **{**given, **settings},
    ).frames


@pytest.fixture(scope="module", params=QUICK_FIRST)
def pipeline(request):
    return made_different(FAMILIES[request.param](height=16, width=24, seed=0))


@pytest.fixture(scope="module")
def plain(pipeline):
    return latents_of(pipeline, optimize=False)


def assert_close(latents, plain):
    assert ((latents - plain).norm() / plain.norm()) < 1e-3


@pytest.mark.parametrize("batch_guidance", [False, True])
def test_latents_are_those_of_the_plain_implementations(pipeline, plain, batch_guidance):
    assert_close(latents_of(pipeline, batch_guidance=batch_guidance), plain)


def test_a_run_leaves_layers_and_keys_as_they_were(pipeline, tmp_path):
    before = {name: type(module) for name, module in pipeline.denoiser.named_modules()}
    keys = list(pipeline.denoiser.state_dict())
    latents_of(pipeline)
    assert {name: type(module) for name, module in pipeline.denoiser.named_modules()} == before
    assert list(pipeline.denoiser.state_dict()) == keys
    pipeline.save_pretrained(tmp_path)
    again = type(pipeline).from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(latents_of(again), latents_of(pipeline))


@pytest.mark.parametrize("family", QUICK_FIRST)
def test_weights_in_eight_bits_give_nearly_the_same(family):
    pipeline = made_different(FAMILIES[family](height=16, width=24, seed=0))
    settings = {"num_inference_steps": 1, "guidance_scale": 1.5}
    expected = latents_of(pipeline, **settings)
    pipeline.denoiser.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    latents = latents_of(pipeline, **settings)
    assert 0 < (latents - expected).norm() / expected.norm() < 0.2


def test_a_failing_run_leaves_layers_as_they_were():
    unet = mimicmotion(height=16, width=24, seed=0).unet
    before = {name: type(module) for name, module in unet.named_modules()}
    with pytest.raises(RuntimeError), exact_speed(unet, single_token=True):
        assert any(type(module) is UnusedNorm for module in unet.modules())
        raise RuntimeError
    assert {name: type(module) for name, module in unet.named_modules()} == before


@needs_group_offloading
def test_weights_that_move_while_a_run_lasts_are_not_kept_concatenated():
    pipeline = made_different(mimicmotion(height=16, width=24, seed=0))
    expected = latents_of(pipeline, optimize=False)
    apply_group_offloading(
        pipeline.unet,
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
    )
    with exact_speed(pipeline.unet, single_token=True):
        assert all(layer.processor.fused is None for layer in attention_layers(pipeline.unet))
    assert_close(latents_of(pipeline), expected)


def test_several_tokens_are_refused_where_a_single_one_was_promised():
    unet = mimicmotion(height=16, width=24, seed=0).unet
    sample = torch.zeros(1, 2, unet.config.in_channels, 4, 4)
    context = torch.zeros(1, 2, unet.config.cross_attention_dim)
    with (
        exact_speed(unet, single_token=True),
        torch.no_grad(),
        pytest.raises(ValueError, match="the context has 2 tokens"),
    ):
        unet(sample, torch.tensor(0.1), context, torch.zeros(1, 3))


def test_released_compatibility_computes_as_diffusers_does(pipeline):
    plan = pipeline.plan(num_frames=16, height=16, width=24, compat="released", compile=True)
    assert not plan.is_optimized
    assert not plan.batches_guidance((4, 4, 6), torch.device("cuda"))


def test_both_branches_of_small_windows_are_one_call(pipeline):
    plan = pipeline.plan(num_frames=6, height=16, width=24, tile_size=4)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert plan.batches_guidance((4, 128, 128), cuda)
    assert not plan.batches_guidance((4, 129, 128), cuda)
    assert plan.batches_guidance((4, 64, 64), cpu)
    assert not plan.batches_guidance((4, 65, 64), cpu)
    for given in (True, False):
        chosen = pipeline.plan(num_frames=6, height=16, width=24, tile_size=4, batch_guidance=given)
        assert chosen.batches_guidance((4, 65, 64), cpu) is given


def test_features_reused_at_every_step_are_those_of_whole_passes(pipeline, plain):
    assert torch.equal(latents_of(pipeline, reuse_interval=1, optimize=False), plain)
    whole = latents_of(pipeline, num_inference_steps=1, optimize=False)
    assert torch.equal(latents_of(pipeline, num_inference_steps=1, reuse_interval=2, optimize=False), whole)


def test_a_step_that_reuses_features_runs_the_outer_blocks_alone(pipeline):
    calls = []
    hooks = [
        block.register_forward_hook(lambda block, *_: calls.append(block))
        for block in (*pipeline.denoiser.down_blocks, *pipeline.denoiser.up_blocks)
    ]
    try:
        num_windows = len(pipeline.plan(num_frames=6, tile_size=4, tile_overlap=2).windows)
        latents_of(pipeline, reuse_interval=3, batch_guidance=False)
    finally:
        for hook in hooks:
            hook.remove()
    unet = pipeline.denoiser
    assert calls.count(unet.down_blocks[0]) == calls.count(unet.up_blocks[-1]) == 3 * 2 * num_windows
    assert calls.count(unet.down_blocks[-1]) == calls.count(unet.up_blocks[0]) == 1 * 2 * num_windows


def test_without_memory_for_features_every_step_is_whole(pipeline, plain, monkeypatch):
    monkeypatch.setattr(type(pipeline), "deep_feature_budget_mb", 0)
    assert torch.equal(latents_of(pipeline, reuse_interval=2, optimize=False), plain)


def test_a_shallow_pass_with_fresh_features_equals_a_whole_one():
    unet = made_different(mimicmotion(height=16, width=24, seed=0)).unet
    features = FeatureReuse(2, 2**30)(0, "window")
    arguments = (
        torch.randn(1, 3, unet.config.in_channels, 4, 6),
        torch.tensor(0.1),
        torch.randn(1, 1, unet.config.cross_attention_dim),
        torch.zeros(1, 3),
    )
    with torch.no_grad():
        whole = unet(*arguments, deep_features=features).sample
        assert torch.equal(whole, unet(*arguments).sample)
        features.is_reused = True
        assert torch.equal(unet(*arguments, deep_features=features).sample, whole)


@pytest.mark.parametrize("preset", ["balanced", "fast"])
def test_presets_are_settings_that_others_override(pipeline, preset):
    plan = pipeline.plan(num_frames=6, preset=preset)
    expected = dict(PRESETS[preset])
    if pipeline.timestep_type != "continuous":
        expected.pop("schedule")
    usual = pipeline.plan(num_frames=6).num_inference_steps
    expected["num_inference_steps"] = min(expected["num_inference_steps"], usual)
    assert expected.items() <= plan.as_settings().items()
    assert plan.as_settings()["preset"] == preset
    own = pipeline.plan(num_frames=6, preset=preset, num_inference_steps=7, reuse_interval=1)
    assert (own.num_inference_steps, own.settings.reuse_interval) == (7, 1)
    assert torch.isfinite(latents_of(pipeline, preset=preset, num_inference_steps=4)).all()


def test_a_preset_never_adds_steps(pipeline, monkeypatch):
    monkeypatch.setattr(pipeline, "generation_defaults", {"num_inference_steps": 1})
    assert pipeline.plan(num_frames=6, preset="fast").num_inference_steps == 1


def test_the_aligned_schedule_is_the_published_one_at_ten_steps():
    pipeline = mimicmotion(height=16, width=24, seed=0)
    pipeline.prepare(
        read_inputs(
            random_image(16, 24),
            random_poses(2, 16, 24),
            num_videos_per_prompt=1,
            latents=None,
            size=(None, None),
        ),
        pipeline.plan(num_frames=2, num_inference_steps=10, schedule="aligned"),
    )
    published = AysSchedules["StableDiffusionVideoSigmas"]
    torch.testing.assert_close(pipeline.scheduler.sigmas, torch.tensor(published), rtol=1e-5, atol=0)


def test_an_aligned_schedule_needs_a_scheduler_that_takes_noise_levels():
    with pytest.raises(ValueError, match="schedule 'aligned' is made for"):
        animate_anyone(height=16, width=24, seed=0).plan(num_frames=4, schedule="aligned")


def test_outside_the_interval_of_noise_levels_there_is_no_guidance(pipeline, plain):
    unguided = latents_of(pipeline, guidance_scale=1.0, optimize=False)
    assert torch.equal(latents_of(pipeline, guidance_interval=(1e8, 1e9), optimize=False), unguided)
    everywhere = latents_of(pipeline, guidance_interval=(0.0, 1e9), optimize=False)
    is_finite = max(noise_levels(pipeline.scheduler)) < 1e9  # without signal, the level is infinite
    assert torch.equal(everywhere, plain) == is_finite


def test_a_missing_compiler_is_one_sentence_before_any_work(pipeline, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"compile needs a C\+\+ compiler .* leave compile out"):
        latents_of(pipeline, compile=True)


def test_caches_of_diffusers_are_refused_in_one_sentence(pipeline):
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    )
    with pytest.raises(ValueError, match=r"several windows and branches of guidance .* reuse_interval"):
        pipeline.denoiser.enable_cache(config)


def test_a_broadcast_of_attention_mixes_windows():
    """Why it is refused: within range it takes another window's output already at the first step."""
    pipeline = made_different(mimicmotion(height=16, width=24, seed=0))
    settings = {"num_inference_steps": 1, "guidance_scale": 1.0, "optimize": False}
    one, several = {"tile_size": 6, "tile_overlap": 2}, {"tile_size": 4, "tile_overlap": 2}
    plain = {name: latents_of(pipeline, **settings, **way) for name, way in (("1", one), ("2", several))}

    def broadcast(**way):
        other = made_different(mimicmotion(height=16, width=24, seed=0))
        config = PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
        )
        apply_pyramid_attention_broadcast(other.unet, config)
        return latents_of(other, **settings, **way)

    assert torch.equal(broadcast(**one), plain["1"])  # of one step nothing is reused
    assert (broadcast(**several) - plain["2"]).norm() / plain["2"].norm() > 1e-3
