"""Convolutions over time alone, computed as two-dimensional ones.

Legend: B batch, C channels, F frames, H height, W width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class TemporalConv(nn.Conv3d):
    """A convolution over time alone (k x 1 x 1), computed as a 2D one: CPUs have no fast path in 3D."""

    def forward(self, input: Tensor) -> Tensor:
        B, C, F, H, W = input.shape
        output = functional.conv2d(
            input.reshape(B, C, F, H * W),
            self.weight[..., 0],
            self.bias,
            padding=(self.padding[0], 0),  # type: ignore[arg-type]
        )
        return output.reshape(B, -1, F, H, W)


def use_fast_temporal_convolutions(model: nn.Module) -> None:
    """Compute the model's k x 1 x 1 convolutions as two-dimensional ones. Same parameters, same result."""
    for module in model.modules():
        if type(module) is nn.Conv3d and module.kernel_size[1:] == (1, 1) and module.stride == (1, 1, 1):
            module.__class__ = TemporalConv
