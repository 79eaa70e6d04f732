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
    """Counts the bytes of storages that operations make, while they live.

    Shapes of results are computed once for each operation and shape of inputs, which makes the walk of a
    large network several times faster. Small tensors on the CPU, which decide what is computed, may be mixed
    with fake ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()
        self._made: dict[Any, Any] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled in here

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        key = _key(func, args, kwargs)
        form = self._made.get(key) if key is not None else None
        if form is None:
            result = func(*_on_meta(args), **kwargs)
            if key is not None:
                self._made[key] = _form(result, args)
        elif form == _ALWAYS_RUN:
            result = func(*_on_meta(args), **kwargs)
        elif isinstance(form, list):
            result = tuple(_empty(each) for each in form)
        else:
            result = _empty(form)
        for value in result if isinstance(result, tuple | list) else (result,):
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


_ALWAYS_RUN = "always"


def _key(func: Any, args: Any, kwargs: Any) -> Any:
    """Return what the shape of a result on the meta device depends on; None if it is not that simple."""
    parts: list[Any] = [func]
    for value in (*args, *kwargs.items()):
        if isinstance(value, Tensor):
            if not value.is_meta:
                return None
            parts.append((value.shape, value.stride(), value.dtype))
        elif isinstance(value, list | tuple) and any(isinstance(each, Tensor) for each in value):
            if not all(isinstance(each, Tensor) and each.is_meta for each in value):
                return None
            parts.append(tuple((each.shape, each.stride(), each.dtype) for each in value))
        else:
            # 1 and 1.0 are equal, and give results of different dtypes.
            parts.append((type(value), tuple(value) if isinstance(value, list) else value))
    try:
        hash(key := tuple(parts))
    except TypeError:
        return None
    return key


def _form(result: Any, args: Any) -> Any:
    """Return how to make the result again; `_ALWAYS_RUN` if it is not made of new meta tensors."""
    values = list(result) if isinstance(result, tuple | list) else [result]
    given = {
        each.untyped_storage()._cdata
        for value in args
        for each in (value if isinstance(value, list | tuple) else (value,))
        if isinstance(each, Tensor)
    }
    for value in values:
        if value is not None and not (isinstance(value, Tensor) and value.is_meta):
            return _ALWAYS_RUN
        if value is not None and (
            value.untyped_storage()._cdata in given or value.untyped_storage().nbytes() != value.nbytes
        ):
            return _ALWAYS_RUN  # a view, or in place
    forms = [None if value is None else (value.shape, value.stride(), value.dtype) for value in values]
    return forms if isinstance(result, tuple | list) else forms[0]


def _empty(form: Any) -> Any:
    if form is None:
        return None
    shape, stride, dtype = form
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")


def _on_meta(args: Any) -> Any:
    """Move tensors of the CPU to the meta device where they are combined with such."""
    if not any(isinstance(value, Tensor) and value.is_meta for value in args):
        return args
    return tuple(
        value.to("meta") if isinstance(value, Tensor) and not value.is_meta and value.ndim else value
        for value in args
    )


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
