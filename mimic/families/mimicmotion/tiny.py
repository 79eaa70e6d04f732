"""A tiny MimicMotion with random weights, which trains twenty steps within seconds on a CPU."""

from __future__ import annotations

from torch.nn.init import normal_

from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.stable_video_diffusion import svd_scheduler
from mimic.families.tiny import SPATIAL, WIDTH, finished, seeded, tiny_image_encoder, tiny_vae
from mimic.models.image_embedding import image_processor_class
from mimic.models.pose_net import PoseNet
from mimic.models.svd_unet import PoseConditionedSVDUNet


def tiny_pipeline(*, height: int, width: int, seed: int) -> MimicMotionPipeline:
    """Build a tiny pipeline with random weights drawn from `seed`.

    Args:
        height, width: default size of its videos in pixels, multiples of 8.
        seed: of the weights.

    Raises:
        ValueError: a side is not a multiple of 8.
    """
    with seeded(seed, height, width):
        vae = tiny_vae(height)
        unet = PoseConditionedSVDUNet(
            **SPATIAL,
            sample_size=height // 4,
            down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
            up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
            num_attention_heads=(2, 2),
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=24,
        )
        image_encoder = tiny_image_encoder()
        pose_net = PoseNet(WIDTH, channels=(3, 8, 8), strides=(1, 2, 2))
        # Non-zero, so that all parameters of PoseNet have gradients from the first step.
        normal_(pose_net.final_proj.weight, std=0.02)
    pipeline = MimicMotionPipeline(
        vae=vae,
        image_encoder=image_encoder,
        unet=unet,
        scheduler=svd_scheduler(),
        feature_extractor=image_processor_class()(),
        pose_net=pose_net,
    )
    return finished(pipeline, height=height, width=width)
