"""LoRA adapters of a pipeline under diffusers' names: load, weigh, switch off, remove; merge on request.

An adapter changes no weight of the layers it adapts: their outputs get its low-rank change while it is
active. Fully trained tensors of its file take the place of the model's, which are kept and come back bit for
bit.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn
from torch.nn import functional

from mimic.files import local_path
from mimic.weights.lora import Lora, LowRank, lora_of, merge, merge_lora, read_lora
from mimic.weights.sources import hub_file, looks_like_hub_id, resolve_checkpoint

LORA_FILE = "lora.safetensors"
"""Name of the LoRA's own file in the folder of a trained model."""

_CONVOLUTIONS: dict[type[nn.Module], Any] = {nn.Conv2d: functional.conv2d, nn.Conv3d: functional.conv3d}


@dataclass
class _Adapter:
    """A loaded LoRA."""

    lora: Lora
    weight: float = 1.0
    is_active: bool = True


class AdaptedPipeline(DiffusionPipeline):
    """A diffusers pipeline that takes LoRA files written by `mimic train`."""

    def __init__(self) -> None:
        super().__init__()
        self._adapters: dict[str, _Adapter] = {}
        self._is_lora_enabled = True
        self._hooks: list[Any] = []
        self._originals: dict[str, Tensor] = {}
        self._fused: dict[str, _Adapter] = {}
        self._before_fusing: dict[str, Tensor] = {}

    def load_lora(self, path: str | os.PathLike[str], *, scale: float = 1.0) -> list[str]:
        """Merge trained LoRA weights (`lora.safetensors`) into the weights of this pipeline for good.

        `load_lora_weights` loads them as an adapter that can be weighed and removed again.

        Args:
            path: the file.
            scale: strength of the LoRA: 0 has no effect, 1 is as trained.

        Returns:
            names of the changed weights.

        Raises:
            FileNotFoundError: the file does not exist.
            WeightsError: the file does not fit this model; all mismatches are listed (a `ValueError`).
        """
        with self.without_adapters():
            merged = merge_lora(self._networks(), path, scale=scale)
        self._forget_fused()
        return merged

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | os.PathLike[str] | Mapping[str, Tensor],
        adapter_name: str | None = None,
        *,
        weight_name: str = LORA_FILE,
    ) -> None:
        """Load a LoRA as an adapter and activate it with weight 1, beside the adapters active already.

        Args:
            pretrained_model_name_or_path_or_dict: a file, a folder or hub repository (``owner/name``) with
                `weight_name` in it (such as ``final/`` of a training), ``hf:owner/name/file``, or the tensors
                by key.
            adapter_name: name for the other methods; by default ``default_0``, ``default_1``, …
            weight_name: name of the file in a folder or repository.

        Raises:
            OSError: the file does not exist or cannot be downloaded.
            WeightsError: the file does not fit this model; all mismatches are listed (a `ValueError`).
            ValueError: the name is in use.
        """
        number = len(self._adapters)
        while adapter_name is None:
            name = f"default_{number}"
            adapter_name, number = (name if name not in self._adapters else None), number + 1
        if adapter_name in self._adapters or adapter_name in self._fused:
            raise ValueError(
                f"adapter name '{adapter_name}' is in use; give another adapter_name, or "
                f"delete_adapters('{adapter_name}') first (unfuse_lora() if it is fused)."
            )
        networks, given = self._networks(), pretrained_model_name_or_path_or_dict
        with self.without_adapters():
            if isinstance(given, Mapping):
                lora = lora_of(dict(given), networks, source="the given dictionary")
            else:
                path, name = local_path(given), os.fspath(given)
                if path.is_dir():
                    file = path / weight_name
                elif not path.exists() and looks_like_hub_id(name):
                    file = hub_file(name, weight_name)
                else:
                    file = resolve_checkpoint(given)
                lora = read_lora(file, networks)
        for layer in lora.layers:
            _check_layer(layer, self._layer(layer))
        self._adapters[adapter_name] = _Adapter(lora)
        self._apply()

    def set_adapters(
        self, adapter_names: str | Sequence[str], adapter_weights: float | Sequence[float] | None = None
    ) -> None:
        """Activate the named adapters with these weights, and deactivate all others.

        Args:
            adapter_names: one name or several.
            adapter_weights: one for all, or one for each; None: 1.

        Raises:
            ValueError: a name is not loaded, a weight is not finite, or their numbers differ.
        """
        names = self._known(adapter_names)
        given: Sequence[float]
        if adapter_weights is None or isinstance(adapter_weights, int | float):
            given = [1.0 if adapter_weights is None else float(adapter_weights)] * len(names)
        else:
            given = [1.0 if weight is None else float(weight) for weight in adapter_weights]
        if len(given) != len(names):
            raise ValueError(f"{len(names)} adapters and {len(given)} adapter_weights; give one for each.")
        if not all(math.isfinite(weight) for weight in given):
            raise ValueError(f"adapter_weights are {list(given)}; expected finite numbers.")
        for adapter in self._adapters.values():
            adapter.is_active = False
        for name, weight in zip(names, given):
            self._adapters[name].is_active, self._adapters[name].weight = True, weight
        self._is_lora_enabled = True
        self._apply()

    def disable_lora(self) -> None:
        """Switch all adapters off; the pipeline computes as without them."""
        self._is_lora_enabled = False
        self._apply()

    def enable_lora(self) -> None:
        """Switch the active adapters on again."""
        self._is_lora_enabled = True
        self._apply()

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Remove the named adapters.

        Raises:
            ValueError: a name is not loaded.
        """
        for name in self._known(adapter_names):
            del self._adapters[name]
        self._apply()

    def unload_lora_weights(self) -> None:
        """Remove all adapters; the weights are bit for bit those without them.

        Adapters that `fuse_lora` has merged stay merged, and `unfuse_lora` cannot separate them any more.
        """
        self._adapters.clear()
        self._forget_fused()
        self._is_lora_enabled = True
        self._apply()

    @property
    def fused_loras(self) -> set[str]:
        """Names of the adapters that are merged into the weights and can be unfused."""
        return set(self._fused)

    @property
    def num_fused_loras(self) -> int:
        """Number of the adapters that are merged into the weights and can be unfused."""
        return len(self._fused)

    def fuse_lora(
        self,
        components: Sequence[str] | None = None,
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: str | Sequence[str] | None = None,
    ) -> list[str]:
        """Merge active adapters into the weights; they are no longer listed as adapters.

        Until `unfuse_lora` or `unload_lora_weights`, main memory keeps a copy of the weights that changed.

        Args:
            components: None; adapters are merged into all networks that they are of.
            lora_scale: factor of their weights.
            safe_fusing: refuse adapters with which a weight would not be finite.
            adapter_names: None: all active ones.

        Returns:
            names of the changed weights.

        Raises:
            ValueError: a name is not loaded; `components` are not all; or a weight would not be finite.
        """
        names = self.get_active_adapters() if adapter_names is None else self._known(adapter_names)
        if components is not None:
            listed = self.get_list_adapters()
            left_out = sorted(net for net in listed if net not in components and {*listed[net]} & {*names})
            if left_out:
                raise ValueError(
                    f"components leaves out {', '.join(left_out)}, which the adapters change as well; leave "
                    "components out to merge whole adapters."
                )
        changed: dict[str, None] = {}
        with self.without_adapters(), torch.no_grad():
            places = _parameters(self._networks())
            copies = {
                key: places[key].detach().to("cpu", copy=True)
                for name in names
                for key in self._adapters[name].lora.changed
            }
            for name in names:
                adapter = self._adapters[name]
                merged = merge(self._networks(), adapter.lora, scale=lora_scale * adapter.weight)
                changed.update(dict.fromkeys(merged))
            wrong = [key for key in changed if safe_fusing and not torch.isfinite(places[key]).all()]
            if wrong:
                for key, value in copies.items():
                    places[key].copy_(value)
                raise ValueError(f"fused weights would not be finite: {wrong[0]}; nothing was fused.")
            self._before_fusing = copies | self._before_fusing
            self._fused |= {name: self._adapters.pop(name) for name in names}
        return list(changed)

    def unfuse_lora(self, components: Sequence[str] | None = None) -> None:
        """Undo `fuse_lora`: the weights are bit for bit those before it, and its adapters are active again.

        Args:
            components: None; adapters are separated from all networks.

        Raises:
            ValueError: `components` leaves out a network with fused adapters.
        """
        changed = {key.partition(".")[0] for key in self._before_fusing}
        if components is not None and changed - set(components):
            raise ValueError(
                f"components leaves out {', '.join(sorted(changed - set(components)))}, into which adapters "
                "are fused as well; leave components out."
            )
        with self.without_adapters(), torch.no_grad():
            places = _parameters(self._networks())
            for key, value in self._before_fusing.items():
                places[key].copy_(value)
            self._adapters |= self._fused
            self._forget_fused()

    def _forget_fused(self) -> None:
        self._fused, self._before_fusing = {}, {}

    def get_active_adapters(self) -> list[str]:
        """Return the names of the active adapters; none while LoRA is disabled."""
        if not self._is_lora_enabled:
            return []
        return [name for name, adapter in self._adapters.items() if adapter.is_active]

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Return the names of the adapters loaded into each network."""
        found: dict[str, list[str]] = {}
        for name, adapter in self._adapters.items():
            keys = (*adapter.lora.layers, *adapter.lora.whole)
            for network in dict.fromkeys(key.partition(".")[0] for key in keys):
                found.setdefault(network, []).append(name)
        return found

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """Inside the block, networks compute and are saved as without adapters."""
        self._remove()
        try:
            yield
        finally:
            self._apply()

    def _networks(self) -> dict[str, nn.Module]:
        parts = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
        return {name: getattr(part, "_orig_mod", part) for name, part in parts.items()}  # of torch.compile

    def _layer(self, name: str) -> nn.Module:
        network, _, layer = name.partition(".")
        return self._networks()[network].get_submodule(layer)

    def _known(self, names: str | Sequence[str]) -> list[str]:
        given = [names] if isinstance(names, str) else list(names)
        unknown = [name for name in given if name not in self._adapters]
        if unknown:
            loaded = ", ".join(self._adapters) or "none"
            raise ValueError(f"adapter '{unknown[0]}' is not loaded; loaded are: {loaded}.")
        return given

    def _remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        places = _parameters(self._networks())
        for key, original in self._originals.items():
            places[key].data = original.to(places[key])
        self._hooks, self._originals = [], {}

    @torch.no_grad()
    def _apply(self) -> None:
        """Put the active adapters into effect, in place of those that were."""
        had_hooks = bool(self._hooks)
        self._remove()
        active = [self._adapters[name] for name in self.get_active_adapters()]
        changes: dict[str, list[tuple[LowRank, float]]] = {}
        for adapter in active:
            for layer, low_rank in adapter.lora.layers.items():
                changes.setdefault(layer, []).append((low_rank, low_rank.scaling * adapter.weight))
        for layer, parts in changes.items():
            self._hooks.append(self._layer(layer).register_forward_hook(_AddedChange(parts)))
        places = _parameters(self._networks())
        for key in dict.fromkeys(key for adapter in active for key in adapter.lora.whole):
            place = places[key]
            self._originals[key] = place.data
            value = place.data.float()
            for adapter in active:
                if key in adapter.lora.whole:
                    trained = adapter.lora.whole[key].to(value)
                    value = value + adapter.weight * (trained - place.data.float())
            place.data = value.to(place.dtype)
        if (had_hooks or self._hooks) and "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # compiled code does not notice that hooks come and go


