"""Read LoRA files, and merge them into a model.

For each changed layer, a file has ``<layer>.lora_A.weight`` (rank x inputs), ``<layer>.lora_B.weight``
(outputs x rank) and ``<layer>.alpha`` (the rank if it is left out, as in files of diffusers and peft); the
layer's weight becomes ``W + alpha / rank * B A`` (LoRA, arXiv 2106.09685). Any other key is a tensor that was
fully trained and replaces the model's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mimic.weights.strict import Mismatch, State, WeightsError, read_state
from pose.text import one_line

DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
"""Suffixes that follow a layer's name in a key."""


@dataclass(frozen=True)
class LowRank:
    """The low-rank change of one layer's weight, ``scaling * B A``."""

    down: Tensor
    """A, ``rank x inputs x kernel``."""
    up: Tensor
    """B, ``outputs x rank``, for a convolution with a kernel of ones."""
    scaling: float
    """``alpha / rank``."""

    def change(self) -> Tensor:
        """Return what is added to the layer's weight, float32."""
        return product(self.down, self.up) * self.scaling


@dataclass(frozen=True)
class Lora:
    """The content of a LoRA file."""

    layers: Mapping[str, LowRank]
    """Changes by the name of the layer, such as ``unet.conv_in``."""
    whole: State
    """Fully trained tensors by their name in the model."""

    @property
    def changed(self) -> list[str]:
        """Names of the weights that it changes."""
        return [*(f"{layer}.weight" for layer in self.layers), *self.whole]


def product(down: Tensor, up: Tensor) -> Tensor:
    """Compute ``B A`` in float32, ``outputs x inputs x kernel``, for linear layers and convolutions.

    Args:
        down: A, ``rank x inputs x kernel``.
        up: B, ``outputs x rank``, for a convolution with a kernel of ones.
    """
    flat = up.float().flatten(1) @ down.float().flatten(1)
    return flat.reshape(up.shape[0], *down.shape[1:])


def read_lora(path: str | os.PathLike[str], networks: Mapping[str, nn.Module]) -> Lora:
    """Read a LoRA file and check that it fits networks.

    Args:
        path: a `.safetensors` file.
        networks: networks by the prefix of their keys (``unet``).

    Raises:
        FileNotFoundError: the file does not exist.
        WeightsError: it is not a LoRA file or does not fit the networks; all mismatches are listed (a
            `ValueError`).
    """
    path = Path(path)
    return lora_of(read_state(path), networks, source=str(path))


def lora_of(state: State, networks: Mapping[str, nn.Module], *, source: str) -> Lora:
    """Return the content of a LoRA file from its tensors, checked as by `read_lora`.

    Args:
        state: the tensors by key.
        networks: as of `read_lora`.
        source: where they come from, for messages.

    Raises:
        WeightsError: as of `read_lora`.
    """
    layers = {key.removesuffix(DOWN) for key in state if key.endswith(DOWN)}
    if not layers:
        raise WeightsError(f"{source} holds no LoRA weights; expected keys such as unet.….lora_A.weight.")
    downs = {layer: state[layer + DOWN] for layer in layers if state[layer + DOWN].ndim}
    state = {**{layer + ALPHA: torch.tensor(float(len(down))) for layer, down in downs.items()}, **state}
    keys = {layer: [layer + end for end in (DOWN, UP, ALPHA)] for layer in sorted(layers)}
    own = {key for group in keys.values() for key in group}
    missing = sorted(own - set(state))
    if missing:
        raise WeightsError(f"{source} is incomplete.", Mismatch(missing=missing))
    faults = [fault for layer in keys for fault in _faults(layer, *(state[key] for key in keys[layer]))]
    if faults:
        raise WeightsError(
            f"{source} is no valid LoRA file: {faults[0]}"
            f"{f' (and {len(faults) - 1} more such faults)' if len(faults) > 1 else ''}. Export it again, or "
            "use another file."
        )
    changes = {}
    for layer, group in keys.items():
        down, up, alpha = (state[key] for key in group)
        changes[layer] = LowRank(down, up, float(alpha) / len(down))
    lora = Lora(changes, {key: value for key, value in state.items() if key not in own})
    _check(lora, places_of(networks), source)
    return lora


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
    return merge(networks, read_lora(path, networks), scale=scale)


@torch.no_grad()
def merge(networks: Mapping[str, nn.Module], lora: Lora, *, scale: float = 1.0) -> list[str]:
    """Merge the content of a LoRA file that has been checked; see `merge_lora`."""
    places = places_of(networks)
    for layer, low_rank in lora.layers.items():
        place = places[f"{layer}.weight"]
        place.copy_(place.float() + scale * low_rank.change().to(place.device))
    for key, value in lora.whole.items():
        places[key].lerp_(value.to(places[key]), scale)
    return lora.changed


def places_of(networks: Mapping[str, nn.Module]) -> State:
    """Return all tensors of networks by network and key."""
    return {
        f"{name}.{key}": tensor
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }


def _faults(layer: str, down: Tensor, up: Tensor, alpha: Tensor) -> list[str]:
    """Describe what is wrong with the tensors of one layer."""
    layer = one_line(layer)
    if down.ndim < 2 or up.ndim < 2 or 0 in (*down.shape, *up.shape):
        return [
            f"{layer}{DOWN} is {one_line(list(down.shape))} and {layer}{UP} is {one_line(list(up.shape))}; "
            "expected rank x inputs and outputs x rank"
        ]
    faults = []
    if up.shape[1] != down.shape[0]:
        faults.append(f"{layer}{DOWN} has rank {down.shape[0]}, but {layer}{UP} has rank {up.shape[1]}")
    if up[0, 0].numel() != 1:
        faults.append(f"{layer}{UP} is {list(up.shape)}; expected outputs x rank and a kernel of ones")
    if alpha.numel() != 1 or not math.isfinite(float(alpha)):
        shown = float(alpha) if alpha.numel() == 1 else f"{alpha.numel()} values"
        faults.append(f"{layer}{ALPHA} is {shown}; expected one finite number")
    if not all(tensor.is_floating_point() for tensor in (down, up)):
        faults.append(f"{layer} has weights of {down.dtype} and {up.dtype}; expected floating point")
    return faults


def _check(lora: Lora, places: State, source: str) -> None:
    mismatch = Mismatch()
    shapes = {
        f"{layer}.weight": [low_rank.up.shape[0], *low_rank.down.shape[1:]]
        for layer, low_rank in lora.layers.items()
    }
    shapes |= {key: list(value.shape) for key, value in lora.whole.items()}
    for key, shape in shapes.items():
        if key not in places:
            mismatch.surplus.append(key)
        elif list(places[key].shape) != shape:
            mismatch.misshapen.append(f"{key}: found {shape}, expected {list(places[key].shape)}")
    if mismatch:
        raise WeightsError(f"the LoRA weights in {source} do not fit the model.", mismatch)
