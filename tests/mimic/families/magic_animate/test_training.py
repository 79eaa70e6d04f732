"""MagicAnimate's training: what is learnt from what, conditions as at inference, exports load again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mimic.config.loading import ConfigError, build
from mimic.data.batch import Batch, Sample, collate
from mimic.families.magic_animate import objective
from mimic.families.magic_animate.training import TEMPORAL_FILE, MagicAnimateObjective, MagicAnimateTask
from mimic.families.registry import load_task
from mimic.models.memory import save_memory
from mimic.weights.motion_keys import is_motion_key, to_diffusers

SIDE, FRAMES = 32, 3
SAMPLES = 6


def make_sample(seed: int) -> Sample:
    generator = torch.Generator().manual_seed(seed)

    def pixels(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, SIDE, SIDE, generator=generator) * 2 - 1

    hands = (torch.rand(FRAMES + 1, 1, SIDE // 4, SIDE // 4, generator=generator) > 0.8).float()
    return Sample(pixels(FRAMES), pixels(), pixels(FRAMES + 1), {"hands": hands}, key=f"clip {seed}")


def make_task(**settings: Any) -> MagicAnimateTask:
    pipeline = MagicAnimateTask.tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    return MagicAnimateTask.from_pipeline(pipeline, MagicAnimateObjective(**settings))


def make_batch(task: MagicAnimateTask, r: list[float]) -> tuple[Batch, dict[str, Tensor]]:
    samples = [make_sample(seed) for seed in range(len(r))]
    draws = [task.draw(sample, torch.Generator().manual_seed(seed)) for seed, sample in enumerate(samples)]
    stacked = {name: torch.stack([own[name] for own in draws]) for name in draws[0]}
    return task.encode(collate(samples)), {**stacked, "r": torch.tensor(r)}


def seen_by(module: Any, run: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    hook = module.register_forward_pre_hook(lambda _, a, k: calls.append((a, dict(k))), with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return calls


def test_thresholds_decide_what_is_learnt_from() -> None:
    r = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.9])
    one = objective.choose(r, 1, tau_0=0.2, tau_1=0, tau_2=0)
    assert one.tolist() == [objective.RECONSTRUCTION] * 2 + [objective.PICTURE] * 3
    two = objective.choose(r, 2, tau_0=1, tau_1=0.2, tau_2=0.5)
    assert two.tolist() == [objective.RECONSTRUCTION] * 2 + [objective.PICTURE] * 2 + [objective.CLIP]


def test_stage_1_sees_unrelated_pictures_and_the_reference_in_its_own_pose() -> None:
    task = make_task(stage=1, tau_0=0.5, drop_reference=0)
    batch, draws = make_batch(task, [0.1, 0.9])
    calls = seen_by(task.model.controlnet, lambda: task.model(batch, draws))
    (latents, t), given = calls[0]
    maps = given["controlnet_cond"] * 2 - 1
    assert latents.shape == (2 * FRAMES, 4, SIDE // 4, SIDE // 4)
    torch.testing.assert_close(maps[:FRAMES], batch.pose_maps[0, :1].expand(FRAMES, -1, -1, -1))
    torch.testing.assert_close(maps[FRAMES:], batch.pose_maps[1, 1:])
    assert t.tolist() == draws["t"].repeat_interleave(FRAMES).tolist()
    factor = task.pipeline().vae.config.scaling_factor
    x0 = torch.stack([batch.reference_latents[0].expand(FRAMES, -1, -1, -1), batch.latents[1]]) * factor
    alpha = task.pipeline().scheduler.alphas_cumprod[draws["t"]].view(2, 1, 1, 1, 1)
    expected = alpha.sqrt() * x0 + (1 - alpha).sqrt() * draws["noise"]
    torch.testing.assert_close(latents, expected.flatten(0, 1))
    (args, given) = seen_by(task.model.unet, lambda: task.model(batch, draws))[0]
    assert args[0].shape[:2] == (2 * FRAMES, 1)
    assert given["use_motion"] is False
    (reference, at, *_), _ = seen_by(task.model.appearance_encoder, lambda: task.model(batch, draws))[0]
    torch.testing.assert_close(reference, batch.reference_latents * factor)
    assert at.tolist() == draws["t"].tolist()


def test_stage_2_sees_pictures_and_clips_together() -> None:
    task = make_task(stage=2, tau_1=0.3, tau_2=0.6)
    batch, draws = make_batch(task, [0.1, 0.5, 0.9, 0.8])
    calls = seen_by(task.model.unet, lambda: task.model(batch, draws))
    assert [args[0].shape[:2] for args, _ in calls] == [(2, 1), (2, FRAMES)]
    assert all(given["use_motion"] for _, given in calls)
    maps = seen_by(task.model.controlnet, lambda: task.model(batch, draws))[0][1]["controlnet_cond"] * 2 - 1
    torch.testing.assert_close(maps[0], batch.pose_maps[0, 0])
    torch.testing.assert_close(maps[1], batch.pose_maps[1, 1 + int(draws["frame"][1])])
    terms = task.model(batch, draws).terms
    assert float(terms["reconstruction"]) == 0.25
    assert float(terms["clip"]) == 0.5


@pytest.mark.parametrize("stage", [1, 2])
def test_the_loss_of_a_batch_is_the_mean_of_its_samples(stage: int) -> None:
    task = make_task(stage=stage, tau_0=0.3, tau_1=0.3, tau_2=0.6, drop_reference=0)
    batch, draws = make_batch(task, [0.1, 0.5, 0.9])
    with torch.no_grad():
        together = task.model(batch, draws).total
        alone = []
        for place in range(3):
            samples = [make_sample(place)]
            own = {name: value[place : place + 1] for name, value in draws.items()}
            alone.append(task.model(task.encode(collate(samples)), own).total)
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-4, atol=1e-5)


def test_a_dropped_reference_is_not_looked_at_and_leaves_gradients_of_zero() -> None:
    task = make_task(stage=1, drop_reference=1.0)
    batch, draws = make_batch(task, [0.9])
    loss = task.model(batch, draws).total
    loss.backward()
    gradients = [p.grad for p in task.model.appearance_encoder.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
    other = make_sample(99)
    changed = task.encode(collate([Sample(make_sample(0).frames, other.reference, make_sample(0).pose_maps,
                                          make_sample(0).masks, key="x")]))  # fmt: skip
    torch.testing.assert_close(task.model(changed, draws).total, loss)


def test_every_network_of_a_stage_learns() -> None:
    for stage, r in ((1, 0.9), (2, 0.9)):
        task = make_task(stage=stage, drop_reference=0)
        # A fresh temporal layer ends in zeros; a step away from them all of it has gradients.
        for name, parameter in task.model.unet.named_parameters():
            if "motion_modules" in name and "proj_out" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        batch, draws = make_batch(task, [r])
        task.model(batch, draws).total.backward()
        names = {1: ("appearance_encoder.", "controlnet."), 2: ("unet.",)}[stage]
        silent = [
            name
            for name, parameter in task.model.named_parameters()
            if name.startswith(names)
            and (stage == 1 or is_motion_key(name))
            and (parameter.grad is None or not parameter.grad.any())
        ]
        # A key's bias moves all scores alike; others follow sums that a norm takes out again.
        assert not [name for name in silent if not name.endswith("bias")], silent


def test_amplified_regions_weigh_more_and_have_to_be_masked() -> None:
    batch, draws = make_batch(make_task(), [0.9])
    plain = float(make_task(drop_reference=0).model(batch, draws).total.detach())
    more = float(make_task(drop_reference=0, amplification={"hands": 5.0}).model(batch, draws).total.detach())
    assert more > plain
    with pytest.raises(ConfigError, match="names the regions face, but the data masks hands"):
        make_task(amplification={"face": 2.0}).draw(make_sample(0), torch.Generator())


def test_settings_that_cannot_be_are_told() -> None:
    with pytest.raises(ConfigError, match="expected tau_1 <= tau_2"):
        build(MagicAnimateObjective, {"tau_1": 0.5, "tau_2": 0.1}, "objective")


def test_validation_videos_and_exports_are_of_the_weights() -> None:
    task = load_task("magic_animate").from_pipeline(
        MagicAnimateTask.tiny_pipeline(height=SIDE, width=SIDE, seed=0), MagicAnimateObjective()
    )
    video = task.generate(make_sample(0), seed=1)
    assert video.shape == (FRAMES, 3, SIDE, SIDE)
    assert torch.equal(video, task.generate(make_sample(0), seed=1))
    exported = task.released_files()[TEMPORAL_FILE]
    own = {k: v for k, v in task.pipeline().unet.state_dict().items() if is_motion_key(k)}
    back = to_diffusers(exported, source="the export")
    assert back.keys() == own.keys()
    assert all(torch.equal(back[key], own[key]) for key in own)


@pytest.mark.parametrize("stage", [1, 2])
def test_computing_activations_again_changes_no_gradient(stage: int) -> None:
    """Clips and pictures pass one after the other; what is computed again must be of its own pass."""

    def gradients(is_saving: bool) -> list[Tensor]:
        task = make_task(stage=stage, tau_1=0.2, tau_2=0.5)
        save_memory(task.model, gradient_checkpointing=is_saving)
        task.model.train()
        batch, draws = make_batch(task, [0.3, 0.9])  # in stage 2 a picture and a clip
        task.model(batch, draws).total.backward()
        return [p.grad for p in task.model.parameters() if p.grad is not None]

    plain, saving = gradients(False), gradients(True)
    assert len(plain) == len(saving)
    for one, other in zip(plain, saving):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
