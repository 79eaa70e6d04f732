"""Faster implementations of a network's layers for the time of a run, within rounding of the plain ones.

Parameters, their names and the state dict stay as they are; afterwards, so do the layers.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from torch import Tensor, nn

from mimic.models.attention import (
    DispatchedAttnProcessor,
    SwitchableAttention,
    are_plain,
    attention_layers,
    concatenated,
)
from mimic.models.temporal_convolution import fast_temporal_convolutions

_SHAPES_PER_BLOCK = 128
"""Shapes that the compiler accepts for one class of blocks. Stable Video Diffusion has about 12 combinations
of widths, more than the default of 8, after which the compiler would give up."""


class UnusedNorm(nn.LayerNorm):
    """The norm of queries that nothing reads: it returns its input."""

    def forward(self, input: Tensor) -> Tensor:
        return input


@contextmanager
def exact_speed(
    *networks: nn.Module, single_token: bool = False, is_compiled: bool = False
) -> Iterator[None]:
    """Inside the context, networks compute the same up to the order of sums, faster, and without gradients.

    Convolutions along time are computed in two dimensions, and queries, keys and values are projected
    together, with weights concatenated once. With `single_token`, cross-attention to a context of one token
    computes neither queries nor keys nor their norm, and the output once for each frame: its softmax is 1.

    Args:
        networks: networks of diffusers. Layers with hooks or adapters are called as usual.
        single_token: whether every context is a single token; several are refused with `ValueError`.
        is_compiled: compile the repeated blocks of networks that name them. Compiled code is cached on disk
            by PyTorch, and shapes other than the first are compiled once, with variable sizes.
    """
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(fast_temporal_convolutions(network))
            stack.enter_context(_fast_attention(network, single_token=single_token, keeps=not is_compiled))
            if is_compiled:
                stack.enter_context(compiled_blocks(network))
        yield


@contextmanager
def _fast_attention(network: nn.Module, *, single_token: bool, keeps: bool) -> Iterator[None]:
    """Replace processors and norms; `keeps`: concatenate weights once and keep them for the run."""
    layers = [
        layer for layer in attention_layers(network) if isinstance(layer.processor, DispatchedAttnProcessor)
    ]
    former = [layer.processor for layer in layers]
    # Offloaded weights are elsewhere until the call.
    hooks = ("_hf_hook", "_diffusers_hook")
    keeps = keeps and not any(hasattr(module, hook) for module in network.modules() for hook in hooks)
    norms = [_query_norm(module) for module in network.modules()] if single_token else []
    try:
        for layer in layers:
            layer.processor = _fast_processor(layer, single_token=single_token, keeps=keeps)
        for norm in norms:
            if norm is not None:
                norm.__class__ = UnusedNorm
        yield
    finally:
        for layer, processor in zip(layers, former):
            layer.processor = processor
        for norm in norms:
            if norm is not None:
                norm.__class__ = nn.LayerNorm


def _fast_processor(
    layer: SwitchableAttention, *, single_token: bool, keeps: bool
) -> DispatchedAttnProcessor:
    # Compilers fuse what reads the same input themselves.
    processor = DispatchedAttnProcessor(fuse_qkv=keeps, single_token=True)
    processor._attention_backend = layer.processor._attention_backend
    processor._parallel_config = layer.processor._parallel_config
    processor.needs_single_token = single_token
    projections = (layer.to_q, layer.to_k, layer.to_v)
    if keeps and not layer.is_cross_attention and are_plain(*projections):
        processor.fused = concatenated(*projections)
    return processor


def _query_norm(block: nn.Module) -> nn.LayerNorm | None:
    """The norm in front of a block's cross-attention, if it is a plain one."""
    if not isinstance(block, BasicTransformerBlock | TemporalBasicTransformerBlock):
        return None
    layer, norm = block.attn2, block.norm2
    is_ours = isinstance(layer, SwitchableAttention) and isinstance(layer.processor, DispatchedAttnProcessor)
    is_plain = type(norm) is nn.LayerNorm and not norm._forward_hooks and not norm._forward_pre_hooks
    return norm if is_ours and layer.is_cross_attention and is_plain else None


def check_compiler(device: torch.device) -> None:
    """Raise `ValueError` if what `torch.compile` needs on a device is not installed."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise ValueError(
            "compile needs the package triton on a CUDA device (triton-windows on Windows); install it, or "
            "leave compile out."
        )
    compilers = [os.environ.get("CXX"), "g++", "clang++", "c++", "cl"]
    if device.type == "cpu" and not any(name and shutil.which(name) for name in compilers):
        raise ValueError(
            "compile needs a C++ compiler on a CPU (g++, clang++ or Visual Studio's cl), and none was found; "
            "install one, or leave compile out."
        )


def recompile_limits(config: Any) -> dict[str, Any]:
    """Return the settings of torch's compiler that let it compile `_SHAPES_PER_BLOCK` shapes, by name.

    Args:
        config: `torch._dynamo.config`; torch 2.6 has the former names.
    """
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    return {name: _SHAPES_PER_BLOCK, f"accumulated_{name}": 8 * _SHAPES_PER_BLOCK}


@contextmanager
def compiled_blocks(network: Any, **options: Any) -> Iterator[None]:
    """Inside the context, the repeated blocks of a network are compiled, each class once for all layers.

    Args:
        network: one of diffusers. Without repeated blocks, it is left as it is.
        options: of `torch.compile`.
    """
    names = set(getattr(network, "_repeated_blocks", None) or ())
    blocks = [module for module in network.modules() if type(module).__name__ in names]
    former = [block._compiled_call_impl for block in blocks]
    with torch._dynamo.config.patch(**recompile_limits(torch._dynamo.config)):
        try:
            for block in blocks:
                block.compile(fullgraph=True, **options)
            yield
        finally:
            for block, call in zip(blocks, former):
                block._compiled_call_impl = call
