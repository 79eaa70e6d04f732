"""A Stable Diffusion UNet that collects the inputs of its self-attention for a reference picture.

Legend: B batch, C latent channels, L tokens of the conditioning, D their width, H height, W width (of
latents).
"""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from mimic.models.attention import AttentionSwitches
from mimic.models.own_config import OwnConfig
from mimic.models.reference import (
    NormAlone,
    ReferenceBank,
    check_written,
    install_processors,
    reference_blocks,
)


class ReferenceUNet(AttentionSwitches, OwnConfig, UNet2DConditionModel):
    """`UNet2DConditionModel` without output layers, whose self-attention fills a `ReferenceBank`.

    Args:
        num_attention_heads: heads of spatial attention; an SD 1.5 config calls this number
            `attention_head_dim`.
        ends_with_norm: keep only the first norm of the last transformer block; the bank needs no more.
    """

    _repeated_blocks = ("ResnetBlock2D", "FeedForward")
    """Class names of the layers that `compile_repeated_blocks` compiles, as in `MotionUNet`."""

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = 64,
        in_channels: int = 4,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D",
        ),
        up_block_types: tuple[str, ...] = (
            "UpBlock2D",
            "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D",
            "CrossAttnUpBlock2D",
        ),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 768,
        num_attention_heads: int = 8,
        ends_with_norm: bool = False,
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim,
            # diffusers takes this argument for the number of heads, and registers the other as None.
            attention_head_dim=num_attention_heads,
        )
        self.register_to_config(num_attention_heads=num_attention_heads)
        self.conv_norm_out = None
        self.conv_act = None
        self.conv_out = nn.Identity()
        install_processors(self)
        if ends_with_norm:
            self._cut_last_block()

    def _cut_last_block(self) -> None:
        last = max(i for i, block in enumerate(self.up_blocks) if hasattr(block, "attentions"))
        index = len(self.up_blocks[last].attentions) - 1
        attention = self.up_blocks[last].attentions[index]
        name = f"up_blocks.{last}.attentions.{index}.transformer_blocks.0"
        attention.transformer_blocks[0] = NormAlone(attention.transformer_blocks[0], name)
        attention.proj_out = nn.Identity()

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        bank: ReferenceBank | None = None,
        **others: Any,
    ) -> Tensor:
        """Fill `bank`; return the features before the output layers, ``B x C0 x H x W``.

        Args:
            sample: latents of the reference, ``B x C x H x W``.
            timestep: 0 for a clean reference, or the denoiser's own.
            encoder_hidden_states: ``B x L x D``.
            bank: filled with the features of its blocks.
            others: further arguments of the parent's forward.

        Raises:
            ValueError: a block that takes part wrote nothing.
        """
        features: Tensor = super().forward(
            sample,
            timestep,
            encoder_hidden_states,
            cross_attention_kwargs=None if bank is None else {"reference": bank},
            return_dict=False,
            **others,
        )[0]
        if bank is not None:
            check_written(self, bank)
        return features

    def parameters_behind_the_bank(self) -> list[nn.Parameter]:
        """Parameters that no feature of the bank depends on, so that they get no gradient in training: those
        of the last transformer block after its first norm, and of every layer that comes after that block.
        """
        name = max(reference_blocks(self), key=_place)
        attention, _, _ = name.rpartition(".transformer_blocks.")
        block, _, _ = attention.rpartition(".attentions.")
        later = [child for child, _ in self.up_blocks.named_children() if int(child) > _place(block)[1]]
        prefixes = (
            *(f"{name}.{part}." for part in _BEHIND_NORM1),
            f"{attention}.proj_out.",
            f"{block}.upsamplers.",
            *(f"up_blocks.{child}." for child in later),
        )
        return [p for key, p in self.named_parameters() if key.startswith(prefixes)]

    def names_that_fill_the_bank(self) -> list[str]:
        """Names of the other parameters, those that a training can reach."""
        behind = {id(parameter) for parameter in self.parameters_behind_the_bank()}
        return [name for name, parameter in self.named_parameters() if id(parameter) not in behind]


_BEHIND_NORM1 = ("attn1", "norm2", "attn2", "norm3", "ff")


def _place(name: str) -> tuple[int, ...]:
    """Sort key: the position of a block in the order of computation."""
    part = ("down_blocks", "mid_block", "up_blocks").index(name.split(".", 1)[0])
    return (part, *(int(piece) for piece in name.split(".") if piece.isdecimal()))
