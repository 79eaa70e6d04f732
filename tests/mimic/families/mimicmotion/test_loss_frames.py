"""Each weight of the loss acts on the frame, the region and the noise levels that it is about."""

import pytest
import torch

from mimic.data.batch import collate
from mimic.families.mimicmotion import objective
from tests.mimic.families.mimicmotion.test_training import FRAMES, draw, make_sample, make_task


@pytest.mark.parametrize(("frame", "factor"), [(0, 0.25), (1, 1.0), (FRAMES, 1.0)])
def test_the_reference_frames_weight_is_that_of_frame_0(frame, factor):
    def loss_of(weight):
        task = make_task(amplification={}, reference_frame_weight=weight)
        x0 = torch.zeros(1, FRAMES + 1, 4, 2, 2)
        x0_hat = x0.clone()
        x0_hat[:, frame] = 1.0
        return float(task.model._loss(x0_hat, x0, torch.ones(1), {}).total)

    assert loss_of(0.25) == pytest.approx(factor * loss_of(1.0))


def test_noise_levels_are_held_within_their_range():
    samples = [make_sample()] * 200
    free = draw(make_task(), samples)["sigma"]
    held = draw(make_task(sigma_range=[0.5, 4.0]), samples)["sigma"]
    assert float(free.min()) < 0.5
    assert float(free.max()) > 4.0
    assert torch.equal(held, free.clamp(0.5, 4.0))


@pytest.mark.parametrize("with_reference_frame", [True, False])
def test_masks_weigh_their_own_frames_with_and_without_the_references(with_reference_frame):
    task = make_task(amplification={"hands": 9.0}, with_reference_frame=with_reference_frame)
    sample = make_sample()
    mask = torch.zeros_like(sample.masks["hands"])
    for frame in range(FRAMES + 1):
        mask[frame] = frame / FRAMES  # a share of its own in each frame
    sample.masks["hands"] = mask
    batch, draws = task.encode(collate([sample])), draw(task, [sample])
    outputs = []
    handle = task.model.unet.register_forward_hook(lambda _, inputs, output: outputs.append(output[0]))
    with torch.no_grad():
        total = float(task.model(batch, draws).total)
    handle.remove()
    scale, sigma = task.model.scaling_factor, draws["sigma"]
    x0 = batch.latents * scale
    if with_reference_frame:
        x0 = torch.cat([batch.reference_latents[:, None] * scale, x0], dim=1)
    noisy = x0 + sigma.view(1, 1, 1, 1, 1) * draws["noise"]
    error = objective.denoised(outputs[0], noisy, sigma) - x0
    first = 0 if with_reference_frame else 1
    shares = torch.arange(first, FRAMES + 1) / FRAMES
    of_frames = error.square().mean(dim=(0, 2, 3, 4))  # T
    plain = float(objective.edm_loss(x0 + error, x0, sigma))
    # w_hand scales the loss within the mask; a share of a pixel counts by its share.
    amplified = (of_frames * (1 + (9.0 - 1) * shares)).mean() / of_frames.mean()
    assert total == pytest.approx(plain * float(amplified), rel=1e-4)
