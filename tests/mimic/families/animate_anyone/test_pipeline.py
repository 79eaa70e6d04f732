"""What calls to the pipeline promise, with a model of random weights."""

import pytest
import torch

from mimic.families.animate_anyone.tiny import tiny_pipeline
from mimic.models.pose_guider import PaperPoseGuider, PoseGuider
from mimic.models.reference_unet import ReferenceUNet
from tests.tiny import random_image, random_poses

HEIGHT, WIDTH = 16, 24
SHORT = {"num_inference_steps": 2, "tile_size": 4, "tile_overlap": 1, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def latents_of(pipe, image=None, num_frames=6, **changes):
    arguments = {"image_pose": random_poses(num_frames, HEIGHT, WIDTH), "generator": seeded(), **SHORT}
    image = random_image(HEIGHT, WIDTH) if image is None else image
    return pipe(image, output_type="latent", **{**arguments, **changes}).frames


@pytest.mark.slow
def test_the_picture_its_pose_and_the_seed_matter(pipe):
    first = latents_of(pipe)
    assert first.shape == (1, 6, 4, HEIGHT // 4, WIDTH // 4)
    assert torch.equal(first, latents_of(pipe))
    for change in (
        {"image": random_image(HEIGHT, WIDTH, seed=1)},
        {"image_pose": random_poses(6, HEIGHT, WIDTH, seed=1)},
        {"image_pose": None, "num_frames": 6, "height": HEIGHT, "width": WIDTH},
        {"generator": seeded(1)},
        {"guidance_scale": 1.0},
        {"use_motion": False},
        {"noise": "window"},
    ):
        if change.get("num_frames"):
            changed = pipe(
                random_image(HEIGHT, WIDTH), output_type="latent", generator=seeded(), **SHORT, **change
            ).frames
        else:
            changed = latents_of(pipe, **change)
        # Far above rounding; weights of a tiny model let a picture matter little.
        assert float((first - changed).abs().max()) > 5e-5, change


def test_videos_of_a_batch_are_single_runs(pipe):
    images = [random_image(HEIGHT, WIDTH, seed) for seed in (1, 2)]
    poses = torch.stack([random_poses(6, HEIGHT, WIDTH, seed) for seed in (3, 4)])
    together = latents_of(pipe, images, image_pose=poses, generator=[seeded(5), seeded(6)])
    for item, (image, pose, seed) in enumerate(zip(images, poses, (5, 6))):
        alone = latents_of(pipe, image, image_pose=pose, generator=seeded(seed))
        assert torch.equal(together[item : item + 1], alone)


@pytest.mark.parametrize("fusion", ["released", "progressive", "average", "none"])
def test_any_fusion_works_and_is_nothing_in_one_window(pipe, fusion):
    assert torch.isfinite(latents_of(pipe, fusion=fusion)).all()
    one = latents_of(pipe, num_frames=4, fusion=fusion)
    assert torch.equal(one, latents_of(pipe, num_frames=4))


def test_the_reference_network_runs_once(pipe):
    calls = []
    hook = pipe.reference_unet.register_forward_hook(lambda *_: calls.append(1))
    latents_of(pipe)
    hook.remove()
    assert len(calls) == 1


def test_guidance_up_to_one_needs_one_pass_only(pipe):
    calls = []
    hook = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    latents_of(pipe, num_frames=4, guidance_scale=1.0)
    assert len(calls) == 2
    latents_of(pipe, num_frames=4)
    assert len(calls) == 4, "both branches in one call"
    latents_of(pipe, num_frames=4, batch_guidance=False)
    hook.remove()
    assert len(calls) == 8


def test_without_motion_modules_each_frame_stands_alone(pipe):
    noise = torch.randn(1, 6, 4, HEIGHT // 4, WIDTH // 4, generator=seeded())
    poses = random_poses(6, HEIGHT, WIDTH)
    clip = latents_of(pipe, latents=noise, use_motion=False)
    frame = latents_of(
        pipe, num_frames=1, latents=noise[:, 3:4], image_pose=poses[3:4], use_motion=False, tile_overlap=0
    )
    torch.testing.assert_close(clip[:, 3:4], frame, atol=1e-4, rtol=1e-4)


def test_callbacks_see_change_and_stop(pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, tensors["latents"].shape))
        pipe._interrupt = step == 1
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 0 else {}

    latents_of(pipe, num_inference_steps=4, callback_on_step_end=callback)
    assert seen == [(0, (1, 6, 4, 4, 6)), (1, (1, 6, 4, 4, 6))]


def test_half_precision_works_on_the_cpu():
    half = tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0).to(torch.float16)
    frames = half(
        random_image(HEIGHT, WIDTH), random_poses(5, HEIGHT, WIDTH), output_type="pt", **SHORT
    ).frames
    assert frames.shape == (1, 5, 3, HEIGHT, WIDTH)
    assert torch.isfinite(frames).all()


def test_offload_hooks_change_nothing(pipe):
    expected = latents_of(pipe)
    offloaded = tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    offloaded.enable_model_cpu_offload(device="cpu")
    assert torch.equal(latents_of(offloaded), expected)
    assert torch.equal(latents_of(offloaded), expected)


POSES = random_poses(6, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tile_size": 40, "image_pose": POSES.repeat(8, 1, 1, 1)}, "a window has 40 frames, .* have 32"),
        ({"windows": "open"}, "windows is 'open'"),
        ({"compat": "old"}, "compat is 'old'; expected 'none' or 'released'"),
        ({"fusion": "mean"}, "fusion is 'mean'"),
        ({"tile_size": 4, "tile_overlap": 4}, "overlap is 4 and size 4"),
        ({"height": 18, "width": 24}, "both have to be multiples of 4"),
        ({"num_frames": 9}, "image_pose has 6 frames, num_frames is 9"),
        ({"latents": torch.zeros(1, 5, 4, 4, 6)}, r"\[1, 5, 4, 4, 6\]; expected 1 videos x 6 or 24 frames"),
        ({"image": []}, "there is no image"),
    ],
)
def test_arguments_that_do_not_fit(pipe, arguments, message):
    call = {"image": random_image(HEIGHT, WIDTH), "image_pose": POSES, **arguments}
    with pytest.raises(ValueError, match=message):
        pipe(**call)


@pytest.mark.parametrize(
    ("name", "part", "message"),
    [
        ("pose_guider", PoseGuider(32), "makes maps 8x smaller, the VAE makes latents 4x smaller"),
        (
            "pose_guider",
            PaperPoseGuider(16, downscale=4),
            "gives 16 channels, the UNet's first convolution 32",
        ),
        (
            "reference_unet",
            ReferenceUNet(
                block_out_channels=(32, 64),
                norm_num_groups=8,
                num_attention_heads=2,
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            ),
            r"blocks of \(32, 64\) channels, the UNet of \(32, 32\)",
        ),
    ],
)
def test_parts_that_do_not_fit(name, part, message):
    pipe = tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    setattr(pipe, name, part)
    with pytest.raises(ValueError, match=message):
        pipe(random_image(HEIGHT, WIDTH), POSES)


def test_the_papers_guider_serves_as_well():
    pipe = tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    pipe.pose_guider = PaperPoseGuider(32, downscale=4)
    without = latents_of(pipe)
    torch.nn.init.normal_(pipe.pose_guider.final_proj.weight)
    assert not torch.allclose(without, latents_of(pipe), atol=1e-3)
