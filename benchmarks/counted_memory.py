"""How much memory do operations take? Counted on fake (meta) tensors, which have shapes but no content."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mimic.models.offload import is_worth_moving, storages_of


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of storages that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(result):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return result

    def ignore(self, module: nn.Module) -> None:
        """Storages that were there before."""
        for tensor in (*module.parameters(), *module.buffers()):
            storage = tensor.untyped_storage()
            self._known.add(storage._cdata)

    def _see(self, storage: Any) -> None:
        key, num_bytes = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += num_bytes
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, num_bytes)

    def _forget(self, key: int, num_bytes: int) -> None:
        self._known.discard(key)
        self.now -= num_bytes


class WithoutValues(TorchFunctionMode):
    """Modules are made without drawing their first weights."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


class AsOnGPU(TorchFunctionMode):
    """Precisions and attention as on a CUDA device, where autocast and flash attention decide them.

    Args:
        dtype: matrices and convolutions compute in it, norms in float32, the trained weights' copies are kept
            for the forward pass; None leaves all as it is.
    """

    _IN_DTYPE = frozenset({nnf.linear, nnf.conv2d, nnf.conv3d, torch.matmul, torch.bmm})
    _NORMS = frozenset({nnf.group_norm, nnf.layer_norm})
    _POINTWISE = frozenset({nnf.silu, nnf.gelu})

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._dtype = dtype
        self._copies: dict[int, Tensor] = {}
        self.is_forward = True

    def end_forward(self) -> None:
        """Autocast forgets its copies; a recomputation makes its own."""
        self.is_forward = False
        self._copies.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is nnf.scaled_dot_product_attention:
            query, key, value = map(self._in_dtype, _attended(*args, **kwargs))
            return FlashAttention.apply(query, key, value)
        if func in self._NORMS:
            weight, bias = kwargs["weight"], kwargs["bias"]
            return Kept.apply(args[0].float(), weight, bias)
        if func in self._POINTWISE:
            return Kept.apply(args[0], None, None)
        if self._dtype is not None and func in self._IN_DTYPE:
            args = tuple(self._in_dtype(a) for a in args)
            kwargs = {name: self._in_dtype(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _in_dtype(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or self._dtype is None or not value.is_floating_point():
            return value
        if not (value.is_leaf and value.requires_grad):
            return value.to(self._dtype)
        if not self.is_forward:
            return value.to(self._dtype)
        if id(value) not in self._copies:
            self._copies[id(value)] = value.to(self._dtype)
        return self._copies[id(value)]


class WithFlashAttention(TorchFunctionMode):
    """Attention that never holds the matrix of weights, without gradients."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nnf.scaled_dot_product_attention:
            query, _, _ = _attended(*args, **(kwargs or {}))
            return torch.empty_like(query)
        return func(*args, **(kwargs or {}))


def _attended(
    query: Tensor, key: Tensor, value: Tensor, *_others: Any, **_options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """What `scaled_dot_product_attention` is given, by position or by name."""
    return query, key, value


class Kept(torch.autograd.Function):
    """The memory of a norm or an activation: keeps its input, gives as much."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weight, bias)
        return torch.empty_like(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(
            torch.empty_like(tensor) if needed else None
            for tensor, needed in zip(ctx.saved_tensors, ctx.needs_input_grad)
        )


class FlashAttention(torch.autograd.Function):
    """The memory of attention that never holds the matrix of weights."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = torch.empty_like(query)
        sums = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def counted_offload(model: nn.Module, moved: list[int]) -> Iterator[None]:
    """As `offloaded`, but what would be moved is counted and forgotten."""
    weights = storages_of(model)

    def pack(tensor: Tensor) -> Any:
        if not is_worth_moving(tensor, weights):
            return tensor
        moved[0] += tensor.nbytes
        return tensor.shape, tensor.dtype

    def unpack(packed: Any) -> Tensor:
        return (
            packed if isinstance(packed, Tensor) else torch.empty(packed[0], dtype=packed[1], device="meta")
        )

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield
