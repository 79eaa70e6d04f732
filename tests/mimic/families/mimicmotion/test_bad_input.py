"""Each mistake is told in one sentence before anything is computed."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from mimic import PoseNet
from tests.tiny import random_image, random_pipeline, random_poses

POSES = random_poses(6, 16, 24)


@pytest.fixture(scope="module")
def pipe():
    pipe = random_pipeline()
    pipe.image_encoder.register_forward_pre_hook(lambda *_: pytest.fail("work began before the check"))
    return pipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"height": 18, "width": 24},
            r"18 x 24 \(height x width\); both have to be multiples of 4. Use 16 x 24",
        ),
        ({"height": 16, "width": 32}, r"a pose map is \[3, 16, 24\]; expected 3 x 16 x 32"),
        (
            {"image_pose": POSES[:3], "num_frames": 6},
            "image_pose has 3 frames, num_frames is 6; use 3 at most",
        ),
        ({"image_pose": POSES[0]}, r"image_pose is a Tensor of shape \(3, 16, 24\)"),
        ({"image_pose": ["clip.mp4"]}, "image_pose is a str"),
        ({"image_pose": [random_image(16, 24), random_image(8, 8)]}, "differ in size or type"),
        ({"image_pose": POSES * float("nan")}, "NaN or infinite"),
        ({"sigmas": [1.0, 2.0]}, r"sigmas are \[1.0, 2.0\]; expected decreasing"),
        ({"timesteps": [900, 500]}, "takes continuous ones"),
        ({"image_pose": (POSES + 1) * 127.5}, r"have to be in \[-1, 1\]: uint8 maps / 127.5 - 1"),
        ({"image_pose": torch.stack([POSES] * 3)}, "3 clips of poses for 1 videos"),
        ({"image_pose": lambda frames: POSES[frames]}, "num_frames is not given"),
        ({"image_pose": None}, "num_frames is not given"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"tile_size": 4, "tile_overlap": 4}, "tile_overlap is 4 and tile_size 4"),
        ({"tile_size": 0}, "tile_size is 0"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0"),
        ({"fps": 0}, r"conditioning_fps \(fps\) is 0"),
        ({"decode_chunk_size": 0}, "decode_chunk_size is 0"),
        ({"noise_aug_strength": -0.1}, "noise_aug_strength is -0.1"),
        ({"fusion": "mean"}, "fusion is 'mean'; expected 'released', 'progressive', 'average' or 'none'"),
        ({"noise": "pink"}, "noise is 'pink'"),
        ({"output_type": "numpy"}, "output_type 'numpy' is not known; use one of pil, np, pt, latent"),
        ({"generator": [torch.Generator()] * 2}, "2 generators for 1 videos"),
        (
            {"latents": torch.zeros(1, 5, 4, 4, 6), "tile_size": 4},
            r"\[1, 5, 4, 4, 6\]; expected 1 videos x 4 or 6",
        ),
        ({"latents": torch.zeros(1, 6, 4, 2, 3)}, "expected 1 videos x 6 or 16 frames x 4 x 4 x 6"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "has noise; available are latents"),
        ({"image": []}, "there is no image"),
        ({"image": np.zeros((16, 24))}, r"the image is a ndarray of shape \(16, 24\)"),
    ],
)
def test_arguments_that_do_not_fit(pipe, arguments, message):
    call = {"image": random_image(16, 24), "image_pose": POSES, **arguments}
    with pytest.raises(ValueError, match=message):
        pipe(**call)


def test_guidance_by_noise_level_needs_a_scheduler_with_noise_levels():
    pipe = random_pipeline()
    pipe.scheduler = DDIMScheduler()
    with pytest.raises(ValueError, match="scheduler DDIMScheduler cannot run on this family"):
        pipe(random_image(16, 24), POSES, guidance_interval=(0.1, 10.0))


@pytest.mark.parametrize(
    ("pose_net", "message"),
    [
        (PoseNet(32), r"make maps 8x smaller, the VAE makes latents 4x smaller; build PoseNet with strides"),
        (PoseNet(16, (3, 8, 8), (2, 2, 1)), "gives 16 channels, the UNet's first convolution 32"),
    ],
)
def test_parts_that_do_not_fit(pose_net, message):
    pipe = random_pipeline()
    pipe.pose_net = pose_net
    with pytest.raises(ValueError, match=message):
        pipe(random_image(16, 24), POSES)


def test_a_vae_of_other_latents_does_not_fit():
    pipe = random_pipeline()
    pipe.vae.register_to_config(latent_channels=8)
    with pytest.raises(ValueError, match="the UNet takes 8 channels and the VAE's latents have 8"):
        pipe(random_image(16, 24), POSES)


def test_several_videos_are_streamed_one_by_one(pipe):
    with pytest.raises(ValueError, match="2 videos; stream them one at a time"):
        next(pipe.decode_stream(torch.zeros(2, 3, 4, 4, 6)))
    with pytest.raises(ValueError, match="decode_chunk_size is 0"):
        next(pipe.decode_stream(torch.zeros(3, 4, 4, 6), 0))