class _AddedChange:
    """Forward hook of a layer that adds low-rank changes to its output.

    Args:
        parts: changes and their factors.
    """

    def __init__(self, parts: Sequence[tuple[LowRank, float]]) -> None:
        self._parts = parts
        self._cast: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor, float]]] = {}

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        features = inputs[0]
        place = (features.device, features.dtype)
        if place not in self._cast:
            self._cast = {place: [(p.down.to(*place), p.up.to(*place), factor) for p, factor in self._parts]}
        for down, up, factor in self._cast[place]:
            output = output + factor * _low_rank(layer, features, down, up)
        return output


def _low_rank(layer: nn.Module, features: Tensor, down: Tensor, up: Tensor) -> Tensor:
    convolve = next((c for kind, c in _CONVOLUTIONS.items() if isinstance(layer, kind)), None)
    if convolve is None:
        return functional.linear(functional.linear(features, down), up)
    inner = convolve(features, down, stride=layer.stride, padding=layer.padding, dilation=layer.dilation)
    return convolve(inner, up)


def _check_layer(name: str, layer: nn.Module) -> None:
    """Raise `ValueError` for a layer that `_low_rank` cannot adapt."""
    is_known = isinstance(layer, (nn.Linear, *_CONVOLUTIONS))
    if not is_known or getattr(layer, "groups", 1) != 1 or getattr(layer, "padding_mode", "zeros") != "zeros":
        raise ValueError(
            f"{name} is a {type(layer).__name__}, which takes no adapter; merge the file with load_lora."
        )


def _parameters(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the parameters and buffers of networks themselves, by network and key."""
    found: dict[str, Tensor] = {}
    for name, network in networks.items():
        for key, tensor in (*network.named_parameters(), *network.named_buffers()):
            found[f"{name}.{key}"] = tensor
    return found
