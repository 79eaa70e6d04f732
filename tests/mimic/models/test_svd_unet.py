import pytest
import torch

from tests.tiny import golden, golden_pipeline, random_pipeline


@pytest.fixture(scope="module")
def unet():
    return golden_pipeline().unet


@pytest.fixture(scope="module")
def recorded():
    return golden("modules")


def arguments(recorded, prefix="unet_"):
    names = ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
    return {name: recorded["unet_timestep" if name == "timestep" else prefix + name] for name in names}


@pytest.mark.parametrize(
    ("name", "with_pose", "image_only"),
    [
        ("unet_out_no_pose", False, False),
        ("unet_out_pose", True, False),
        ("unet_out_pose_image_only", True, True),
    ],
)
@torch.no_grad()
def test_output_is_the_recorded_one(unet, recorded, name, with_pose, image_only):
    pose = recorded["posenet_out"] if with_pose else None
    output = unet(**arguments(recorded), pose_latents=pose, image_only_indicator=image_only).sample
    torch.testing.assert_close(output, recorded[name], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_batch_gives_what_its_items_give(unet, recorded):
    # The second item was recorded with the frames' features in reverse order.
    pose = torch.cat([recorded["posenet_out"], recorded["posenet_out"].flip(0)])
    output = unet(**arguments(recorded, "unet_b2_"), pose_latents=pose, return_dict=False)[0]
    torch.testing.assert_close(output, recorded["unet_b2_out_pose_per_item"], atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_pose_leaves_no_trace_in_the_next_call_even_after_an_error(unet, recorded):
    with pytest.raises(RuntimeError):
        unet(**arguments(recorded), pose_latents=torch.zeros(5, 32, 3, 3), image_only_indicator=True)
    output = unet(**arguments(recorded)).sample
    torch.testing.assert_close(output, recorded["unet_out_no_pose"], atol=1e-4, rtol=0)


def test_the_pose_gets_a_gradient():
    unet = random_pipeline().unet.train()
    pose = torch.zeros(2, 32, 4, 4, requires_grad=True)
    unet(
        torch.randn(1, 2, 8, 4, 4),
        torch.tensor(0.3),
        torch.randn(1, 1, 16),
        torch.ones(1, 3),
        pose_latents=pose,
    ).sample.sum().backward()
    assert pose.grad.abs().sum() > 0


def test_group_count_of_norms_is_a_setting():
    norms = [module for module in random_pipeline().unet.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {8}
