"""Keep activations in main memory between the forward and the backward pass.

On a CUDA device, transfers run on a stream of their own, in both directions: a tensor goes out while the next
layers compute, and comes back before the backward pass needs it (as in torchtune's activation offloading).
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_SMALL = 2**20
_LEAVING = 4
"""Tensors that may still be on their way out; the device waits for the oldest of more."""
_AHEAD = 2
"""Tensors that are brought back before they are needed."""


@contextmanager
def offloaded(model: nn.Module, *, smallest: int = _SMALL) -> Iterator[None]:
    """Keep the tensors saved for the backward pass, except for weights, in main memory.

    Useful only if the model is on a CUDA device; on the CPU it only adds copies. Tensors of fewer bytes than
    `smallest` stay where they are, and so do weights that FSDP2 has gathered.
    """
    weights = set(storages_of(model))
    mover = _Mover()

    def pack(tensor: Tensor) -> Tensor | _Moved:
        return mover.out(tensor) if is_worth_moving(tensor, weights, smallest) else tensor

    def unpack(packed: Tensor | _Moved) -> Tensor:
        return packed if isinstance(packed, Tensor) else mover.back(packed)

    hooks = [
        module.register_forward_pre_hook(lambda module, _: weights.update(storages_of(module)))
        for module in model.modules()
        if _gathers_weights(module)
    ]
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield
    finally:
        for hook in hooks:
            hook.remove()
        mover.settle()


def storages_of(model: nn.Module) -> frozenset[int]:
    """Return the storages of the parameters and buffers; of sharded ones, those of this process's shards."""
    tensors: list[Any] = [*model.parameters(), *model.buffers()]
    local = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    return frozenset(tensor.untyped_storage()._cdata for tensor in local)


def is_worth_moving(tensor: Tensor, weights: Set[int], smallest: int = _SMALL) -> bool:
    """Return whether `offloaded` moves a tensor that is saved for the backward pass."""
    return tensor.nbytes >= smallest and tensor.untyped_storage()._cdata not in weights


def _gathers_weights(module: nn.Module) -> bool:
    """Whether FSDP2 gathers this module's weights before its forward pass, after which hooks run."""
    return any(kind.__name__ == "FSDPModule" for kind in type(module).__mro__)


class _Moved:
    """A tensor in main memory and, once it is being brought back, its copy on the device."""

    def __init__(self, number: int, device: torch.device, copy: Tensor) -> None:
        self.number, self.device, self.copy = number, device, copy
        self.arriving: tuple[Tensor, Any] | None = None


class _Mover:
    """Moves tensors out in the order of the forward pass, and back in the reverse order."""

    def __init__(self) -> None:
        self._moved: weakref.WeakValueDictionary[int, _Moved] = weakref.WeakValueDictionary()
        self._num_moved = 0
        self._leaving: deque[tuple[Tensor, Any]] = deque()
        self._streams: dict[torch.device, Any] = {}

    def out(self, tensor: Tensor) -> _Moved:
        """Start moving a tensor to main memory."""
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        moved = _Moved(self._num_moved, tensor.device, copy)
        self._moved[moved.number] = moved
        self._num_moved += 1
        if not tensor.is_cuda:
            copy.copy_(tensor)
            return moved
        stream = self._stream(tensor.device)
        stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(stream):
            copy.copy_(tensor, non_blocking=True)
        # Held until it has left, so that nothing else is written to its memory.
        self._leaving.append((tensor, stream.record_event()))
        self._release(_LEAVING)
        return moved

    def back(self, moved: _Moved) -> Tensor:
        """Return a tensor on its device, and start bringing back those that are needed next."""
        if moved.device.type != "cuda":
            return moved.copy.to(moved.device)
        tensor, has_arrived = self._bring(moved)
        moved.arriving = None
        torch.cuda.current_stream(moved.device).wait_event(has_arrived)
        for number in range(moved.number - 1, moved.number - 1 - _AHEAD, -1):
            following = self._moved.get(number)
            if following is not None and following.device == moved.device:
                self._bring(following)
        return tensor

    def settle(self) -> None:
        """Let go of all tensors that have been moved out."""
        self._release(0)

    def _bring(self, moved: _Moved) -> tuple[Tensor, Any]:
        if moved.arriving is None:
            stream = self._stream(moved.device)
            # Its memory belongs to the computing stream, whose earlier work on it has to end first.
            tensor = torch.empty(moved.copy.shape, dtype=moved.copy.dtype, device=moved.device)
            stream.wait_stream(torch.cuda.current_stream(moved.device))
            with torch.cuda.stream(stream):
                tensor.copy_(moved.copy, non_blocking=True)
            # If it is dropped without having been used, its memory stays reserved until the copy ends.
            tensor.record_stream(stream)
            moved.arriving = tensor, stream.record_event()
        return moved.arriving

    def _release(self, most: int) -> None:
        while len(self._leaving) > most:
            tensor, has_left = self._leaving.popleft()
            torch.cuda.current_stream(tensor.device).wait_event(has_left)

    def _stream(self, device: torch.device) -> Any:
        if device not in self._streams:
            self._streams[device] = torch.cuda.Stream(device)
        return self._streams[device]
