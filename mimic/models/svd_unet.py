"""Stable Video Diffusion's UNet with a pose term after its first convolution.

Legend: B batch, F frames, C the UNet's first width, H height, W width (of latents).
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionOutput
from torch import Tensor, nn


class PoseConditionedSVDUNet(UNetSpatioTemporalConditionModel):
    """`UNetSpatioTemporalConditionModel` whose `forward` takes `pose_latents`, added to the output of
    `conv_in`.

    All arguments are the parent's, but for

    Args:
        norm_num_groups: groups of the residual and output norms. 32, as in every released model, unless a
            miniature is so narrow that 32 groups would be an instance norm.
    """

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
    ) -> UNetSpatioTemporalConditionOutput | tuple[Any, ...]:
        """The parent's forward, with a term added once, after `conv_in`.

        Args:
            sample, timestep, encoder_hidden_states, added_time_ids, return_dict: as the parent's.
            pose_latents: ``BF x C x H x W``, PoseNet's output for the frames of `sample`, or None for no
                pose.
            image_only_indicator: treat frames as unrelated pictures: learned blends take the spatial branch
                alone.
        """

        def add_pose(_module: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> Tensor:
            return features if pose_latents is None else features + pose_latents

        def mark_as_images(
            _module: nn.Module, inputs: tuple[Any, ...], arguments: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            indicator = arguments["image_only_indicator"]
            return inputs, {**arguments, "image_only_indicator": torch.ones_like(indicator)}

        with ExitStack() as hooks:
            if pose_latents is not None:
                hooks.callback(self.conv_in.register_forward_hook(add_pose).remove)
            if image_only_indicator:
                for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
                    handle = block.register_forward_pre_hook(mark_as_images, with_kwargs=True)
                    hooks.callback(handle.remove)
            return super().forward(
                sample, timestep, encoder_hidden_states, added_time_ids, return_dict=return_dict
            )
