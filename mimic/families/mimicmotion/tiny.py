"""A MimicMotion of random weights that trains twenty steps within seconds on a CPU: for trying things out."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.stable_video_diffusion import svd_scheduler
from mimic.models.image_embedding import image_processor_class
from mimic.models.mini import MiniTemporalVAE, initialise_as_averaging
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.models.temporal_convolution import use_fast_temporal_convolutions

_WIDTH = 32  # of every layer: 8 norm groups of 4 channels, 2 heads of 16


def tiny_pipeline(*, height: int, width: int, seed: int) -> MimicMotionPipeline:
    """A pipeline that gives pictures of `height` x `width` (multiples of 8).

    The VAE (latents 4x smaller) begins as an averaging autoencoder, so that pictures survive it; everything
    else is random.

    Raises:
        ValueError: a side is no multiple of 8.
    """
    if height % 8 or width % 8:
        raise ValueError(f"a tiny model makes pictures of multiples of 8 pixels, not {height} x {width}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = MiniTemporalVAE(block_out_channels=(_WIDTH,) * 3, sample_size=height)
        initialise_as_averaging(vae)
        unet = PoseConditionedSVDUNet(
            sample_size=height // 4,
            block_out_channels=(_WIDTH, _WIDTH),
            down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
            up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
            layers_per_block=1,
            num_attention_heads=(2, 2),
            cross_attention_dim=_WIDTH,
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
            norm_num_groups=8,
        )
        image_encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=_WIDTH,
                intermediate_size=_WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                image_size=32,
                patch_size=16,
                projection_dim=_WIDTH,
            )
        )
        pose_net = PoseNet(_WIDTH, channels=(3, 8, 8), strides=(1, 2, 2))
        # Not zero, so that the whole of PoseNet has gradients from the first step.
        torch.nn.init.normal_(pose_net.final_proj.weight, std=0.02)
    for module in (vae, unet, image_encoder, pose_net):
        use_fast_temporal_convolutions(module)
        module.eval()
    pipeline = MimicMotionPipeline(
        vae=vae,
        image_encoder=image_encoder,
        unet=unet,
        scheduler=svd_scheduler(),
        feature_extractor=image_processor_class()(),
        pose_net=pose_net,
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
