"""Losses at fixed noise levels and fixed noise change with the weights and with nothing else."""

import pytest
import torch

from mimic.data.dataset import build_dataset
from mimic.training.engine import make_accelerator
from mimic.training.loop import one_step
from mimic.training.setup import fit_data, set_up
from mimic.training.tasks import make_task
from mimic.training.validate import losses_by_level
from tests.mimic.training.small import Said, small_settings


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("mimicmotion", ["loss_sigma_0.183", "loss_sigma_0.905", "loss_sigma_4.48", "loss_sigma_22.2"]),
        ("animate_anyone", ["loss_t_125", "loss_t_375", "loss_t_625", "loss_t_875"]),
        ("magic_animate", ["loss_t_125", "loss_t_375", "loss_t_625", "loss_t_875"]),
    ],
)
def test_losses_by_level_change_with_the_weights_alone(tmp_path, family, names):
    data = {"pose_kind": "densepose"} if family == "magic_animate" else {}
    settings = small_settings(tmp_path, family=family, data={"height": 64, "width": 64, **data})
    task = make_task(settings)
    task.model.eval()
    sample = build_dataset(fit_data(settings.data, task), split="val", seed=0)[0, 0]
    first = losses_by_level(task, sample, seed=3)
    assert list(first) == names
    assert len(set(first.values())) == 4
    torch.rand(5)
    assert losses_by_level(task, sample, seed=3) == first
    assert losses_by_level(task, sample, seed=4) != first
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.mul_(1.01)
    assert all(first[name] != value for name, value in losses_by_level(task, sample, seed=3).items())


@pytest.mark.parametrize("family", ["mimicmotion", "animate_anyone", "magic_animate"])
def test_the_losses_of_steps_are_logged_by_the_levels_of_validation(tmp_path, family):
    data = {"pose_kind": "densepose"} if family == "magic_animate" else {}
    settings = small_settings(
        tmp_path, family=family, max_steps=1, batch_size=4, accumulate=2,
        data={"height": 64, "width": 64, "num_clips": 4, **data},
    )  # fmt: skip
    run = set_up(settings, make_accelerator(settings), say=Said(), is_dry_run=True)
    result, _ = one_step(run, run.batches())
    assert set(result.levels) <= set(losses_by_level(run.task, run_sample(run), seed=0))
    sums = torch.zeros(2, 4)
    axis = torch.stack([run.task.place_of_level(fixed) for fixed in run.task.noise_levels().values()])
    middles = (axis[1:] + axis[:-1]) / 2
    losses, draws = [1.0, 2.0, 4.0], {"sigma": middles.exp() * 1.01, "t": middles.long() + 1}
    sums += run.levels.sums(draws, torch.tensor(losses))
    assert run.levels.means(sums.flatten().tolist()) == dict(zip(run.levels.names[1:], losses))
    # The levels' means, each with its number of samples, make up the loss of the step.
    assert min(result.levels.values()) <= result.loss * (1 + 1e-6)
    assert max(result.levels.values()) >= result.loss * (1 - 1e-6)


def run_sample(run):
    return build_dataset(run.dataset.settings, split="val", seed=0)[0, 0]
