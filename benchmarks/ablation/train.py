"""How are the arms trained? On the same windows with the same noise, nothing but their idea differing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.ablation.dancers import DOWNSCALE, load
from benchmarks.ablation.denoiser import Denoiser
from benchmarks.ablation.settings import ARMS, AblationSettings
from benchmarks.ablation.windows import Window
from mimic.families.amplification import amplify
from mimic.families.mimicmotion import objective
from mimic.miniature.other_vae import pose_strides
from mimic.models.mini import MiniTemporalVAE
from mimic.training.state import (
    checkpoints,
    load_optimiser_tensors,
    load_state,
    optimiser_tensors,
    save_state,
)


def arms_of(settings: AblationSettings) -> list[tuple[str, int]]:
    """Every arm with every seed, a seed after the other."""
    return [(arm, seed) for seed in settings.seeds for arm in ARMS]


def build(settings: AblationSettings) -> Denoiser:
    """The denoiser of all arms; its first weights follow from torch's seed."""
    channels = MiniTemporalVAE.load_config(settings.vae)["latent_channels"]
    return Denoiser(latent_channels=channels, width=settings.width, pose_strides=pose_strides(DOWNSCALE))


def train_arm(settings: AblationSettings, arm: str, seed: int, *, progress: bool = True) -> Path:
    """Train one arm, or go on with it; returns its last checkpoint.

    Arms of a seed start from the same weights; step s meets the same windows and noise in all of them, also
    after an interruption.
    """
    folder = settings.folder / f"{arm}{seed}"
    found = checkpoints(folder)
    if found and found[-1].name == f"checkpoint-{settings.steps}":
        return found[-1]
    mode, w_hand = ARMS[arm]
    buffer = load(settings, mode)
    torch.manual_seed(seed)
    model = build(settings)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=1e-2, fused=True
    )
    average = {name: value.clone() for name, value in model.state_dict().items()}
    start = 0
    if found:
        tensors, facts = load_state(found[-1])
        model.load_state_dict(tensors["model"])
        average, start = tensors["average"], facts["step"]
        load_optimiser_tensors(optimiser, tensors["optimiser"])
    for step in tqdm(range(start, settings.steps), desc=f"{arm}{seed}", disable=not progress, mininterval=20):
        buffer.rng = np.random.default_rng([seed, step])
        window = buffer.draw(settings.batch_size, settings.frames, timing="random")
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16"):
            value = loss(model, window, w_hand, settings, generator)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings.steps)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimiser.step()
        with torch.no_grad():
            decay = min(0.99, (1 + step) / (10 + step))
            for name, value_now in model.state_dict().items():
                average[name].lerp_(value_now, 1 - decay)
        done = step + 1
        if done % settings.save_every == 0 or done == settings.steps:
            print(f"{arm}{seed} step {done} loss {value.item():.4f}", flush=True)
            groups = {
                "model": model.state_dict(),
                "average": average,
                "optimiser": optimiser_tensors(optimiser),
            }
            save_state(folder, done, tensors=groups, facts={"arm": arm, "seed": seed})
    return checkpoints(folder)[-1]


def loss(
    model: Denoiser, window: Window, w_hand: float, settings: AblationSettings, generator: torch.Generator
) -> Tensor:
    """EDM's loss of the targets, `w_hand` times as much in the hands' rectangles.

    Args:
        window: picture 0 of each is the reference; region 1 are the hands.
    """
    x0 = window.latents[:, 1:]
    sigma = objective.sample_sigma(len(x0), P_mean=settings.P_mean, P_std=settings.P_std, generator=generator)
    noisy = x0 + objective.as_latent_shape(sigma) * torch.randn(x0.shape, generator=generator)
    reference = window.latents[:, 0] / window.scaling_factor
    x0_hat = denoised(model, noisy, sigma, reference, window.maps[:, 1:], window.maps[:, 0])
    amplification = amplify({"hands": window.regions[:, 1:, 1:2]}, {"hands": w_hand})
    return objective.edm_loss(x0_hat, x0, sigma, amplification=amplification)


def denoised(
    model: Denoiser, noisy: Tensor, sigma: Tensor, reference: Tensor, maps: Tensor, reference_map: Tensor
) -> Tensor:
    """x0 as the model estimates it; arguments as `Denoiser.forward`, `noisy` unscaled, `sigma` ``B``."""
    scaled = objective.c_in(objective.as_latent_shape(sigma)) * noisy
    output = model(scaled, objective.c_noise(sigma), reference, maps, reference_map)
    return objective.denoised(output, noisy, sigma)


def _schedule(step: int, steps: int) -> float:
    """A short warm-up, then level, then linearly down to a twentieth over the last half."""
    return min(1.0, (step + 1) / 30) * max(0.05, min(1.0, 2 * (steps - step) / steps))
