"""A tiny Animate Anyone with random weights, which trains twenty steps within seconds on a CPU."""

from __future__ import annotations

from diffusers import DDIMScheduler
from torch.nn.init import normal_

from mimic.families.animate_anyone.keys import SCHEDULER
from mimic.families.animate_anyone.pipeline import AnimateAnyonePipeline
from mimic.families.tiny import (
    WIDTH,
    finished,
    seeded,
    tiny_image_encoder,
    tiny_motion_unet,
    tiny_reference_unet,
    tiny_vae,
)
from mimic.models.image_embedding import image_processor_class
from mimic.models.pose_guider import PoseGuider


def tiny_pipeline(*, height: int, width: int, seed: int) -> AnimateAnyonePipeline:
    """Build a tiny pipeline with random weights drawn from `seed`.

    Args:
        height, width: default size of its videos in pixels, multiples of 8.
        seed: of the weights.

    Raises:
        ValueError: a side is not a multiple of 8.
    """
    with seeded(seed, height, width):
        vae = tiny_vae(height)
        unet = tiny_motion_unet(height)
        reference_unet = tiny_reference_unet(height)
        pose_guider = PoseGuider(WIDTH, channels=(8, 16, 16))
        image_encoder = tiny_image_encoder()
        # Non-zero, so that all parameters have gradients from the first step.
        normal_(pose_guider.conv_out.weight, std=0.02)
        for name, parameter in unet.named_parameters():
            if "motion_modules" in name and name.endswith("proj_out.weight"):
                normal_(parameter, std=0.02)
    pipeline = AnimateAnyonePipeline(
        vae=vae,
        image_encoder=image_encoder,
        reference_unet=reference_unet,
        unet=unet,
        pose_guider=pose_guider,
        scheduler=DDIMScheduler(**SCHEDULER),
        feature_extractor=image_processor_class()(),
    )
    return finished(pipeline, height=height, width=width)
