"""Merge LoRA files into a model.

For each changed layer, a file has ``<layer>.lora_A.weight`` (rank x inputs), ``<layer>.lora_B.weight``
(outputs x rank) and ``<layer>.alpha``; the layer's weight becomes ``W + alpha / rank * B A`` (LoRA,
arXiv 2106.09685). Any other key is a tensor that was fully trained and replaces the model's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mimic.weights.strict import Mismatch, State, WeightsError, read_state

DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
"""Suffixes that follow a layer's name in a key."""


def product(down: Tensor, up: Tensor) -> Tensor:
    """Compute ``B A`` in float32, ``outputs x inputs x kernel``, for linear layers and convolutions.

    Args:
        down: A, ``rank x inputs x kernel``.
        up: B, ``outputs x rank``, for a convolution with a kernel of ones.
    """
    flat = up.float().flatten(1) @ down.float().flatten(1)
    return flat.reshape(up.shape[0], *down.shape[1:])


@torch.no_grad()
def merge_lora(
    networks: Mapping[str, nn.Module], path: str | os.PathLike[str], *, scale: float = 1.0
) -> list[str]:
    """Merge a LoRA file into networks; if anything does not fit, nothing is changed.

    Args:
        networks: networks by the prefix of their keys (``unet``).
        path: a `.safetensors` file.
        scale: strength of the LoRA: 0 has no effect, 1 is as trained. Fully trained tensors are interpolated
            linearly between the model's values and theirs.

    Returns:
        names of the changed weights.

    Raises:
        FileNotFoundError: the file does not exist.
        WeightsError: it is not a LoRA file or does not fit the networks; all mismatches are listed (a
            `ValueError`).
    """
    path = Path(path)
    state = read_state(path)
    places = {
        f"{name}.{key}": tensor
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }
    layers = {key.removesuffix(DOWN) for key in state if key.endswith(DOWN)}
    if not layers:
        raise WeightsError(f"{path} holds no LoRA weights; expected keys such as unet.….lora_A.weight.")
    additions, whole = _split(state, layers, path)
    _check(places, additions, whole, path)
    for key, addition in additions.items():
        place = places[key]
        place.copy_(place.float() + scale * addition.to(place.device))
    for key, value in whole.items():
        places[key].lerp_(value.to(places[key]), scale)
    return [*additions, *whole]


def _split(state: State, layers: set[str], path: Path) -> tuple[State, State]:
    """Split a LoRA file into changes to add to weights, and whole tensors, both by key."""
    keys = {layer: [layer + end for end in (DOWN, UP, ALPHA)] for layer in sorted(layers)}
    own = {key for group in keys.values() for key in group}
    missing = sorted(own - set(state))
    if missing:
        raise WeightsError(f"{path} is incomplete.", Mismatch(missing=missing))
    additions: State = {}
    for layer, group in keys.items():
        down, up, alpha = (state[key] for key in group)
        additions[f"{layer}.weight"] = product(down, up) * (float(alpha) / len(down))
    return additions, {key: value for key, value in state.items() if key not in own}


def _check(places: State, additions: State, whole: State, path: Path) -> None:
    mismatch = Mismatch()
    for key, value in (*additions.items(), *whole.items()):
        if key not in places:
            mismatch.surplus.append(key)
        elif places[key].shape != value.shape:
            mismatch.misshapen.append(f"{key}: found {list(value.shape)}, expected {list(places[key].shape)}")
    if mismatch:
        raise WeightsError(f"the LoRA weights in {path} do not fit the model.", mismatch)
