"""Stable Video Diffusion's UNet with a pose term after its first convolution.

Legend: B batch, F frames, C the UNet's first width, H height, W width (of latents).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionOutput
from torch import Tensor, nn

from mimic.models.attention import AttentionSwitches, switchable
from mimic.models.deep_features import DeepFeatures, parts_reusing
from mimic.models.view import CalledAs, View


class PoseConditionedSVDUNet(AttentionSwitches, UNetSpatioTemporalConditionModel):
    """`UNetSpatioTemporalConditionModel` whose `forward` takes `pose_latents`, added to the output of
    `conv_in`.

    The constructor has the parent's arguments and one more.

    Args:
        norm_num_groups: number of groups of all group norms. 32 in every released model; a narrow miniature
            needs fewer, because 32 groups of one channel each would be an instance norm.
    """

    _repeated_blocks = (
        "BasicTransformerBlock",
        "TemporalBasicTransformerBlock",
        "SpatioTemporalResBlock",
        "CheckpointedResBlock",
        "ChunkedTransformerBlock",
        "ChunkedTemporalBlock",
    )
    """Class names of the layers that `compile_repeated_blocks` compiles."""

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = None,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "CrossAttnDownBlockSpatioTemporal",
            "DownBlockSpatioTemporal",
        ),
        up_block_types: tuple[str, ...] = (
            "UpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
            "CrossAttnUpBlockSpatioTemporal",
        ),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        addition_time_embed_dim: int = 256,
        projection_class_embeddings_input_dim: int = 768,
        layers_per_block: int | tuple[int, ...] = 2,
        cross_attention_dim: int | tuple[int, ...] = 1024,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        num_attention_heads: int | tuple[int, ...] = (5, 10, 20, 20),
        num_frames: int = 25,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            addition_time_embed_dim=addition_time_embed_dim,
            projection_class_embeddings_input_dim=projection_class_embeddings_input_dim,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            transformer_layers_per_block=transformer_layers_per_block,
            num_attention_heads=num_attention_heads,
            num_frames=num_frames,
        )
        for module in list(self.modules()):
            if isinstance(module, Attention):
                switchable(module)
        if norm_num_groups != 32:
            for module in self.modules():
                if isinstance(module, nn.GroupNorm):
                    module.num_groups = norm_num_groups

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        added_time_ids: Tensor,
        pose_latents: Tensor | None = None,
        image_only_indicator: bool = False,
        return_dict: bool = True,
        deep_features: DeepFeatures | None = None,
    ) -> UNetSpatioTemporalConditionOutput | tuple[Tensor]:
        """Predict as the parent does, with `pose_latents` added to the output of `conv_in`.

        Args:
            sample, timestep, encoder_hidden_states, added_time_ids, return_dict: as the parent's.
            pose_latents: PoseNet's output for the frames of `sample`, ``BF x C x H x W``; None adds nothing.
            image_only_indicator: treat frames as unrelated pictures: the learned blends of spatial and
                temporal branch use the spatial branch only.
            deep_features: recorded or reused, see `mimic.models.deep_features`.
        """

        parts: dict[str, Any] = {}
        if pose_latents is not None:
            parts["conv_in"] = CalledAs(
                self.conv_in, lambda conv_in, sample_BFCHW: conv_in(sample_BFCHW) + pose_latents
            )
        if image_only_indicator:
            parts["down_blocks"] = [CalledAs(block, _on_images) for block in self.down_blocks]
            parts["mid_block"] = CalledAs(self.mid_block, _on_images)
            parts["up_blocks"] = [CalledAs(block, _on_images) for block in self.up_blocks]
        if deep_features is not None:
            parts = parts_reusing(self, deep_features, parts)
        predicted: UNetSpatioTemporalConditionOutput | tuple[Tensor] = (
            UNetSpatioTemporalConditionModel.forward(
                cast(UNetSpatioTemporalConditionModel, View(self, **parts) if parts else self),
                sample,
                timestep,
                encoder_hidden_states,
                added_time_ids,
                return_dict=return_dict,
            )
        )
        return predicted


def _on_images(block: nn.Module, *, image_only_indicator: Tensor, **arguments: Any) -> Any:
    return block(image_only_indicator=torch.ones_like(image_only_indicator), **arguments)
