"""What a step does to weights and average, by numbers that are found in another way."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mimic.data.batch import Sample
from mimic.metrics.image import psnr
from mimic.training.engine import make_accelerator, make_optimiser
from mimic.training.export import export, finished
from mimic.training.loop import one_step
from mimic.training.setup import set_up
from mimic.training.validate import measure
from tests.mimic.training.small import Said, quick_settings, small_settings


def test_gradients_are_scaled_down_to_the_norm_that_is_asked_for(tmp_path):
    settings = quick_settings(tmp_path, clip_norm=1e-3, optimiser={"learning_rate": 1e-9})
    run = set_up(settings, make_accelerator(settings), say=Said(), is_dry_run=True)
    seen = []
    run.optimiser.optimizer.register_step_pre_hook(
        lambda *_: seen.append(torch.cat([p.grad.flatten() for p in run.parameters.values()]).norm())
    )
    result, _ = one_step(run, run.batches())
    assert result.norm > 1e-3, "reported as it was"
    assert float(seen[0]) == pytest.approx(1e-3, rel=1e-2)


def test_the_average_follows_fast_at_first_and_then_by_its_decay(tmp_path):
    settings = quick_settings(tmp_path, ema_decay=0.15, optimiser={"learning_rate": 0.1}, schedule={})
    run = set_up(settings, make_accelerator(settings), say=Said(), is_dry_run=True)
    expected = {name: value.clone() for name, value in run.average.items()}
    batches = run.batches()
    # min(decay, n / (n + 9)) after step n: the first step is forgotten nearly at once.
    for decay in (1 / 10, 0.15, 0.15):
        one_step(run, batches)
        for name, parameter in run.parameters.items():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach()
            torch.testing.assert_close(run.average[name], expected[name], rtol=1e-5, atol=1e-7)


def test_matrices_and_convolutions_decay_and_biases_norms_and_scales_do_not(tmp_path):
    layers = {"conv": nn.Conv2d(2, 3, 3), "linear": nn.Linear(2, 3), "norm": nn.GroupNorm(1, 2)}
    parameters = dict(nn.ModuleDict(layers).named_parameters()) | {"scale": nn.Parameter(torch.tensor(2.0))}
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    options = {"learning_rate": 0.1, "weight_decay": 0.5}
    optimiser = make_optimiser(parameters, small_settings(tmp_path, optimiser=options))
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    for name, parameter in parameters.items():
        factor = 1 - 0.1 * 0.5 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)


def test_weights_that_are_shared_out_leave_as_their_average(tmp_path):
    settings = quick_settings(tmp_path, optimiser={"learning_rate": 0.1})
    run = set_up(settings, make_accelerator(settings), say=Said(), is_dry_run=True)
    one_step(run, run.batches())
    average = {name: value.clone() for name, value in run.average.items()}
    run.model.zero_grad()
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        share = torch.distributed.tensor.distribute_tensor
        run.parameters = {n: share(p.detach(), mesh) for n, p in run.parameters.items()}
        run.average = {n: share(a, mesh) for n, a in run.average.items()}
        with finished(run) as task:
            assert task is not run.task, "whole networks beside the shared-out ones"
            export(task, tmp_path / "final")
    finally:
        torch.distributed.destroy_process_group()
    final = load_file(tmp_path / "final" / "mimicmotion.safetensors")
    for name, value in average.items():
        assert torch.equal(final[name], value)
        assert not torch.equal(final[name], run.parameters[name].to_local())


def test_the_hands_of_a_frame_are_measured_in_that_frame():
    F, rng = 3, np.random.default_rng(0)
    frames = torch.from_numpy(rng.uniform(-0.5, 0.5, (F, 3, 16, 16))).float()
    masks = torch.zeros(F + 1, 1, 4, 4)
    for frame, column in enumerate((0, 1, 2)):
        masks[frame + 1, 0, 1, column] = 1.0  # mask 0 is the reference's
    masks[0, 0, 3, 3] = 1.0
    sample = Sample(frames, frames[0], torch.zeros(F + 1, 3, 16, 16), {"hands": masks}, "clip")
    generated = (frames / 2 + 0.5).clone()
    generated[1, :, 4:8, 4:8] += 0.25  # the hand of frame 1, and of no other
    pixels = np.stack([(frames / 2 + 0.5).numpy(), generated.numpy()]).clip(0, 1)
    truth, found = ((video.transpose(0, 2, 3, 1) * 255).round().astype(np.uint8) for video in pixels)
    patches = [(f, slice(4, 8), slice(4 * f, 4 * f + 4)) for f in range(F)]
    expected = psnr(*(np.stack([video[patch] for patch in patches]) for video in (found, truth)))
    assert measure(sample, generated)["hand_psnr"] == pytest.approx(expected, abs=0.05)
    elsewhere = (frames / 2 + 0.5).clone()
    elsewhere[0, :, 4:8, 4:8] += 0.25  # where frame 1's hand is, a frame early
    assert measure(sample, elsewhere)["hand_psnr"] > expected + 20
