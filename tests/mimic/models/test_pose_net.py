import torch

from mimic.models.pose_net import PoseNet
from tests.tiny import golden, golden_pipeline


@torch.no_grad()
def test_output_is_the_recorded_one_for_folded_and_unfolded_frames():
    recorded = golden("modules")
    pose_net = golden_pipeline().pose_net
    torch.testing.assert_close(pose_net(recorded["posenet_in"]), recorded["posenet_out"], atol=1e-4, rtol=0)
    unfolded = pose_net(recorded["posenet_in"][None])
    torch.testing.assert_close(unfolded, recorded["posenet_out_5d"], atol=1e-4, rtol=0)


def test_a_new_pose_net_adds_nothing_and_can_learn():
    pose_net = PoseNet(noise_latent_channels=8)
    features = pose_net(torch.rand(1, 3, 16, 24))
    assert features.shape == (1, 8, 2, 3)
    assert not features.any()
    features.sum().backward()
    assert pose_net.final_proj.weight.grad.abs().sum() > 0


def test_initial_weights_keep_the_variance():
    torch.manual_seed(0)
    convolution = PoseNet().conv_layers[-2]  # 3 x 3 over 64 channels
    assert abs(float(convolution.weight.detach().std()) / (2 / (3 * 3 * 64)) ** 0.5 - 1) < 0.02
    assert not convolution.bias.any()
