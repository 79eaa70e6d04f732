"""Stable Diffusion's UNet with AnimateDiff-style motion modules and an explicit scope for every group norm.

Built on diffusers' `UNetMotionModel`. The released weights of Animate Anyone and MagicAnimate were trained
with other scopes than diffusers':

========================  =================  ===================================  ==========================
norm                      diffusers          Animate Anyone                       MagicAnimate
========================  =================  ===================================  ==========================
residual blocks, output   each frame         each frame                           all frames of the window
spatial attention         each frame         each frame                           each frame
motion modules            all frames         each frame                           each frame
========================  =================  ===================================  ==========================

Getting one of them wrong changes outputs by order 1.

Legend: B batch, F frames, C channels, L tokens of the conditioning, D their width, H height, W width (of
latents). Frames are folded into the batch inside the UNet: ``BF``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from diffusers import UNetMotionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D, UNetMotionOutput
from einops import rearrange
from torch import Tensor, nn

from mimic.models.attention import AttentionSwitches
from mimic.models.deep_features import DeepFeatures, parts_reusing
from mimic.models.own_config import OwnConfig
from mimic.models.reference import ReferenceReading, check_reading, install_processors
from mimic.models.view import CalledAs, View

NORM_SCOPES = ("frame", "clip")

NO_MOTION = 0
"""Number of frames that `MotionModule` is called with where frames are unrelated pictures."""


class ClipGroupNorm(nn.GroupNorm):
    """Group norm over all frames of a clip, of features that have the frames folded into the batch."""

    def forward(self, features_BFCHW: Tensor, num_frames: int = 1) -> Tensor:
        clips = rearrange(features_BFCHW, "(b f) c h w -> b c f h w", f=num_frames)
        return rearrange(super().forward(clips), "b c f h w -> (b f) c h w")


class ClipResnetBlock(ResnetBlock2D):
    """A residual block whose norms are `ClipGroupNorm`.

    It takes the number of frames from its inputs: ``BF`` features, and one time embedding for each of the
    ``B`` videos.
    """

    def forward(self, input_tensor: Tensor, temb: Tensor, *_: Any, **__: Any) -> Tensor:
        num_frames = len(input_tensor) // len(temb)
        view = View(
            self,
            norm1=partial(self.norm1, num_frames=num_frames),
            norm2=partial(self.norm2, num_frames=num_frames),
        )
        temb_BFD = temb.repeat_interleave(num_frames, dim=0, output_size=len(input_tensor))
        return ResnetBlock2D.forward(cast(ResnetBlock2D, view), input_tensor, temb_BFD)


class FrameGroupNorm(nn.GroupNorm):
    """Group norm of each frame separately, of features ``B x C x F x H x W``."""

    def forward(self, features_BCFHW: Tensor) -> Tensor:
        folded = rearrange(features_BCFHW, "b c f h w -> (b f) c h w")
        if torch.is_grad_enabled() and not folded.requires_grad:
            # torch's backward on the CPU crashes where channels lie last and only the norm's weights learn.
            folded = folded.contiguous()
        return rearrange(super().forward(folded), "(b f) c h w -> b c f h w", b=len(features_BCFHW))


class MotionModule(AnimateDiffTransformer3D):
    """A temporal transformer: two self-attentions along time with sinusoidal positions, with norms over
    each frame. The last layer is initialised to zero, so that a new module returns its input."""

    def __init__(
        self, in_channels: int, *, num_attention_heads: int, norm_num_groups: int, max_positions: int
    ) -> None:
        super().__init__(
            num_attention_heads=num_attention_heads,
            attention_head_dim=in_channels // num_attention_heads,
            in_channels=in_channels,
            norm_num_groups=norm_num_groups,
            positional_embeddings="sinusoidal",
            num_positional_embeddings=max_positions,
        )
        self.norm = FrameGroupNorm(norm_num_groups, in_channels, eps=1e-6)  # diffusers' own eps
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        # diffusers' blocks do not checkpoint all of their motion modules, so each one does it itself.
        self.gradient_checkpointing = False

    def forward(self, hidden_states: Tensor, *args: Any, num_frames: int = 1, **_: Any) -> Tensor:
        """``BF x C x H x W`` in and out. With `num_frames` of `NO_MOTION` the features are returned as they
        are."""
        if len(args) > 3:  # the middle block passes it by position
            num_frames = args[3]
        if num_frames == NO_MOTION:
            return hidden_states
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            compute = super().forward
            return self._gradient_checkpointing_func(
                lambda hidden: compute(hidden, num_frames=num_frames), hidden_states
            )
        return super().forward(hidden_states, num_frames=num_frames)


class MotionUNet(AttentionSwitches, OwnConfig, UNetMotionModel):
    """`UNetMotionModel` with explicit norm scopes, a pose term after `conv_in` and attention to a reference.

    Args:
        num_attention_heads: heads of spatial attention; an SD 1.5 config calls this number
            `attention_head_dim`.
        motion_max_seq_length: positions along time; a window may not be longer.
        use_motion_mid_block: whether the middle block has a motion module too.
        motion_norm_num_groups: groups of the motion modules' norms.
        residual_norms: scope of the norms of residual blocks and output layer: ``frame`` or ``clip``.
    """

    _repeated_blocks = ("ResnetBlock2D", "ClipResnetBlock", "MotionModule", "FeedForward")
    """Class names of the layers that `compile_repeated_blocks` compiles. Spatial attention is not among them:
    each block's own name, by which it finds its reference, would make the compiler start anew."""

    @register_to_config
    def __init__(
        self,
        sample_size: int | None = 64,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlockMotion",
            "CrossAttnDownBlockMotion",
            "CrossAttnDownBlockMotion",
            "DownBlockMotion",
        ),
        up_block_types: tuple[str, ...] = (
            "UpBlockMotion",
            "CrossAttnUpBlockMotion",
            "CrossAttnUpBlockMotion",
            "CrossAttnUpBlockMotion",
        ),
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        cross_attention_dim: int = 768,
        num_attention_heads: int = 8,
        motion_max_seq_length: int = 32,
        motion_num_attention_heads: int = 8,
        use_motion_mid_block: bool = True,
        motion_norm_num_groups: int = 32,
        residual_norms: str = "frame",
    ) -> None:
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            cross_attention_dim=cross_attention_dim,
            num_attention_heads=num_attention_heads,
            motion_max_seq_length=motion_max_seq_length,
            motion_num_attention_heads=motion_num_attention_heads,
            use_motion_mid_block=use_motion_mid_block,
        )
        if residual_norms not in NORM_SCOPES:
            raise ValueError(f"residual_norms '{residual_norms}' is not known; use one of {NORM_SCOPES}.")
        self._exchange_motion_modules()
        if residual_norms == "clip":
            self._exchange_residual_norms()
        install_processors(self)

    def _exchange_motion_modules(self) -> None:
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            modules = getattr(block, "motion_modules", [])
            for i, module in enumerate(modules):
                modules[i] = MotionModule(
                    module.in_channels,
                    num_attention_heads=self.config.motion_num_attention_heads,
                    norm_num_groups=self.config.motion_norm_num_groups,
                    max_positions=self.config.motion_max_seq_length,
                )

    def _exchange_residual_norms(self) -> None:
        for block in self.modules():
            if isinstance(block, ResnetBlock2D):
                block.__class__ = ClipResnetBlock
                block.norm1, block.norm2 = _over_clip(block.norm1), _over_clip(block.norm2)
        self.conv_norm_out: nn.GroupNorm = _over_clip(self.conv_norm_out)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor,
        *,
        pose_features: Tensor | None = None,
        reference: ReferenceReading | None = None,
        use_motion: bool = True,
        down_block_additional_residuals: tuple[Tensor, ...] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        return_dict: bool = True,
        deep_features: DeepFeatures | None = None,
    ) -> UNetMotionOutput | tuple[Tensor]:
        """The parent's forward in the project's order of axes, frames before channels.

        Args:
            sample: noisy latents, ``B x F x C x H x W``.
            timestep: one, or ``B``.
            encoder_hidden_states: ``B x L x D``, shared by all frames of a video.
            pose_features: added to the output of `conv_in`, ``B x F x C0 x H x W`` (B may be 1).
            reference: tokens appended to the keys and values of self-attention; None disables it.
            use_motion: whether motion modules run; without them frames are unrelated pictures.
            down_block_additional_residuals, mid_block_additional_residual: outputs of a ControlNet,
                ``BF x …``.
            return_dict: return an output object instead of a tuple.
            deep_features: recorded or reused, see `mimic.models.deep_features`.

        Returns:
            sample ``B x F x C x H x W``.

        Raises:
            ValueError: more frames than positions; or a reference that does not fit.
        """
        num_videos, num_frames = sample.shape[:2]
        if use_motion and num_frames > self.config.motion_max_seq_length:
            raise ValueError(
                f"a window has {num_frames} frames, and the motion modules know "
                f"{self.config.motion_max_seq_length} positions; use a smaller window."
            )
        if reference is not None:
            check_reading(self, reference, num_videos)
        parts = self._parts_for(num_videos, num_frames, pose_features, use_motion)
        if deep_features is not None:
            parts = parts_reusing(self, deep_features, parts)
            if deep_features.is_shallow:
                mid_block_additional_residual = None
        view = View(self, **parts)
        predicted = UNetMotionModel.forward(
            cast(UNetMotionModel, view),
            sample.transpose(1, 2),
            timestep,
            encoder_hidden_states.repeat_interleave(num_frames, dim=0),
            cross_attention_kwargs=None if reference is None else {"reference": reference},
            down_block_additional_residuals=down_block_additional_residuals,
            mid_block_additional_residual=mid_block_additional_residual,
            return_dict=False,
        )[0].transpose(1, 2)
        return UNetMotionOutput(sample=predicted) if return_dict else (predicted,)

    def _parts_for(
        self, num_videos: int, num_frames: int, pose_features: Tensor | None, use_motion: bool
    ) -> dict[str, Any]:
        """Replacements of layers for one call of the parent's `forward`."""
        over_clip = self.config.residual_norms == "clip"

        def call(block: nn.Module, hidden_states: Tensor, temb: Tensor, **arguments: Any) -> Any:
            if over_clip:
                temb = temb[::num_frames]  # BF x D -> B x D
            if not use_motion and "num_frames" in arguments:
                arguments["num_frames"] = NO_MOTION
            return block(hidden_states=hidden_states, temb=temb, **arguments)

        parts: dict[str, Any] = {}
        if over_clip or not use_motion:
            parts["down_blocks"] = [CalledAs(block, call) for block in self.down_blocks]
            parts["mid_block"] = CalledAs(self.mid_block, call)
            parts["up_blocks"] = [CalledAs(block, call) for block in self.up_blocks]
        if over_clip:
            parts["conv_norm_out"] = partial(self.conv_norm_out, num_frames=num_frames)
        if pose_features is not None:
            term_BFCHW = pose_features.expand(num_videos, -1, -1, -1, -1).flatten(0, 1)
            parts["conv_in"] = CalledAs(self.conv_in, lambda conv_in, sample: conv_in(sample) + term_BFCHW)
        return parts


def _over_clip(norm: nn.GroupNorm) -> ClipGroupNorm:
    return ClipGroupNorm(norm.num_groups, norm.num_channels, eps=norm.eps)
