"""Convolutions along time computed in two dimensions equal the three-dimensional ones."""

import pytest
import torch
from diffusers.models.resnet import SpatioTemporalResBlock
from torch import nn

from mimic.models.temporal_convolution import TemporalConv, use_fast_temporal_convolutions
from tests.mimic.models.test_motion_unet import normal


@torch.no_grad()
@pytest.mark.parametrize("width", [32, 320])
def test_a_residual_block_gives_the_same_at_the_width_of_a_miniature_and_of_the_released_model(width):
    torch.manual_seed(0)
    block = SpatioTemporalResBlock(width, width, temb_channels=64).eval()
    keys = list(block.state_dict())
    arguments = normal(4, width, 6, 5), normal(4, 64, seed=1), torch.zeros(1, 4)
    expected = block(*arguments)
    use_fast_temporal_convolutions(block)
    assert sum(isinstance(module, TemporalConv) for module in block.modules()) == 2
    torch.testing.assert_close(block(*arguments), expected, atol=1e-4, rtol=0)
    assert list(block.state_dict()) == keys
    use_fast_temporal_convolutions(block, enabled=False)
    assert torch.equal(block(*arguments), expected)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [{"padding": (1, 0, 0)}, {"padding": (2, 0, 0), "dilation": (2, 1, 1)}, {"groups": 2}, {"bias": False}],
)
def test_every_option_of_a_temporal_convolution_counts(options):
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv3d(8, 4, (3, 1, 1), **options))
    features = normal(2, 8, 5, 3, 4)
    expected = conv(features)
    use_fast_temporal_convolutions(conv)
    assert isinstance(conv[0], TemporalConv)
    torch.testing.assert_close(conv(features), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        conv(features.to(memory_format=torch.channels_last_3d)), expected, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "options",
    [{"padding": (1, 1, 1)}, {"padding": "same"}, {"padding_mode": "replicate", "padding": (1, 0, 0)}],
)
def test_other_convolutions_stay(options):
    conv = nn.Sequential(nn.Conv3d(8, 4, (3, 1, 1), **options))
    use_fast_temporal_convolutions(conv)
    assert type(conv[0]) is nn.Conv3d
