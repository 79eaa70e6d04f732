"""MimicMotion's training: the UNet sees what inference shows it, draws are one's own, exports load again."""

import pytest
import torch

from mimic import MimicMotionPipeline
from mimic.config.loading import ConfigError
from mimic.data.batch import Sample, collate
from mimic.families.mimicmotion.training import SINGLE_FILE, MimicMotionObjective, MimicMotionTask
from mimic.families.registry import load_task
from mimic.models.vae import encode_images

SIDE, FRAMES = 16, 2


def make_sample(seed: int = 0) -> Sample:
    generator = torch.Generator().manual_seed(seed)

    def pixels(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, 3, SIDE, SIDE, generator=generator) * 2 - 1

    hands = (torch.rand(FRAMES + 1, 1, SIDE // 4, SIDE // 4, generator=generator) > 0.8).float()
    return Sample(pixels(FRAMES), pixels(), pixels(FRAMES + 1), {"hands": hands}, key=f"clip {seed}")


def make_task(**settings) -> MimicMotionTask:
    pipeline = MimicMotionTask.tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    return MimicMotionTask.from_pipeline(pipeline, MimicMotionObjective(**settings))


def draw(task: MimicMotionTask, samples: list[Sample], seed: int = 0) -> dict[str, torch.Tensor]:
    draws = [
        task.draw(sample, torch.Generator().manual_seed(seed + place)) for place, sample in enumerate(samples)
    ]
    return {name: torch.stack([own[name] for own in draws]) for name in draws[0]}


def unet_inputs(task: MimicMotionTask, run) -> list[dict[str, torch.Tensor]]:
    """What the UNet is called with while `run` runs."""
    calls = []

    def keep(_module, args, kwargs):
        names = ("sample", "timestep", "embedding", "time_ids")
        given = dict(zip(names, args), **{k: v for k, v in kwargs.items() if isinstance(v, torch.Tensor)})
        renamed = {"encoder_hidden_states": "embedding", "added_time_ids": "time_ids"}
        calls.append({renamed.get(name, name): value for name, value in given.items()})

    handle = task.model.unet.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        run()
    handle.remove()
    return calls


@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
def test_the_unet_is_given_what_inference_gives_it(branch):
    task, sample = make_task(drop_pose=0, drop_reference=0, drop_image_embedding=0), make_sample()
    pipe = task.pipeline()
    noise = torch.randn(1, FRAMES + 1, 4, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(5))
    at_inference = unet_inputs(
        task,
        lambda: pipe(
            (sample.reference + 1) / 2, image_pose=sample.pose_maps, num_inference_steps=1, latents=noise,
            min_guidance_scale=2.0, max_guidance_scale=2.0, output_type="latent",
            batch_guidance=False,
        ),
    )[branch == "unconditional"]  # fmt: skip

    # The noise that makes training's noisy latents those that sampling begins with.
    batch = task.encode(collate([sample]))
    sigma = pipe.scheduler.sigmas[0]
    x0 = torch.cat([batch.reference_latents[:, None], batch.latents], dim=1) * pipe.vae.config.scaling_factor
    draws = draw(task, [sample])
    draws |= {
        "sigma": sigma[None],
        "noise": (noise * pipe.scheduler.init_noise_sigma - x0) / sigma,
    }
    if branch == "unconditional":
        draws |= {name: torch.zeros(1) for name in draws if name.startswith("keep_")}
    (in_training,) = unet_inputs(task, lambda: task.model(batch, draws))

    pose = at_inference.pop("pose_latents", torch.zeros_like(in_training["pose_latents"]))
    assert torch.allclose(in_training.pop("pose_latents"), pose, atol=1e-5)
    assert in_training.keys() == at_inference.keys()
    for name, value in at_inference.items():
        assert torch.allclose(in_training[name].reshape(value.shape), value, atol=2e-5), name


def test_without_masks_or_at_factor_one_the_loss_is_the_plain_one_bit_for_bit():
    sample = make_sample()
    draws, losses = None, []
    for factors in ({}, {"hands": 1.0}, {"hands": 10.0}):
        task = make_task(amplification=factors)
        draws = draws or draw(task, [sample])
        loss = task.model(task.encode(collate([sample])), draws)
        losses.append(loss.total)
        assert torch.equal(loss.terms["plain"], losses[0])
    assert torch.equal(losses[0], losses[1])
    assert losses[2] > losses[0]


def test_training_learns_with_or_without_the_reference_frame():
    for with_reference in (True, False):
        task, sample = make_task(with_reference_frame=with_reference), make_sample()
        batch, draws = task.encode(collate([sample])), draw(task, [sample])
        optimiser = torch.optim.AdamW(task.model.parameters(), lr=1e-3)
        losses = []
        for _ in range(3):
            loss = task.model(batch, draws).total
            losses.append(loss.item())
            loss.backward()
            assert all(p.grad is not None for p in task.model.parameters())
            optimiser.step()
            optimiser.zero_grad()
        assert losses[-1] < losses[0]
        assert not any(p.requires_grad for module in task.frozen.values() for p in module.parameters())


def test_draws_are_the_generators_and_dropouts_come_at_their_rates():
    task, sample = make_task(drop_pose=0.5, drop_reference=0.25), make_sample()
    first, again = draw(task, [sample]), draw(task, [sample])
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["noise"], draw(task, [sample], seed=9)["noise"])
    keeps = draw(task, [sample] * 600)
    assert keeps["keep_pose"].mean().item() == pytest.approx(0.5, abs=0.08)
    assert keeps["keep_reference"].mean().item() == pytest.approx(0.75, abs=0.08)
    # One draw decides: whoever drops the rarer one drops the more frequent one, too.
    assert (keeps["keep_pose"] <= keeps["keep_reference"]).all()


def test_noise_of_the_reference_comes_before_the_vae_and_is_told():
    task, samples = make_task(noise_aug_share=1.0, drop_reference=0), [make_sample(0), make_sample(1)]
    batch, draws = task.encode(collate(samples)), draw(task, samples)
    draws["noise_aug"][1] = 0
    (given,) = unet_inputs(task, lambda: task.model(batch, draws))
    noisy = samples[0].reference + draws["noise_aug"][0] * draws["reference_noise"][0]
    with torch.no_grad():
        expected = encode_images(task.pipeline().vae, noisy[None])[0]
    assert torch.equal(given["sample"][0, 0, 4:], expected)
    assert torch.equal(given["sample"][1, 0, 4:], batch.reference_latents[1])
    assert torch.equal(given["time_ids"][:, 2], draws["noise_aug"])
    assert given["time_ids"][:, :2].tolist() == [[6.0, 127.0]] * 2


def test_a_region_without_masks_is_told():
    task = make_task(amplification={"hands": 10.0, "face": 3.0})
    with pytest.raises(ConfigError, match=r"face.*masks hands.*data.regions"):
        draw(task, [make_sample()])


def test_cached_latents_are_taken_as_they_are():
    task, sample = make_task(), make_sample()
    cached = task.encode(collate([sample]))
    again = task.encode(cached)
    assert again.latents is cached.latents
    assert again.reference_latents is cached.reference_latents
    assert again.image_embedding is cached.image_embedding


def test_folder_and_single_file_give_the_same_video(tmp_path):
    from safetensors.torch import save_file

    task, sample = make_task(), make_sample()
    task.pipeline().save_pretrained(tmp_path / "model")
    save_file(task.released_files()[SINGLE_FILE], tmp_path / SINGLE_FILE)
    expected = task.generate(sample, seed=3)
    assert expected.shape == (FRAMES, 3, SIDE, SIDE)
    loaded = (
        MimicMotionPipeline.from_pretrained(tmp_path / "model"),
        MimicMotionPipeline.from_original(tmp_path / "model", tmp_path / SINGLE_FILE),
    )
    for pipe in loaded:
        pipe.set_progress_bar_config(disable=True)
        pipe.generation_defaults = task.pipeline().generation_defaults
        other = MimicMotionTask.from_pipeline(pipe, task.settings)
        assert torch.equal(other.generate(sample, seed=3), expected)


def test_tasks_are_found_by_name():
    assert load_task("mimicmotion") is MimicMotionTask
    with pytest.raises(ValueError, match=r"mimicmotoin.*mimicmotion"):
        load_task("mimicmotoin")
    with pytest.raises(ValueError, match="multiples of 8"):
        MimicMotionTask.tiny_pipeline(height=30, width=32, seed=0)
