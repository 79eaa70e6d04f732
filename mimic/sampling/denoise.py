"""The denoising loop. It takes latents, windows and a callable that predicts, never a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor, list[int]], Tensor]
"""``predict(latents, t, frames)`` returns the guided prediction for the scaled latents ``B x f x …`` of the
given f frames. `t` is on the device of the latents, and the same tensor for all windows of a step."""
Like = Callable[[int], tuple[tuple[int, ...], torch.dtype, torch.device]]
"""Shape, dtype and device of the prediction of a window, by its number."""
Share = Callable[[int, Callable[[int], Tensor], Like], Iterator[Tensor]]
"""``share(num_windows, compute, like)`` yields ``compute(number)`` for all windows in order, computed by this
process or another one."""


class NotFiniteError(ArithmeticError):
    """The model, or the decoder, gave numbers that are not finite; what follows would be a black video."""


def check_finite(tensor: Tensor, what: str) -> None:
    """Refuse NaN and infinity.

    Args:
        what: begins the message, as in ``the latents after step 2 of 25``.

    Raises:
        NotFiniteError: with the likely causes.
    """
    if torch.isfinite(tensor).all():
        return
    num = int((~torch.isfinite(tensor)).sum())
    raise NotFiniteError(
        f"{what} hold {num} of {tensor.numel()} numbers that are not finite (NaN or infinite). Likely "
        "causes: float16 that overflows (dtype=bfloat16 or float32), an extreme setting (guidance_scale, "
        "noise_aug_strength, control_scale), or weights of another model"
    )


def denoise(
    predict: Predict,
    latents: Tensor,
    *,
    scheduler: Any,
    timesteps: Sequence[Tensor] | Tensor,
    windows: list[list[int]],
    weights: list[Tensor],
    step_arguments: dict[str, Any] | None = None,
    share: Share | None = None,
    after_window: Callable[[], object] = lambda: None,
    after_step: Callable[[int, Tensor, Tensor], Tensor] = lambda _i, _t, latents: latents,
    is_interrupted: Callable[[], bool] = lambda: False,
    num_done: int = 0,
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
        share: shares the windows of a step among processes; by default they are predicted one by one.
        after_window: called after each window, for example to update a progress bar.
        after_step: called with ``(index, t, latents)`` after each step; sampling continues from the latents
            it returns.
        is_interrupted: called after `after_step`; sampling ends with its latents if it returns true.
        num_done: number of steps that an interrupted run has finished, after which `latents` are.

    Returns:
        denoised latents of the same shape.

    Raises:
        NotFiniteError: latents after a step hold NaN or infinity.
    """
    # In two steps: Apple's GPUs take no float64, in which weights may be computed.
    weights = [
        weight.to(latents.dtype).to(latents.device).view(1, -1, *[1] * (latents.ndim - 2))
        for weight in weights
    ]
    indices = [torch.tensor(frames, device=latents.device) for frames in windows]
    listed = torch.stack(list(timesteps))
    # Those of some schedulers are float64; networks compute with float32.
    listed = listed.float() if listed.dtype == torch.float64 else listed
    on_device = listed.to(latents.device).unbind()
    shape, rest = latents.shape, latents.shape[2:]
    dtype, device = latents.dtype, latents.device

    def like(number: int) -> tuple[tuple[int, ...], torch.dtype, torch.device]:
        return (shape[0], len(windows[number]), *rest), dtype, device

    for i, t in enumerate(timesteps[num_done:], start=num_done):
        model_input = scheduler.scale_model_input(latents, t)
        fused = torch.zeros_like(latents)

        def predict_window(
            number: int, model_input: Tensor = model_input, t: Tensor = on_device[i]
        ) -> Tensor:
            return predict(model_input[:, indices[number]], t, windows[number]).to(device, dtype)

        predictions = (share or _one_by_one)(len(windows), predict_window, like)
        for index, weight, predicted in zip(indices, weights, predictions, strict=True):
            fused[:, index] += weight * predicted
            after_window()
        latents = scheduler.step(fused, t, latents, **(step_arguments or {})).prev_sample
        check_finite(latents, f"the latents after step {i + 1} of {len(timesteps)}")
        latents = after_step(i, on_device[i], latents)
        if is_interrupted():
            break
    return latents


def _one_by_one(num_windows: int, compute: Callable[[int], Tensor], like: Like) -> Iterator[Tensor]:
    return map(compute, range(num_windows))
