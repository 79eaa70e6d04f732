"""Computing in less memory: process a few frames at a time; recompute activations in the backward pass.

A UNet for video has spatial layers, which process each frame separately, and temporal layers. Spatial layers
can be computed for a few frames at a time, temporal attention for a few positions at a time. When activations
are also recomputed in the backward pass, only those of one portion exist at once. Modules change their class
to a subclass that computes this way; parameters and their names stay. Results differ from the plain ones only
in the order of sums.

Legend: B batch, F frames, S positions (pixels of latents), C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.models.attention import BasicTransformerBlock, TemporalBasicTransformerBlock
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D, SpatioTemporalResBlock
from diffusers.models.transformers.transformer_temporal import TransformerSpatioTemporalModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mimic.models.pose_net import PoseNet


def save_memory(
    model: nn.Module, *, gradient_checkpointing: bool = False, chunk_frames: int | None = None
) -> None:
    """Make every network inside `model` train in less memory.

    Args:
        model: any module. Stable Video Diffusion's UNets and PoseNets inside it are changed as described
            above; for other diffusers networks their own gradient checkpointing is enabled.
        gradient_checkpointing: each residual and each transformer block keeps only its input.
        chunk_frames: number of frames that spatial layers process at a time; temporal attention processes the
            same share of positions. Each portion keeps only its input.

    Raises:
        ValueError: `chunk_frames` is less than 1.
    """
    if chunk_frames is not None and chunk_frames < 1:
        raise ValueError(f"chunk_frames is {chunk_frames}; at least one frame is computed at a time.")
    for module in list(model.modules()):
        if isinstance(module, UNetSpatioTemporalConditionModel):
            _save_in_svd(module, gradient_checkpointing, chunk_frames)
        elif isinstance(module, PoseNet) and (gradient_checkpointing or chunk_frames is not None):
            # The sequence in it, not itself: its class is written into model folders.
            module.conv_layers.__class__ = ChunkedSequential
            module.conv_layers.chunk_frames = chunk_frames
        elif gradient_checkpointing and getattr(module, "_supports_gradient_checkpointing", False):
            module.enable_gradient_checkpointing()  # type: ignore[operator]


def _save_in_svd(unet: nn.Module, gradient_checkpointing: bool, chunk_frames: int | None) -> None:
    for module in list(unet.modules()):
        kind = type(module)
        if gradient_checkpointing and kind in _CHECKPOINTED:
            module.__class__ = _CHECKPOINTED[kind]
        elif chunk_frames is not None and (kind in _CHUNKED or kind in _CHUNKED.values()):
            module.__class__ = _CHUNKED.get(kind, kind)
            module.chunk_frames = chunk_frames  # type: ignore[assignment]


def remade(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function and keep only its arguments for the backward pass."""
    if not torch.is_grad_enabled():
        return function(*arguments)
    return checkpoint(function, *arguments, use_reentrant=False)


def in_portions(function: Callable[..., Tensor], size: int | None, first: Tensor, *rest: Any) -> Tensor:
    """Compute ``function(first, *rest)`` for `size` entries of the first axis at a time.

    Args:
        function: processes each entry of the first axis separately.
        size: entries of a portion; None means all.
        first: ``B x ...``.
        rest: tensors whose first axis is B are divided in the same way; other arguments are passed unchanged.
    """
    num = len(first)
    if size is None or size >= num:
        return remade(function, first, *rest)
    portions = []
    for start in range(0, num, size):
        part = slice(start, start + size)
        others = [
            value[part] if isinstance(value, Tensor) and value.ndim and len(value) == num else value
            for value in rest
        ]
        portions.append(remade(function, first[part], *others))
    return torch.cat(portions)


class CheckpointedResBlock(SpatioTemporalResBlock):
    """Keeps only its input for the backward pass."""

    def forward(
        self, hidden_states: Tensor, temb: Tensor | None = None, image_only_indicator: Tensor | None = None
    ) -> Tensor:
        return remade(super().forward, hidden_states, temb, image_only_indicator)


class CheckpointedTransformer(TransformerSpatioTemporalModel):
    """Keeps only its input for the backward pass."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        image_only_indicator: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        return remade(
            super().forward, hidden_states, encoder_hidden_states, image_only_indicator, return_dict
        )


class ChunkedResnetBlock(ResnetBlock2D):
    """Processes a few frames at a time."""

    def forward(self, input_tensor: Tensor, temb: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return in_portions(super().forward, self.chunk_frames, input_tensor, temb)


class ChunkedTransformerBlock(BasicTransformerBlock):
    """Processes a few frames at a time."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        return in_portions(
            super().forward,
            self.chunk_frames,
            hidden_states,
            attention_mask,
            encoder_hidden_states,
            encoder_attention_mask,
            *args,
            **kwargs,
        )


class ChunkedTemporalBlock(TemporalBasicTransformerBlock):
    """Processes positions in as many portions as the frames would have: temporal attention treats each
    position separately."""

    def forward(
        self, hidden_states: Tensor, num_frames: int, encoder_hidden_states: Tensor | None = None
    ) -> Tensor:
        B, S = len(hidden_states) // num_frames, hidden_states.shape[1]
        num_portions = -(-num_frames // self.chunk_frames)
        size = -(-S // num_portions)
        context = encoder_hidden_states
        if context is not None:
            context = context.unflatten(0, (B, S))
        portions = []
        for start in range(0, S, size):
            part = slice(start, start + size)
            own = None if context is None else context[:, part].flatten(0, 1)
            portions.append(remade(super().forward, hidden_states[:, part], num_frames, own))
        return torch.cat(portions, dim=1)


class ChunkedDownsample(Downsample2D):
    """Processes a few frames at a time."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return in_portions(super().forward, self.chunk_frames, hidden_states)


class ChunkedUpsample(Upsample2D):
    """Processes a few frames at a time."""

    def forward(
        self, hidden_states: Tensor, output_size: int | None = None, *args: Any, **kwargs: Any
    ) -> Tensor:
        return in_portions(super().forward, self.chunk_frames, hidden_states, output_size)


class ChunkedSequential(nn.Sequential):
    """Processes a few frames at a time."""

    def forward(self, input: Tensor) -> Tensor:
        return in_portions(super().forward, self.chunk_frames, input)  # type: ignore[arg-type]


_CHECKPOINTED: dict[type[nn.Module], type[nn.Module]] = {
    SpatioTemporalResBlock: CheckpointedResBlock,
    TransformerSpatioTemporalModel: CheckpointedTransformer,
}
_CHUNKED: dict[type[nn.Module], type[nn.Module]] = {
    ResnetBlock2D: ChunkedResnetBlock,
    BasicTransformerBlock: ChunkedTransformerBlock,
    TemporalBasicTransformerBlock: ChunkedTemporalBlock,
    Downsample2D: ChunkedDownsample,
    Upsample2D: ChunkedUpsample,
}
