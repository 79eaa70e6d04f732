"""The denoising loop. It takes latents, windows and a callable that predicts, never a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor, list[int]], Tensor]
"""``predict(latents, t, frames)`` returns the guided prediction for the scaled latents ``B x f x …`` of the
given f frames. `t` is on the device of the latents, and the same tensor for all windows of a step."""


def denoise(
    predict: Predict,
    latents: Tensor,
    *,
    scheduler: Any,
    timesteps: Sequence[Tensor] | Tensor,
    windows: list[list[int]],
    weights: list[Tensor],
    step_arguments: dict[str, Any] | None = None,
    after_window: Callable[[], object] = lambda: None,
    after_step: Callable[[int, Tensor, Tensor], Tensor | None] = lambda _i, _t, latents: latents,
) -> Tensor:
    """Denoise a clip of any length: at each timestep, predict each window, fuse the predictions, step.

    Args:
        predict: the model's guided prediction for a window, see `Predict`.
        latents: ``B x F x C x H x W``, noise times the scheduler's initial sigma, float32; sums and steps are
            computed in this precision, whatever the model's.
        scheduler: a diffusers scheduler whose `set_timesteps` has been called.
        timesteps: the timesteps to run, in order. If they are on the CPU, the loop waits for no device.
        windows: frame indices of each window.
        weights: fusion weights of each window, summing to one at every frame.
        step_arguments: further arguments of `scheduler.step`.
        after_window: called after each window, for example to update a progress bar.
        after_step: called with ``(index, t, latents)`` after each step; sampling continues from the latents
            it returns, and stops if it returns None.

    Returns:
        denoised latents of the same shape.
    """
    weights = [weight.to(latents).view(1, -1, *[1] * (latents.ndim - 2)) for weight in weights]
    indices = [torch.tensor(frames, device=latents.device) for frames in windows]
    on_device = [t.to(latents.device) for t in timesteps]
    for i, t in enumerate(timesteps):
        model_input = scheduler.scale_model_input(latents, t)
        fused = torch.zeros_like(latents)
        for frames, index, weight in zip(windows, indices, weights, strict=True):
            fused[:, index] += weight * predict(model_input[:, index], on_device[i], frames).to(latents)
            after_window()
        latents = scheduler.step(fused, t, latents, **(step_arguments or {})).prev_sample
        replaced = after_step(i, on_device[i], latents)
        if replaced is None:
            break
        latents = replaced
    return latents
