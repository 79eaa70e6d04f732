"""Losses at fixed noise levels and fixed noise change with the weights and with nothing else."""

import pytest
import torch

from mimic.data.dataset import build_dataset
from mimic.training.setup import fit_data
from mimic.training.tasks import make_task
from mimic.training.validate import losses_by_level
from tests.mimic.training.small import small_settings


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
