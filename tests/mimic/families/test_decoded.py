"""The loss on decoded crops: what it computes, where the crops lie, and that all families have it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mimic.config.loading import ConfigError, build
from mimic.data.batch import Sample, collate
from mimic.families.ddpm import denoised, noised, target_of
from mimic.families.decoded import CROPS, decoded_loss, pixel_error
from mimic.families.registry import load_task, trained_families
from mimic.families.task import TrainingTask
from mimic.models.vae import decode_frames, vae_downscale

SIDE, FRAMES = 32, 2


def make_task(family: str, **objective: object) -> TrainingTask:
    kind = load_task(family)
    pipeline = kind.tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    if hasattr(pipeline.scheduler.config, "rescale_betas_zero_snr"):
        pipeline.scheduler.register_to_config(prediction_type="v_prediction")
    return kind.from_pipeline(pipeline, build(kind.Settings, objective, "objective"))


def make_sample(task: TrainingTask) -> Sample:
    generator = torch.Generator().manual_seed(0)
    h = SIDE // vae_downscale(task.pipeline().vae)

    def pixels(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, SIDE, SIDE, generator=generator) * 2 - 1

    masks = {name: torch.zeros(FRAMES + 1, 1, h, h) for name in ("face", "hands")}
    masks["face"][:, :, 0, 0] = 1
    return Sample(pixels(FRAMES), pixels(), pixels(FRAMES + 1), masks, key="clip")


def loss_of(task: TrainingTask, *, seed: int = 1):
    sample = make_sample(task)
    draws = task.draw(sample, torch.Generator().manual_seed(seed))
    return task.model(task.encode(collate([sample])), {name: drawn[None] for name, drawn in draws.items()})


def test_errors_of_pixels_and_of_their_differences_are_summed_with_the_weight():
    made, true, weight = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2), torch.ones(1, 1, 2, 2)
    made[:, :, 1, 1], weight[..., 1, 1] = 0.5, 3.0
    # |d| + d^2 in one pixel of four, and one of the two differences along either axis.
    expected = 3 * (0.5 + 0.25) / 4 + 2 * 3 * 0.5 / 2
    assert pixel_error(made, true, weight).item() == pytest.approx(expected)
    assert pixel_error(true, made, weight).item() == pytest.approx(expected)


def test_a_crop_of_the_whole_frame_is_the_error_of_decoded_frames():
    vae = make_task("mimicmotion").pipeline().vae
    x0_hat, x0 = torch.randn(2, 1, FRAMES, 4, 8, 8).unbind()
    found = decoded_loss(vae, x0_hat, x0, {}, torch.rand(1, FRAMES, 2), factors={}, centres={}, side=99)
    scale = vae.config.scaling_factor
    with torch.no_grad():
        made, true = (torch.cat(list(decode_frames(vae, each[0] * scale, 1))) for each in (x0_hat, x0))
    weight = torch.ones(FRAMES, 1, *made.shape[-2:])
    torch.testing.assert_close(found, pixel_error(made, true, weight).mean()[None], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("centres", [{"face": 1.0}, {}])
def test_crops_lie_around_their_region_and_only_they_get_a_gradient(centres):
    vae = make_task("mimicmotion").pipeline().vae
    x0 = torch.randn(1, 1, 4, 8, 8)
    x0_hat = torch.randn(1, 1, 4, 8, 8, requires_grad=True)
    face = torch.zeros(1, 1, 1, 8, 8)
    face[..., 0, 0] = 0.3
    seen = set()
    for number in range(60):
        numbers = torch.rand(1, 1, 2, generator=torch.Generator().manual_seed(number))
        x0_hat.grad = None
        loss = decoded_loss(vae, x0_hat, x0, {"face": face}, numbers, factors={}, centres=centres, side=2)
        loss.sum().backward()
        rows, columns = (x0_hat.grad[0, 0].abs().sum(0) > 0).nonzero().unbind(1)
        assert (rows.max() - rows.min(), columns.max() - columns.min()) == (1, 1)
        seen.add((int(rows.min()), int(columns.min())))
    assert all(parameter.grad is None for parameter in vae.parameters())
    if centres:
        assert seen == {(0, 0)}
    else:
        assert {0, 3, 6} <= {row for row, _ in seen}, "anywhere"
        assert {0, 3, 6} <= {column for _, column in seen}


def test_no_number_is_read_back_from_the_device():
    vae = make_task("mimicmotion").pipeline().vae.to("meta")
    x0, mask = torch.randn(1, FRAMES, 4, 8, 8, device="meta"), torch.rand(1, FRAMES, 1, 8, 8, device="meta")
    numbers = torch.rand(1, FRAMES, 2, device="meta")
    loss = decoded_loss(vae, x0, x0, {"face": mask}, numbers, factors={}, centres={"face": 0.5}, side=4)
    assert loss.shape == (1,)


def test_shares_of_the_centres_are_kept_and_an_absent_region_leaves_its_crops_to_the_frame():
    vae = make_task("mimicmotion").pipeline().vae
    corner, nowhere = torch.zeros(1, 1, 1, 8, 8), torch.zeros(1, 1, 1, 8, 8)
    corner[..., 7, 7] = 1.0
    latents = torch.zeros(1, 1, 4, 8, 8)
    counts = {"face": 0, "other": 0}
    for number in range(200):
        x0_hat = latents.clone().requires_grad_(True)
        with torch.no_grad():
            x0_hat += torch.randn(x0_hat.shape, generator=torch.Generator().manual_seed(number))
        numbers = torch.rand(1, 1, 2, generator=torch.Generator().manual_seed(1000 + number))
        decoded_loss(
            vae, x0_hat, latents, {"face": corner, "hands": nowhere}, numbers,
            factors={}, centres={"hands": 0.25, "face": 0.5}, side=1,
        ).sum().backward()  # fmt: skip
        is_corner = bool(x0_hat.grad[0, 0, :, 7, 7].abs().sum() > 0)
        counts["face" if is_corner else "other"] += 1
    assert 80 <= counts["face"] <= 120


@pytest.mark.parametrize("family", trained_families())
def test_every_family_adds_it_and_learns_by_it(family):
    plain = loss_of(make_task(family))
    task = make_task(family, decoded_weight=2.0, decoded_crop=2, decoded_centres={"face": 1.0})
    loss = loss_of(task)
    assert float(loss.total.detach()) > float(plain.total.detach())
    assert float(loss.by_sample.mean()) == pytest.approx(float(loss.total.detach()), rel=1e-5)
    once = loss_of(make_task(family, decoded_weight=1.0, decoded_crop=2, decoded_centres={"face": 1.0}))
    added = [float((each.total - plain.total).detach()) for each in (loss, once)]
    assert added[0] == pytest.approx(2 * added[1], rel=1e-3), "in proportion to its weight"
    trained = [parameter for parameter in task.model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=1e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        total = loss_of(task).total
        total.backward()
        optimiser.step()
        losses.append(float(total.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_the_true_prediction_of_v_gives_back_the_latents():
    scheduler = make_task("animate_anyone").pipeline().scheduler
    x0, eps = torch.randn(2, 3, 2, 4, 8, 8).unbind()
    t = torch.tensor([1, 500, 999])
    v = target_of(scheduler, x0, eps, t)
    torch.testing.assert_close(
        denoised(scheduler, v, noised(scheduler, x0, eps, t), t), x0, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("family", trained_families())
def test_what_is_decoded_are_the_targets(family, monkeypatch):
    task = make_task(family, decoded_weight=1.0, decoded_crop=2)
    seen = []

    def keep(x0_hat, x0, masks, draws):
        seen.append((x0_hat, x0))
        return torch.zeros(1)

    monkeypatch.setattr(task.model, "decoded_loss", keep)
    loss_of(task)
    ((x0_hat, x0),) = seen
    assert x0_hat.shape == x0.shape
    latents = task.encode(collate([make_sample(task)])).latents * task.pipeline().vae.config.scaling_factor
    torch.testing.assert_close(x0, latents)


def test_its_numbers_are_drawn_after_all_others():
    plain, decoded = (make_task("mimicmotion", decoded_weight=weight) for weight in (0.0, 1.0))
    sample = make_sample(plain)
    first, second = (task.draw(sample, torch.Generator().manual_seed(3)) for task in (plain, decoded))
    assert set(second) - set(first) == {CROPS}
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_cannot_be_decoded_is_told():
    kind = load_task("animate_anyone")
    pipeline = kind.tiny_pipeline(height=SIDE, width=SIDE, seed=0)
    pipeline.scheduler.register_to_config(prediction_type="epsilon")
    settings = build(kind.Settings, {"decoded_weight": 1.0}, "objective")
    with pytest.raises(ConfigError, match="needs a model with prediction_type v_prediction"):
        kind.from_pipeline(pipeline, settings)
    with pytest.raises(ConfigError, match="together 1 at most"):
        build(kind.Settings, {"decoded_centres": {"face": 0.7, "hands": 0.5}}, "objective")
    task = make_task("mimicmotion", decoded_weight=1.0, decoded_centres={"feet": 1.0})
    with pytest.raises(ConfigError, match="names the regions feet, but the data masks face, hands"):
        task.draw(make_sample(task), torch.Generator())
