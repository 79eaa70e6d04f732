"""A tiny MagicAnimate with random weights, which trains twenty steps within seconds on a CPU."""

from __future__ import annotations

from typing import Any

from diffusers import ControlNetModel, DDIMScheduler
from torch.nn.init import normal_

from mimic.families.magic_animate.keys import SCHEDULER
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.tiny import SPATIAL, WIDTH, finished, seeded, tiny_vae
from mimic.models.motion_unet import MotionUNet
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.reference_unet import ReferenceUNet

_NUM_POSITIONS = 24
_NUM_TOKENS = 2


def tiny_pipeline(*, height: int, width: int, seed: int) -> MagicAnimatePipeline:
    """Build a tiny pipeline with random weights drawn from `seed`.

    Args:
        height, width: default size of its videos in pixels, multiples of 8.
        seed: of the weights.

    Raises:
        ValueError: a side is not a multiple of 8.
    """
    spatial: dict[str, Any] = {**SPATIAL, "sample_size": height // 4, "num_attention_heads": 2}
    down, up = ("CrossAttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
    with seeded(seed, height, width):
        vae = tiny_vae(height)
        unet = MotionUNet(
            **spatial,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
            motion_num_attention_heads=2,
            motion_max_seq_length=_NUM_POSITIONS,
            motion_norm_num_groups=8,
            use_motion_mid_block=False,
            residual_norms="clip",
        )
        appearance_encoder = ReferenceUNet(
            **spatial, down_block_types=down, up_block_types=up, ends_with_norm=True
        )
        controlnet = ControlNetModel(
            **SPATIAL,
            down_block_types=down,
            attention_head_dim=2,
            conditioning_embedding_out_channels=(8, 8, 8),
        )
        # Non-zero, so that all parameters have gradients from the first step.
        for name, parameter in controlnet.named_parameters():
            if name.startswith(("controlnet_down_blocks", "controlnet_mid_block")) or ".conv_out." in name:
                normal_(parameter, std=0.02)
        prompt_embedding = PromptEmbedding(num_tokens=_NUM_TOKENS, width=WIDTH)
        normal_(prompt_embedding.embedding)
    pipeline = MagicAnimatePipeline(
        vae=vae,
        unet=unet,
        appearance_encoder=appearance_encoder,
        controlnet=controlnet,
        prompt_embedding=prompt_embedding,
        scheduler=DDIMScheduler(**SCHEDULER),
    )
    return finished(pipeline, height=height, width=width)
