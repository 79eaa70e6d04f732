"""A tiny MagicAnimate with random weights, which trains twenty steps within seconds on a CPU."""

from __future__ import annotations

from diffusers import ControlNetModel, DDIMScheduler
from torch.nn.init import normal_

from mimic.families.magic_animate.keys import SCHEDULER
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.families.tiny import (
    SPATIAL,
    WIDTH,
    finished,
    seeded,
    tiny_motion_unet,
    tiny_reference_unet,
    tiny_vae,
)
from mimic.models.prompt_embedding import PromptEmbedding

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
    with seeded(seed, height, width):
        vae = tiny_vae(height)
        unet = tiny_motion_unet(
            height, motion_max_seq_length=_NUM_POSITIONS, use_motion_mid_block=False, residual_norms="clip"
        )
        appearance_encoder = tiny_reference_unet(height, ends_with_norm=True)
        controlnet = ControlNetModel(
            **SPATIAL,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
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
