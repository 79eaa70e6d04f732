"""Operations and bytes of a UNet pass, by kind of operator, and the time that they imply on a device.

    python -m benchmarks.speed.operators

Counted on meta tensors, which have shapes and no content: every operator that PyTorch runs, with the bytes of
its inputs and outputs, as if each of them was read and written once. A compiler that joins operators moves
fewer bytes; the bound for one pass of every tensor through memory is that of eager execution.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mimic.files import write_json
from mimic.models.speed import exact_speed
from mimic.models.svd_unet import PoseConditionedSVDUNet

RESULT = Path("benchmarks/results/speed_operators.json")
KINDS = ("convolution", "linear", "attention", "norm", "elementwise", "copy")
DEVICES = {"H100 SXM": (989e12, 3.35e12), "H200 SXM": (989e12, 4.8e12), "RTX 4090": (165e12, 1.008e12)}
"""Dense float16 operations (accumulated in float32) and bytes a second, from the vendor's data sheets."""

_CONVOLUTIONS = {"convolution"}
_LINEAR = {"addmm", "mm", "bmm", "baddbmm"}
_NORMS = {"native_group_norm", "native_layer_norm"}
_COPIES = {"copy_", "clone", "_to_copy", "cat", "repeat_interleave", "stack", "constant_pad_nd"}


@dataclass
class Cost:
    """Operations, bytes and calls of one kind of operator."""

    flop: float = 0.0
    num_bytes: float = 0.0
    calls: int = 0
    bound_s: dict[str, float] | None = None
    """Least seconds on each of `DEVICES`, by the larger of operations and bytes of each call."""


class Counted(TorchDispatchMode):
    """Counts what is run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.costs: dict[str, Cost] = defaultdict(Cost)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = _tensors((args, kwargs))
        storages = {tensor.untyped_storage()._cdata for tensor in inputs}
        outputs = [t for t in _tensors(result) if t.untyped_storage()._cdata not in storages]
        name = func._schema.name.removeprefix("aten::")
        if not outputs and not name.endswith("_"):
            return result  # a view
        if name in {"empty", "empty_like", "new_empty", "empty_strided", "arange"}:
            return result
        packet = func._overloadpacket
        flop = flop_registry[packet](*args, **kwargs, out_val=result) if packet in flop_registry else 0
        self.add(_kind(name), float(flop), float(sum(t.nbytes for t in (*inputs, *outputs))))
        return result

    def add(self, kind: str, flop: float, num_bytes: float) -> None:
        cost = self.costs[kind]
        cost.flop, cost.num_bytes, cost.calls = cost.flop + flop, cost.num_bytes + num_bytes, cost.calls + 1
        bounds = cost.bound_s or dict.fromkeys(DEVICES, 0.0)
        for device, (rate, bandwidth) in DEVICES.items():
            bounds[device] += max(flop / rate, num_bytes / bandwidth)
        cost.bound_s = bounds


class _Attention(TorchFunctionMode):
    """Counts attention as one operator that holds no matrix of weights, as on a GPU."""

    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self._counted = counted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        given = dict(zip(("query", "key", "value"), args)) | kwargs
        query, key, value = given["query"], given["key"], given["value"]
        batch = query.shape[:-2].numel()
        flop = 2 * batch * query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
        num_bytes = query.nbytes * 2 + key.nbytes + value.nbytes
        self._counted.add("attention", float(flop), float(num_bytes))
        result = torch.empty((*query.shape[:-1], value.shape[-1]), device=query.device, dtype=query.dtype)
        return result


@contextmanager
def counted() -> Iterator[dict[str, Cost]]:
    """Count all operators inside the context, by kind."""
    modes = Counted()
    with modes, _Attention(modes):
        yield modes.costs


def _kind(name: str) -> str:
    for kind, names in (
        ("convolution", _CONVOLUTIONS), ("linear", _LINEAR), ("norm", _NORMS), ("copy", _COPIES),
    ):  # fmt: skip
        if name in names:
            return kind
    return "elementwise"


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def cost_of_pass(
    config: dict[str, Any],
    *,
    num_frames: int,
    height: int,
    width: int,
    dtype: torch.dtype = torch.float16,
    is_optimized: bool = False,
) -> dict[str, Cost]:
    """Count one pass of a UNet.

    Args:
        config: arguments of `PoseConditionedSVDUNet`; empty is the released size.
        num_frames: frames of the window.
        height, width: of the latents.
        dtype: precision of weights and activations.
        is_optimized: with the faster implementations of `mimic.models.speed`.
    """
    with torch.device("meta"):
        unet = PoseConditionedSVDUNet(**config).to("meta", dtype).eval()
        sample = torch.empty(1, num_frames, unet.config.in_channels, height, width, dtype=dtype)
        context = torch.empty(1, 1, unet.config.cross_attention_dim, dtype=dtype)
        time_ids = torch.empty(1, 3, dtype=dtype)
        t = torch.empty(())
        with torch.no_grad():
            if is_optimized:
                with exact_speed(unet, single_token=True), counted() as costs:
                    unet(sample, t, context, time_ids, return_dict=False)
            else:
                with counted() as costs:
                    unet(sample, t, context, time_ids, return_dict=False)
    return costs


def main(arguments: list[str] | None = None) -> None:
    """Count the released size at 576x1024, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    tables = {}
    for num_frames in (16, 72):
        for is_optimized in (False, True):
            name = f"{num_frames} frames, {'ours' if is_optimized else 'plain layers'}"
            costs = cost_of_pass({}, num_frames=num_frames, height=72, width=128, is_optimized=is_optimized)
            tables[name] = {kind: asdict(costs[kind]) for kind in KINDS if kind in costs}
            total = sum(cost.flop for cost in costs.values())
            print(f"{name}: {total / 1e12:.1f} TFLOP")
            for kind, cost in tables[name].items():
                bounds = ", ".join(f"{device} {s * 1e3:.0f} ms" for device, s in cost["bound_s"].items())
                size = f"{cost['flop'] / 1e12:7.2f} TFLOP {cost['num_bytes'] / 1e9:8.1f} GB"
                print(f"  {kind:12s} {size}  {bounds}")
    write_json(given.out, {"devices": DEVICES, "torch": torch.__version__, "passes": tables})


if __name__ == "__main__":
    main()
