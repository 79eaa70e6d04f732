"""Train LoRA with peft: add it to layers before training, merge it for export and validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from mimic.config.loading import ConfigError
from mimic.training.settings import LoraSettings
from mimic.training.trainable import freeze_except, is_among, unknown, without_effect
from mimic.weights.lora import ALPHA, DOWN, UP, product

_ADAPTER = "default"
_LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d)


def target_layers(
    model: nn.Module,
    targets: Sequence[str],
    parts: Mapping[str, Sequence[str]],
    *,
    inert: Sequence[str] = (),
) -> list[str]:
    """Return the names of the layers (linear layers and convolutions) that targets select.

    Args:
        model: holds the networks under the names that users know.
        targets: each a network or module (``unet.mid_block``), a part of the family, the end of layers' names
            (``to_q``), or a pattern over whole names.
        parts: as `TrainingTask.parts`.
        inert: patterns of parameters whose layers are never selected, as `TrainingTask.inert`.

    Raises:
        ConfigError: a target matches no layer, or none that has an effect.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, _LAYERS)]
    chosen: set[str] = set()
    for target in targets:
        # parts are patterns over parameters
        patterns = parts.get(target, [target, f"{target}.*", f"*.{target}"])
        matching = [
            name
            for name in layers
            if any(fnmatchcase(name, p) or fnmatchcase(f"{name}.weight", p) for p in patterns)
        ]
        if not matching:
            raise ConfigError(f"lora.targets: {unknown(target, model, parts)}")
        effective = [name for name in matching if not is_among(f"{name}.weight", inert)]
        if not effective:
            raise ConfigError(f"lora.targets: {without_effect(target)}")
        chosen.update(effective)
    return [name for name in layers if name in chosen]


def add_lora(
    model: nn.Module,
    settings: LoraSettings,
    parts: Mapping[str, Sequence[str]],
    *,
    seed: int,
    inert: Sequence[str] = (),
) -> list[str]:
    """Add LoRA to the targeted layers and freeze the layers' own weights.

    Initially it has no effect (B is zero). Other trained parameters stay trained.

    Args:
        model, parts, inert: as of `target_layers`.
        settings: of LoRA.
        seed: of the initial values of A.

    Returns:
        names of the LoRA's parameters.

    Raises:
        ConfigError: a target matches no layer, or peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ConfigError(
            "lora needs peft, which is not installed; pip install 'mimic-motion[train]'"
        ) from error
    layers = target_layers(model, settings.targets, parts, inert=inert)
    frozen = {f"{layer}.{end}" for layer in layers for end in ("weight", "bias")}
    training = [n for n, p in model.named_parameters() if p.requires_grad and n not in frozen]
    alpha = settings.alpha if settings.alpha is not None else settings.rank
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules="|".join(layer.replace(".", r"\.") for layer in layers),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    added = [name for name, _ in model.named_parameters() if ".lora_" in name]
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()  # in half precision, updates of 1e-5 would be lost
    freeze_except(model, [*training, *added])
    return added


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    """Return peft's wrapper of each layer with LoRA, by the layer's name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Replace layers with LoRA by plain layers with merged weights inside the block.

    Names of modules and keys are then those without LoRA. Afterwards the model is restored bit for bit.

    Needs memory for a second copy of the changed weights.
    """
    wrappers = adapted_layers(model)
    own = {name: wrapper.base_layer.weight.data for name, wrapper in wrappers.items()}
    try:
        for name, wrapper in wrappers.items():
            base = wrapper.base_layer
            base.weight.data = (own[name].float() + difference(wrapper)).to(own[name].dtype)
            _put(model, name, base)
        yield
    finally:
        for name, wrapper in wrappers.items():
            wrapper.base_layer.weight.data = own[name]
            _put(model, name, wrapper)


@torch.no_grad()
def difference(wrapper: Any) -> Tensor:
    """Return what the LoRA of a layer adds to its weight: ``alpha / rank * B A``, float32."""
    down, up = wrapper.lora_A[_ADAPTER].weight, wrapper.lora_B[_ADAPTER].weight
    return product(down, up) * wrapper.scaling[_ADAPTER]


def lora_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the content of a LoRA file (`mimic.weights.lora`): LoRA of all layers, and other trained
    parameters in full."""
    state: dict[str, Tensor] = {}
    for name, wrapper in adapted_layers(model).items():
        down, up = wrapper.lora_A[_ADAPTER].weight.detach(), wrapper.lora_B[_ADAPTER].weight.detach()
        state |= {name + DOWN: down, name + UP: up}
        state[name + ALPHA] = torch.tensor(float(wrapper.scaling[_ADAPTER]) * len(down))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".lora_" not in name:
            state[name] = parameter.detach()
    return state


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)
