"""Norm scopes, motion modules and the lent reference of the Stable Diffusion UNet for video."""

import pytest
import torch
from torch import nn

from mimic.models.motion_unet import ClipGroupNorm, FrameGroupNorm, MotionModule, MotionUNet
from mimic.models.reference import ReferenceBank, reference_blocks
from mimic.models.reference_unet import ReferenceUNet

COMMON = {
    "block_out_channels": (16, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "cross_attention_dim": 8,
    "num_attention_heads": 2,
}


def motion_unet(**changes):
    torch.manual_seed(0)
    unet = MotionUNet(
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        motion_num_attention_heads=2,
        motion_norm_num_groups=4,
        motion_max_seq_length=8,
        **{**COMMON, **changes},
    )
    for module in unet.modules():
        if isinstance(module, MotionModule):
            nn.init.normal_(module.proj_out.weight, std=0.1)
    return unet.eval()


def reference_unet(**changes):
    torch.manual_seed(1)
    return ReferenceUNet(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        **{"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), **COMMON, **changes},
    ).eval()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SAMPLE, TEXT = normal(2, 3, 4, 8, 8), normal(2, 1, 8, seed=1)


def test_norms_over_a_clip_and_over_a_frame_are_group_norms_of_those_values():
    features = normal(2, 6, 8, 4, 4)  # B x F x C x H x W
    over_clip = ClipGroupNorm(4, 8)
    expected = nn.functional.group_norm(features.transpose(1, 2), 4).transpose(1, 2)
    torch.testing.assert_close(over_clip(features.flatten(0, 1), num_frames=6), expected.flatten(0, 1))
    each = torch.stack([nn.functional.group_norm(video, 4) for video in features])
    torch.testing.assert_close(FrameGroupNorm(4, 8)(features.transpose(1, 2)), each.transpose(1, 2))


@torch.no_grad()
@pytest.mark.parametrize(("scope", "stands_alone"), [("frame", True), ("clip", False)])
def test_without_motion_a_frame_stands_alone_unless_norms_span_the_clip(scope, stands_alone):
    unet = motion_unet(residual_norms=scope)
    clip = unet(SAMPLE, 5, TEXT, use_motion=False).sample
    frame = unet(SAMPLE[:, 1:2], 5, TEXT, use_motion=False).sample
    assert torch.allclose(clip[:, 1:2], frame, atol=1e-5) == stands_alone
    assert not torch.allclose(clip, unet(SAMPLE, 5, TEXT).sample, atol=1e-3)


@torch.no_grad()
def test_fresh_motion_modules_change_nothing():
    torch.manual_seed(0)
    module = MotionModule(16, num_attention_heads=2, norm_num_groups=4, max_positions=8)
    features = normal(6, 16, 4, 4)
    assert torch.equal(module(features, num_frames=3), features)


def test_the_middle_block_has_a_motion_module_or_not():
    names = [name for name, module in motion_unet().named_modules() if isinstance(module, MotionModule)]
    without = motion_unet(use_motion_mid_block=False)
    others = [name for name, module in without.named_modules() if isinstance(module, MotionModule)]
    assert [name for name in names if name not in others] == ["mid_block.motion_modules.0"]


def test_more_frames_than_positions_are_told():
    with pytest.raises(ValueError, match="a window has 9 frames, and the motion modules know 8 positions"):
        motion_unet()(normal(1, 9, 4, 8, 8), 5, TEXT[:1])


@torch.no_grad()
def test_pose_features_are_added_once_for_all_videos_or_for_each():
    unet = motion_unet()
    pose = normal(1, 3, 16, 8, 8)
    of_all = unet(SAMPLE, 5, TEXT, pose_features=pose).sample
    assert torch.equal(of_all, unet(SAMPLE, 5, TEXT, pose_features=pose.expand(2, -1, -1, -1, -1)).sample)
    assert not torch.allclose(of_all, unet(SAMPLE, 5, TEXT).sample, atol=1e-3)


@torch.no_grad()
def test_who_does_not_attend_sees_nothing_of_the_reference():
    unet, writer = motion_unet(), reference_unet()
    bank = ReferenceBank()
    writer(normal(2, 4, 8, 8, seed=2), 0, TEXT, bank)
    plain = unet(SAMPLE, 5, TEXT).sample
    mixed = unet(SAMPLE, 5, TEXT, reference=bank.read([False, True])).sample
    other = unet(SAMPLE, 5, TEXT, reference=bank.read([True, False])).sample
    both = unet(SAMPLE, 5, TEXT, reference=bank.read([True, True])).sample
    torch.testing.assert_close(mixed[0], plain[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed[1], both[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(other[0], both[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(other[1], plain[1], atol=1e-5, rtol=0)
    assert not torch.allclose(both, plain, atol=1e-3)


def test_only_the_blocks_that_take_part_are_banked():
    for blocks, expected in (("full", 4), ("midup", 3)):
        bank = ReferenceBank(blocks)
        reference_unet(ends_with_norm=True)(normal(1, 4, 8, 8), 0, TEXT[:1], bank)
        assert len(bank.features) == expected
        assert set(bank.features) == set(reference_blocks(motion_unet(), blocks))
    with pytest.raises(ValueError, match="blocks 'down' are not known; use one of full, midup"):
        ReferenceBank("down")


def test_the_last_block_may_end_with_its_norm_and_banks_the_same():
    whole, cut = reference_unet(), reference_unet(ends_with_norm=True)
    cut.load_state_dict({key: value for key, value in whole.state_dict().items() if key in cut.state_dict()})
    banks = [ReferenceBank(), ReferenceBank()]
    for network, bank in zip((whole, cut), banks):
        network(normal(1, 4, 8, 8), 0, TEXT[:1], bank)
    assert banks[0].features.keys() == banks[1].features.keys()
    for name, features in banks[0].features.items():
        assert torch.equal(features, banks[1].features[name])
    behind = sum(p.numel() for p in whole.parameters_behind_the_bank())
    lost = sum(p.numel() for p in whole.parameters()) - sum(p.numel() for p in cut.parameters())
    assert behind == lost


def test_a_reference_that_would_not_be_read_is_told():
    unet, bank = motion_unet(), ReferenceBank()
    with pytest.raises(ValueError, match="the reference bank is empty"):
        unet(SAMPLE, 5, TEXT, reference=bank.read([True, True]))
    bank.write("up_blocks.7.attentions.0.transformer_blocks.0", normal(1, 4, 16))
    with pytest.raises(ValueError, match=r"no block of the denoising network reads .* of up_blocks\.7"):
        unet(SAMPLE, 5, TEXT, reference=bank.read([True, True]))
    with pytest.raises(ValueError, match="the reading is for 1 videos, the batch has 2"):
        unet(SAMPLE, 5, TEXT, reference=bank.read([True]))


def test_gradients_reach_the_reference_network_also_with_activations_made_anew():
    results = []
    for saves_memory in (False, True):
        unet, writer = motion_unet(residual_norms="clip").train(), reference_unet().train()
        if saves_memory:
            unet.enable_gradient_checkpointing()
            writer.enable_gradient_checkpointing()
        bank = ReferenceBank()
        writer(normal(2, 4, 8, 8, seed=2), 0, TEXT, bank)
        reading = bank.read([True, False])
        unet(SAMPLE, torch.tensor([5, 9]), TEXT, reference=reading).sample.square().mean().backward()
        behind = {id(parameter) for parameter in writer.parameters_behind_the_bank()}
        for parameter in (*unet.parameters(), *writer.parameters()):
            assert (parameter.grad is None) == (id(parameter) in behind)
        results.append([p.grad for p in (*unet.parameters(), *writer.parameters()) if p.grad is not None])
    for plain, again in zip(*results):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize("ends_with_norm", [False, True])
def test_layers_that_no_feature_of_the_bank_depends_on_are_known_in_any_layout(ends_with_norm):
    for ups in (("CrossAttnUpBlock2D", "UpBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")):
        writer, bank = reference_unet(up_block_types=ups, ends_with_norm=ends_with_norm), ReferenceBank()
        writer(normal(1, 4, 8, 8), 0, TEXT[:1], bank)
        sum(features.square().mean() for features in bank.features.values()).backward()
        with_gradient = [name for name, p in writer.named_parameters() if p.grad is not None]
        assert writer.names_that_fill_the_bank() == with_gradient


@torch.no_grad()
@pytest.mark.parametrize("build", [motion_unet, reference_unet])
def test_saved_and_loaded_they_are_the_same(build, tmp_path, capfd):
    network = build()
    network.save_pretrained(tmp_path)
    loaded = type(network).from_pretrained(tmp_path)
    assert "not expected" not in capfd.readouterr().err
    assert loaded.config.num_attention_heads == 2
    state = loaded.state_dict()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_norms_of_motion_modules_learn_from_features_that_do_not():
    """torch's own backward crashes here: channels last, and no gradient wanted of the input."""
    norm = FrameGroupNorm(8, 64)
    features = torch.randn(2, 8, 24, 24, 64, generator=torch.Generator().manual_seed(0)).permute(
        0, 4, 1, 2, 3
    )
    norm(features).square().sum().backward()
    given = norm.weight.grad.clone()
    norm.zero_grad()
    norm(features.contiguous().requires_grad_()).square().sum().backward()
    torch.testing.assert_close(given, norm.weight.grad)
