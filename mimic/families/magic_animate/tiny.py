"""A MagicAnimate of random weights that trains twenty steps within seconds on a CPU: to try things out."""

from __future__ import annotations

import torch
from diffusers import ControlNetModel, DDIMScheduler

from mimic.families.magic_animate.keys import SCHEDULER
from mimic.families.magic_animate.pipeline import MagicAnimatePipeline
from mimic.models.mini import MiniTemporalVAE, initialise_as_averaging
from mimic.models.motion_unet import MotionUNet
from mimic.models.prompt_embedding import PromptEmbedding
from mimic.models.reference_unet import ReferenceUNet
from mimic.models.temporal_convolution import use_fast_temporal_convolutions

_WIDTH = 32  # of every layer: 8 norm groups of 4 channels, 2 heads of 16
_NUM_POSITIONS = 24
_NUM_TOKENS = 2


def tiny_pipeline(*, height: int, width: int, seed: int) -> MagicAnimatePipeline:
    """A pipeline that gives pictures of `height` x `width` (multiples of 8).

    The VAE (latents 4x smaller) begins as an averaging autoencoder, so that pictures survive it; everything
    else is random.

    Raises:
        ValueError: a side is no multiple of 8.
    """
    if height % 8 or width % 8:
        raise ValueError(f"a tiny model makes pictures of multiples of 8 pixels, not {height} x {width}.")
    spatial = {
        "block_out_channels": (_WIDTH, _WIDTH),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": _WIDTH,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = MiniTemporalVAE(block_out_channels=(_WIDTH,) * 3, sample_size=height)
        initialise_as_averaging(vae)
        unet = MotionUNet(
            **spatial,
            sample_size=height // 4,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
            num_attention_heads=2,
            motion_num_attention_heads=2,
            motion_max_seq_length=_NUM_POSITIONS,
            motion_norm_num_groups=8,
            use_motion_mid_block=False,
            residual_norms="clip",
        )
        appearance_encoder = ReferenceUNet(
            **spatial,
            sample_size=height // 4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            num_attention_heads=2,
            ends_with_norm=True,
        )
        controlnet = ControlNetModel(
            **spatial,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            attention_head_dim=2,
            conditioning_embedding_out_channels=(8, 8, 8),
        )
        # Not zero, so that all of it has gradients from the first step.
        for name, parameter in controlnet.named_parameters():
            if name.startswith(("controlnet_down_blocks", "controlnet_mid_block")) or ".conv_out." in name:
                torch.nn.init.normal_(parameter, std=0.02)
        prompt_embedding = PromptEmbedding(num_tokens=_NUM_TOKENS, width=_WIDTH)
        torch.nn.init.normal_(prompt_embedding.embedding)
    use_fast_temporal_convolutions(vae)
    for module in (vae, unet, appearance_encoder, controlnet, prompt_embedding):
        module.eval()
    pipeline = MagicAnimatePipeline(
        vae=vae,
        unet=unet,
        appearance_encoder=appearance_encoder,
        controlnet=controlnet,
        prompt_embedding=prompt_embedding,
        scheduler=DDIMScheduler(**SCHEDULER),
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.generation_defaults = {
        "height": height,
        "width": width,
        "num_inference_steps": 4,
        "min_guidance_scale": 1.0,
        "max_guidance_scale": 1.0,
    }
    return pipeline
