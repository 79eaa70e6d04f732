"""Animate Anyone's training: what the UNets are shown, what each stage trains, exports load again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mimic.config.loading import ConfigError
from mimic.data.batch import Batch, Sample, collate
from mimic.families.animate_anyone import objective
from mimic.families.animate_anyone.training import AnimateAnyoneObjective, AnimateAnyoneTask
from mimic.families.registry import load_task
from mimic.training import trainable

SIDE, FRAMES = 32, 3


def make_sample(seed: int = 0) -> Sample:
    generator = torch.Generator().manual_seed(seed)

    def pixels(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, SIDE, SIDE, generator=generator) * 2 - 1

    hands = (torch.rand(FRAMES + 1, 1, SIDE // 4, SIDE // 4, generator=generator) > 0.8).float()
    return Sample(pixels(FRAMES), pixels(), pixels(FRAMES + 1), {"hands": hands}, key=f"clip {seed}")


def make_task(**settings: Any) -> AnimateAnyoneTask:
    pipeline = AnimateAnyoneTask.tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    return AnimateAnyoneTask.from_pipeline(pipeline, AnimateAnyoneObjective(**settings))


def make_batch(task: AnimateAnyoneTask, num: int = 2) -> tuple[Batch, dict[str, Tensor]]:
    samples = [make_sample(seed) for seed in range(num)]
    draws = [task.draw(sample, torch.Generator().manual_seed(seed)) for seed, sample in enumerate(samples)]
    return task.encode(collate(samples)), {
        name: torch.stack([own[name] for own in draws]) for name in draws[0]
    }


def seen_by(module: Any, run: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = module.register_forward_pre_hook(lambda _, a, k: calls.append((a, dict(k))), with_kwargs=True)
    try:
        with torch.no_grad():
            run()
    finally:
        hook.remove()
    return calls


def test_it_is_the_family_of_its_name() -> None:
    assert load_task("animate_anyone") is AnimateAnyoneTask


@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
def test_the_networks_are_given_what_inference_gives_them(branch: str) -> None:
    task = make_task(stage=2, drop=0)
    pipe = task.pipeline()
    batch, draws = make_batch(task, 1)
    sample = make_sample()

    def at_inference() -> None:
        pipe(
            (sample.reference + 1) / 2, sample.pose_maps[1:], num_inference_steps=1, guidance_scale=2.0,
            batch_guidance=False, output_type="latent", generator=torch.Generator().manual_seed(0),
        )  # fmt: skip

    draws["keep"] = torch.full((1,), float(branch == "conditional"))
    inference = seen_by(pipe.unet, at_inference)[branch == "unconditional"]
    training = seen_by(pipe.unet, lambda: task.model(batch, draws))[0]
    torch.testing.assert_close(training[0][2], inference[0][2])  # the embedding, or zero
    torch.testing.assert_close(training[1]["pose_features"], inference[1]["pose_features"])
    assert training[0][0].shape == inference[0][0].shape
    reading = training[1]["reference"]
    assert reading.attends == (branch == "conditional",)
    if branch == "conditional":
        banked = inference[1]["reference"].bank.features
        for name, features in reading.bank.features.items():
            torch.testing.assert_close(features, banked[name], atol=1e-4, rtol=1e-4)
    (latents, t, _, _), _ = seen_by(pipe.reference_unet, lambda: task.model(batch, draws))[0]
    (at, t_at, _, _), _ = seen_by(pipe.reference_unet, at_inference)[0]
    torch.testing.assert_close(latents, at, atol=1e-5, rtol=1e-5)
    assert t == t_at == 0


def test_a_perfect_prediction_of_v_has_no_loss_and_noise_has_its_offset() -> None:
    task = make_task(stage=2)
    batch, draws = make_batch(task)
    scheduler = task.pipeline().scheduler
    alpha = scheduler.alphas_cumprod[draws["t"]].view(2, 1, 1, 1, 1)
    x0 = batch.latents * task.pipeline().vae.config.scaling_factor
    noise = draws["noise"] + 0.05 * draws["noise_offset"]
    v = alpha.sqrt() * noise - (1 - alpha).sqrt() * x0
    noisy = alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise
    (args, _) = seen_by(task.model.unet, lambda: task.model(batch, draws))[0]
    torch.testing.assert_close(args[0], noisy)
    hook = task.model.unet.register_forward_hook(lambda *_: (v,))
    assert task.model(batch, draws).total < 1e-9
    hook.remove()


def test_min_snr_weights_are_bounded_and_one_without_signal() -> None:
    snr = torch.tensor([0.0, 1.0, 4.0, 9.0, 999.0])
    weights = objective.min_snr_weight(snr, 5.0, "v_prediction")
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 1.0, 0.5, 0.005]))
    noise = objective.min_snr_weight(snr, 5.0, "epsilon")
    torch.testing.assert_close(noise, torch.tensor([1.0, 1.0, 1.0, 5 / 9, 5 / 999]))
    assert torch.equal(objective.min_snr_weight(snr, None, "v_prediction"), torch.ones(5))
    scheduler = make_task().pipeline().scheduler
    assert objective.signal_to_noise(scheduler, torch.tensor([999])).item() == 0


def test_stage_1_knows_no_time_and_stage_2_trains_nothing_else() -> None:
    for stage, names, learns in (
        (1, ["reference_unet", "unet.spatial", "pose_guider"], lambda name: "motion_modules" not in name),
        (1, ["unet", "reference_unet", "pose_guider"], lambda name: "motion_modules" not in name),
        (2, ["unet.temporal"], lambda name: "motion_modules" in name),
    ):
        task = make_task(stage=stage, drop=0)
        chosen = trainable.select(task.model, names, task.parts)
        assert all(learns(name) for name in chosen)
        if "unet.temporal" not in names:
            behind = len(task.pipeline().reference_unet.parameters_behind_the_bank())
            num_motion = sum("motion_modules" in name for name, _ in task.model.named_parameters())
            assert len(chosen) == sum(1 for _ in task.model.parameters()) - behind - num_motion
        batch, draws = make_batch(task)
        calls = seen_by(task.model.unet, lambda: task.model(batch, draws))  # noqa: B023
        assert calls[0][1]["use_motion"] is (stage == 2)
        task.model(batch, draws).total.backward()
        with_gradient = {name for name, p in task.model.named_parameters() if p.grad is not None}
        assert with_gradient == set(chosen)


def test_all_parameters_have_a_gradient_when_everything_is_dropped() -> None:
    task = make_task(stage=2, drop=1.0)
    chosen = trainable.select(task.model, ["unet", "reference_unet", "pose_guider"], task.parts)
    batch, draws = make_batch(task)
    assert not draws["keep"].any()
    task.model(batch, draws).total.backward()
    assert {name for name, p in task.model.named_parameters() if p.grad is not None} == set(chosen)


def test_it_learns() -> None:
    task = make_task(stage=2, drop=0)
    batch, draws = make_batch(task)
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = task.model(batch, draws).total
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < losses[0]


def test_draws_are_the_generators_and_dropouts_come_at_their_rate() -> None:
    task, sample = make_task(drop=0.25), make_sample()
    first, again = (task.draw(sample, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    generator = torch.Generator().manual_seed(0)
    kept = [task.draw(sample, generator)["keep"].item() for _ in range(800)]
    assert sum(kept) / 800 == pytest.approx(0.75, abs=0.05)


def test_amplified_regions_weigh_more_and_must_be_masked() -> None:
    batch, draws = make_batch(make_task(drop=0))
    plain, more = (
        make_task(drop=0, amplification=factors).model(batch, draws).total
        for factors in ({}, {"hands": 10.0})
    )
    assert more > plain
    with pytest.raises(ConfigError, match="names the regions face, but the data masks hands"):
        make_task(amplification={"face": 2.0}).draw(make_sample(), torch.Generator())


def test_clips_beyond_the_positions_are_told() -> None:
    task = make_task(stage=2)
    task.pipeline().unet.register_to_config(motion_max_seq_length=2)
    with pytest.raises(ConfigError, match="num_frames is 3, and the motion modules have 2 positions"):
        task.draw(make_sample(), torch.Generator())


@pytest.mark.parametrize("stage", [1, 2])
def test_videos_are_made_of_a_sample(stage: int) -> None:
    task = make_task(stage=stage)
    frames = task.generate(make_sample(), seed=3)
    assert frames.shape == (FRAMES, 3, SIDE, SIDE)
    assert torch.equal(frames, task.generate(make_sample(), seed=3))


def test_what_is_exported_in_the_released_layout_is_the_model(tmp_path: Any) -> None:
    task = make_task()
    files = task.released_files()
    names = ["denoising_unet", "motion_module", "pose_guider", "reference_unet"]
    assert sorted(files) == [f"{name}.safetensors" for name in names]
    for name, state in files.items():
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / name)
    assert any("pos_encoder.pe" in key for key in files["motion_module.safetensors"])
    assert not any("motion_modules" in key for key in files["denoising_unet.safetensors"])
