"""What every family that can be trained promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mimic.config.loading import build
from mimic.data.batch import Sample, collate
from mimic.families.registry import FAMILIES, load_task, trained_families
from mimic.families.task import Loss, TrainingTask
from mimic.models.memory import save_memory
from mimic.training import trainable

HEIGHT, WIDTH = 16, 24


@pytest.fixture(params=trained_families())
def trained(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_task(family: str, **settings: Any) -> TrainingTask[Any, Any]:
    kind = load_task(family)
    pipeline = kind.tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    return kind.from_pipeline(pipeline, build(kind.Settings, settings, "objective"))


def make_sample(num_frames: int = 3, seed: int = 0) -> Sample:
    generator = seeded(seed)

    def pixels(*shape: int) -> Tensor:
        return torch.rand(*shape, 3, HEIGHT, WIDTH, generator=generator) * 2 - 1

    masks = {
        region: (torch.rand(num_frames + 1, 1, HEIGHT // 4, WIDTH // 4, generator=generator) > 0.5).float()
        for region in ("hands", "face")
    }
    return Sample(pixels(num_frames), pixels(), pixels(num_frames + 1), masks, key=f"clip {seed}")


def step(task: TrainingTask[Any, Any], seeds: tuple[int, ...] = (0, 1)) -> Loss:
    samples = [make_sample(seed=seed) for seed in seeds]
    draws = [task.draw(sample, seeded(seed)) for seed, sample in zip(seeds, samples)]
    batch = task.encode(collate(samples))
    stacked = {name: torch.stack([own[name] for own in draws]) for name in draws[0]}
    loss = task.model(batch, stacked)
    assert isinstance(loss, Loss)
    return loss


def test_draws_follow_from_the_generator_alone(trained: str) -> None:
    task = make_task(trained)
    first, again, other = (task.draw(make_sample(), seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert all(value.device.type == "cpu" for value in first.values())


def test_the_loss_reaches_the_networks_and_leaves_the_frozen_alone(trained: str) -> None:
    task = make_task(trained)
    loss = step(task)
    assert loss.total.shape == ()
    assert torch.isfinite(loss.total)
    loss.total.backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in task.model.parameters() if p.requires_grad and p.grad is not None]
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    assert task.frozen, "a VAE at least is never trained"
    for module in task.frozen.values():
        assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("stage", [1, 2])
def test_computing_activations_again_changes_no_gradient(trained: str, stage: int) -> None:
    settings = {"stage": stage} if "stage" in load_task(trained).Settings.model_fields else {}

    def gradients(is_saving: bool) -> dict[str, Tensor]:
        task = make_task(trained, **settings)
        save_memory(task.model, gradient_checkpointing=is_saving)
        task.model.train()
        step(task).total.backward()  # type: ignore[no-untyped-call]
        return {name: p.grad for name, p in task.model.named_parameters() if p.grad is not None}

    plain, saving = gradients(False), gradients(True)
    assert plain.keys() == saving.keys()
    for name in plain:
        torch.testing.assert_close(saving[name], plain[name], rtol=1e-4, atol=1e-6)


def test_named_parts_are_there(trained: str) -> None:
    task = make_task(trained)
    assert {"unet.temporal", "unet.spatial", "unet.attention"} <= set(task.parts)
    for name in task.parts:
        trainable.select(task.model, (name,), task.parts)
        assert any(p.requires_grad for p in task.model.parameters()), name


def test_what_is_trained_is_what_the_pipeline_runs(trained: str) -> None:
    task = make_task(trained)
    sample = make_sample()
    before = task.generate(sample, seed=0)
    assert before.shape == sample.frames.shape
    assert 0 <= float(before.min()) <= float(before.max()) <= 1
    assert torch.equal(before, task.generate(sample, seed=0))
    assert type(task.pipeline()) is FAMILIES[trained].pipeline_class()
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.mul_(1.1)
    assert not torch.equal(before, task.generate(sample, seed=0))


def test_exports_have_tensors_that_a_file_can_hold(trained: str, tmp_path: Path) -> None:
    files = make_task(trained).released_files()
    assert files
    for name, state in files.items():
        assert name.endswith(".safetensors")
        assert state
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / name)


def test_unknown_regions_are_refused(trained: str) -> None:
    kind = load_task(trained)
    pipeline = kind.tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    task = kind.from_pipeline(pipeline, build(kind.Settings, {"amplification": {"feet": 2.0}}, "objective"))
    draw: Callable[..., Any] = task.draw
    with pytest.raises(ValueError, match="feet"):
        draw(make_sample(), seeded())


@pytest.mark.parametrize(
    "name", [name for name in trained_families() if "timesteps" in load_task(name).Settings.model_fields]
)
def test_timesteps_are_drawn_from_the_range_that_is_asked_for(name: str) -> None:
    task = make_task(name, timesteps=[990, 993])
    drawn = {int(task.draw(make_sample(), seeded(seed))["t"]) for seed in range(30)}
    assert drawn == {990, 991, 992}
    task = make_task(name, timesteps=[500, 1001])
    with pytest.raises(ValueError, match=r"timesteps is \[500, 1001\]; expected .* second <= 1000"):
        task.draw(make_sample(), seeded())
