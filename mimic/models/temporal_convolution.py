"""Convolutions over time alone, computed as two-dimensional ones.

Legend: B batch, C channels, F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


class TemporalConv(nn.Conv3d):
    """A convolution over time alone (k x 1 x 1), computed as a 2D one: CPUs have no fast path in 3D."""

    def forward(self, input: Tensor) -> Tensor:
        output = functional.conv2d(
            rearrange(input, "b c f h w -> b c f (h w)"),
            self.weight[..., 0],
            self.bias,
            padding=(self.padding[0], 0),  # type: ignore[arg-type]
            dilation=(self.dilation[0], 1),
            groups=self.groups,
        )
        return rearrange(output, "b c f (h w) -> b c f h w", h=input.shape[-2])


def use_fast_temporal_convolutions(model: nn.Module, enabled: bool = True) -> None:
    """Compute the model's k x 1 x 1 convolutions as two-dimensional ones, or as diffusers does.

    Parameters and their names stay; results may differ in the order of sums. Adapters that wrap a convolution
    and layers of other classes are left as they are.
    """
    kind, replacement = (nn.Conv3d, TemporalConv) if enabled else (TemporalConv, nn.Conv3d)
    for module in model.modules():
        if type(module) is kind and _is_temporal(module):
            module.__class__ = replacement


@contextmanager
def fast_temporal_convolutions(model: nn.Module) -> Iterator[None]:
    """Inside the context, `use_fast_temporal_convolutions`; afterwards, the layers are as before."""
    already = [module for module in model.modules() if type(module) is TemporalConv]
    use_fast_temporal_convolutions(model)
    try:
        yield
    finally:
        use_fast_temporal_convolutions(model, enabled=False)
        for module in already:
            module.__class__ = TemporalConv


def _is_temporal(conv: nn.Conv3d) -> bool:
    return (
        conv.kernel_size[1:] == (1, 1)
        and conv.stride == (1, 1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and tuple(conv.padding[1:]) == (0, 0)
    )
