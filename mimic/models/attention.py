"""Attention layers of the UNets: computed by diffusers' dispatcher, and kept under diffusers' switches.

diffusers' default processor calls PyTorch's attention directly, so that `set_attention_backend` has no effect
on the UNets of Stable Diffusion and Stable Video Diffusion. `DispatchedAttnProcessor` computes the same
numbers and honours the backend.

Legend: B batch (frames or positions are folded into it), N queries, M keys, C width, h heads, d width of a
head.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeAlias

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    dispatch_attention_fn,
)
from diffusers.models.attention_processor import Attention, AttnProcessor2_0, FusedAttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional


class AttentionBackendError(RuntimeError):
    """An attention backend is not installed, or cannot compute what the network asks of it."""


class DispatchedAttnProcessor:
    """Scaled dot product attention by diffusers' dispatcher, which honours `set_attention_backend`.

    Without a backend the numbers are those of `AttnProcessor2_0`.

    Args:
        fuse_qkv: project queries, keys and values (or keys and values) by one matrix multiplication. Results
            may differ in the order of sums.
        single_token: where the context is a single token, compute the output projection once and not once for
            each query. Results may differ in the order of sums. Queries and keys are never computed for such
            a context, which changes no bit.
    """

    def __init__(self, *, fuse_qkv: bool = False, single_token: bool = False) -> None:
        self.fuse_qkv = fuse_qkv
        self.single_token = single_token
        self.needs_single_token = False
        """Whether queries are not normalised, as under `mimic.models.speed.exact_speed`: a context of several
        tokens is then refused."""
        self.fused: Fused | None = None
        """Weight and bias of the fused projection, if they were concatenated in advance."""
        self._attention_backend: AttentionBackendName | None = None
        self._parallel_config: Any = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        context = encoder_hidden_states
        if context is not None and context.shape[1] == 1 and not _trains_weights(attn):
            # The softmax over one key is 1. Where queries and keys are trained they are computed: their
            # gradients are zero and not None, as optimisers and gradient reduction expect.
            size = (len(context), hidden_states.shape[1], -1)
            if not self.single_token or torch.is_grad_enabled():
                return output_of(attn, attn.to_v(context).expand(size).contiguous())
            if context.stride(0) == 0:  # one token, broadcast to all positions
                context = context[:1]
            return output_of(attn, attn.to_v(context)).expand(size)
        if self.needs_single_token and context is not None:
            raise ValueError(
                f"the context has {context.shape[1]} tokens, and the run was set up for a single one, "
                "without gradients; give optimize=False."
            )
        query, key, value = self.project(attn, hidden_states, context)
        if attention_mask is not None:
            mask = attn.prepare_attention_mask(attention_mask, key.shape[1], len(key))
            attention_mask = mask.view(len(key), attn.heads, -1, mask.shape[-1])
        return output_of(attn, self.attend(attn, query, key, value, attention_mask))

    def project(
        self, attn: Attention, hidden_BNC: Tensor, context_BMC: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``B x N x C``, keys and values ``B x M x C``; a context of None is `hidden_BNC` itself."""
        if self.fuse_qkv and context_BMC is None and are_plain(attn.to_q, attn.to_k, attn.to_v):
            fused = self.fused
            if fused is None or fused[0].device != hidden_BNC.device:  # offloaded weights move
                fused = concatenated(attn.to_q, attn.to_k, attn.to_v)
            query, key, value = functional.linear(hidden_BNC, *fused).chunk(3, dim=-1)
            return query, key, value
        query = attn.to_q(hidden_BNC)
        context = hidden_BNC if context_BMC is None else context_BMC
        if self.fuse_qkv and are_plain(attn.to_k, attn.to_v):
            key, value = functional.linear(context, *concatenated(attn.to_k, attn.to_v)).chunk(2, dim=-1)
            return query, key, value
        return query, attn.to_k(context), attn.to_v(context)

    def attend(
        self, attn: Attention, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Attention of projected ``B x N x C`` and ``B x M x C``, before the output projection."""
        heads = [each.unflatten(-1, (attn.heads, -1)) for each in (query, key, value)]  # B x N x h x d
        if self._attention_backend is None:
            seen = dispatch_attention_fn(*heads, attn_mask=mask, parallel_config=self._parallel_config)
        else:
            seen = self._by_backend(self._attention_backend, heads, mask)
        return seen.flatten(2).to(query.dtype)

    def _by_backend(self, backend: AttentionBackendName, heads: list[Tensor], mask: Tensor | None) -> Tensor:
        try:
            return dispatch_attention_fn(
                *heads, attn_mask=mask, backend=backend, parallel_config=self._parallel_config
            )
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            query = heads[0]
            raise AttentionBackendError(
                f"attention backend '{backend.value}' cannot compute {query.dtype} heads of width "
                f"{query.shape[-1]} on {query.device} ({_one_sentence(error)}); set another one, for example "
                "set_attention_backend('native')."
            ) from error


class SwitchableAttention(Attention):
    """diffusers' attention layer with a `DispatchedAttnProcessor` as its default.

    Where diffusers' switches put their own default processor back, this layer gets ours; other processors
    (sliced attention, xFormers) are accepted as they are.
    """

    def set_processor(self, processor: Any) -> None:
        """Set the processor, or ours in place of diffusers' defaults."""
        if type(processor) is AttnProcessor2_0:
            processor = DispatchedAttnProcessor()
        elif type(processor) is FusedAttnProcessor2_0:
            processor = DispatchedAttnProcessor(fuse_qkv=True)
        super().set_processor(processor)

    def fuse_projections(self, fuse: bool = True) -> None:
        """Project together without further weights: keys of the state dict stay as they are."""
        processor = self.processor
        if not isinstance(processor, DispatchedAttnProcessor):
            processor = DispatchedAttnProcessor()
        processor.fuse_qkv = fuse
        self.set_processor(processor)


class AttentionSwitches:
    """Mixin, before the diffusers model in a class's bases: diffusers' switches for attention."""

    def set_default_attn_processor(self) -> None:
        """Give all attention layers their default processor."""
        for layer in attention_layers(self):
            layer.set_processor(AttnProcessor2_0())

    def fuse_qkv_projections(self) -> None:
        """Project queries, keys and values together; results may differ in the order of sums."""
        for layer in attention_layers(self):
            layer.fuse_projections(fuse=True)

    def unfuse_qkv_projections(self) -> None:
        """Project queries, keys and values one after the other, the default."""
        for layer in attention_layers(self):
            if getattr(layer.processor, "fuse_qkv", False):
                layer.fuse_projections(fuse=False)

    def compile_repeated_blocks(self, *arguments: Any, **options: Any) -> None:
        """Compile the repeated blocks as diffusers does, for more shapes than PyTorch's default of 8, after
        which it would give up: these networks have about 12 combinations of widths.

        Args:
            arguments, options: of `torch.compile`.
        """
        if "recompile_limit" in inspect.signature(torch.compile).parameters:
            options.setdefault("recompile_limit", 128)
        super().compile_repeated_blocks(*arguments, **options)  # type: ignore[misc]

    def use_single_token_attention(self, enabled: bool = True) -> None:
        """Compute the output of cross-attention once where the context is a single token, not once for each
        query. Without gradients only; results may differ in the order of sums.

        Raises:
            ValueError: a layer has a processor that cannot do this.
        """
        for layer in self._layers_with("single_token", "single-token attention"):
            layer.processor.single_token = enabled

    def enable_cache(self, *_: Any, **__: Any) -> None:
        """Refuse diffusers' caches (Pyramid Attention Broadcast and others).

        They keep one output for each layer and count its calls as steps. Here a layer is called for each
        window and branch of guidance at every step, and would get the output of another window.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "caches of diffusers keep one output for each layer, and these networks are called for several "
            "windows and branches of guidance at every step; use the setting reuse_interval, which keeps the "
            "features of each."
        )

    def set_attention_backend(self, backend: str) -> None:
        """Compute the attention of this network by a backend of diffusers, such as ``flash`` or ``sage``.

        Unlike in diffusers, other networks of the process keep their backend.

        Raises:
            AttentionBackendError: the backend is not installed.
            ValueError: the backend is not known, or a layer has a processor that takes none.
        """
        self._layers_with("_attention_backend", "an attention backend")
        active = _AttentionBackendRegistry._active_backend
        try:
            super().set_attention_backend(backend)  # type: ignore[misc]
        except (RuntimeError, ImportError, OSError) as error:
            raise AttentionBackendError(
                f"attention backend '{backend}' cannot be used ({_one_sentence(error)}); without it, use "
                "set_attention_backend('native')."
            ) from error
        finally:
            _AttentionBackendRegistry.set_active_backend(active)

    def _layers_with(self, attribute: str, what: str) -> list[SwitchableAttention]:
        layers = attention_layers(self)
        for layer in layers:
            if not hasattr(layer.processor, attribute):
                raise ValueError(
                    f"{type(layer.processor).__name__} does not support {what}; call "
                    "set_default_attn_processor() first."
                )
        return layers


def switchable(layer: Attention) -> None:
    """Turn a diffusers attention layer into a `SwitchableAttention`. Its weights stay."""
    layer.__class__ = SwitchableAttention
    layer.set_processor(AttnProcessor2_0())


def attention_layers(network: Any) -> list[SwitchableAttention]:
    """The layers of a network that have our processors as their default."""
    return [module for module in network.modules() if isinstance(module, SwitchableAttention)]


def output_of(attn: Attention, seen: Tensor) -> Tensor:
    """Output projection and dropout of an attention layer."""
    for layer in attn.to_out:
        seen = layer(seen)
    return seen


def _trains_weights(attn: Attention) -> bool:
    """Whether gradients are made of a layer's queries or keys."""
    if not torch.is_grad_enabled():
        return False
    return any(p.requires_grad for layer in (attn.to_q, attn.to_k) for p in layer.parameters())


def are_plain(*layers: nn.Module) -> bool:
    """Whether layers are linear and nothing more, so that their weights may be used without calling them:
    adapters, casting, offloading, sharding and quantisation act on the call."""
    return all(
        type(layer) is nn.Linear
        and type(layer.weight) is nn.Parameter
        and "forward" not in layer.__dict__
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
        for layer in layers
    )


Fused: TypeAlias = tuple[Tensor, Tensor | None]
"""Weight and bias of several linear layers of equal inputs and widths, as of one layer."""


def concatenated(*layers: nn.Linear) -> Fused:
    """Concatenate linear layers of equal inputs; either all have a bias or none has."""
    weights: list[Tensor] = [layer.weight for layer in layers]
    biases: list[Tensor] = [layer.bias for layer in layers if layer.bias is not None]
    return torch.cat(weights), torch.cat(biases) if biases else None


def _one_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".").replace(". Please", "; please")
