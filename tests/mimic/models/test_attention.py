"""Attention layers keep their backend, their reference and their numbers under diffusers' switches."""

import copy

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import nn

from mimic.families.animate_anyone.tiny import tiny_pipeline as animate_anyone
from mimic.families.magic_animate.tiny import tiny_pipeline as magic_animate
from mimic.models.attention import AttentionBackendError, DispatchedAttnProcessor, attention_layers
from mimic.models.reference import ReferenceBank
from tests.mimic.models.test_compiled import SVD_CALLS, motion_call
from tests.mimic.models.test_compiled import smallest_svd_unet as svd_unet
from tests.mimic.models.test_motion_unet import TEXT, motion_unet, normal, reference_unet


def filled_bank(writer=None, blocks="full"):
    bank = ReferenceBank(blocks)
    with torch.no_grad():
        (writer or reference_unet())(normal(1, 4, 8, 8, seed=2), 0, TEXT[:1], bank)
    return bank


@torch.no_grad()
def predict(unet, bank):
    return unet(**motion_call(pose=3, bank=bank)).sample


def by_diffusers(layer, hidden, context):
    """The plain twin: what diffusers' own processor computes."""
    return AttnProcessor2_0()(layer, hidden, context)


@pytest.fixture(scope="module")
def layers():
    return nn.ModuleList(attention_layers(svd_unet()))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_tokens", [None, 1, 3])
@pytest.mark.parametrize("num_queries", [1, 7, 64])
def test_the_default_processor_computes_bit_by_bit_what_diffusers_does(
    layers, dtype, num_tokens, num_queries
):
    for layer in layers.to(dtype):
        if (num_tokens is None) == layer.is_cross_attention:
            continue
        hidden = normal(6, num_queries, layer.query_dim).to(dtype)
        width = layer.cross_attention_dim
        context = None if num_tokens is None else normal(6, num_tokens, width, seed=1).to(dtype)
        assert torch.equal(layer(hidden, encoder_hidden_states=context), by_diffusers(layer, hidden, context))


def test_queries_and_keys_of_a_single_token_keep_their_zero_gradients():
    unet = svd_unet().train()
    unet(**SVD_CALLS[0]).sample.sum().backward()
    for layer in attention_layers(unet):
        assert layer.to_q.weight.grad is not None
        assert layer.to_k.weight.grad is not None


@torch.no_grad()
@pytest.mark.parametrize("switch", ["use_single_token_attention", "fuse_qkv_projections"])
def test_switches_of_speed_change_no_more_than_the_order_of_sums(switch):
    unet, plain = svd_unet(), svd_unet()
    keys = list(unet.state_dict())
    getattr(unet, switch)()
    for arguments in (SVD_CALLS[0], SVD_CALLS[-1]):
        torch.testing.assert_close(unet(**arguments).sample, plain(**arguments).sample, atol=1e-4, rtol=0)
    assert list(unet.state_dict()) == keys
    unet.load_state_dict(plain.state_dict(), strict=True)
    unet.unfuse_qkv_projections()
    unet.use_single_token_attention(False)
    assert torch.equal(unet(**SVD_CALLS[0]).sample, plain(**SVD_CALLS[0]).sample)


def test_layers_projected_together_still_pass_through_adapters():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_v"])
    adapted = peft.inject_adapter_in_model(config, svd_unet())
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        expected = adapted(**SVD_CALLS[0]).sample
        adapted.fuse_qkv_projections()
        torch.testing.assert_close(adapted(**SVD_CALLS[0]).sample, expected, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("build", [svd_unet, motion_unet, reference_unet])
def test_an_attention_backend_reaches_every_layer_of_this_network_alone(build):
    unet, other = build(), build()
    unet.set_attention_backend("_native_math")
    backends = {layer.processor._attention_backend.value for layer in attention_layers(unet)}
    assert backends == {"_native_math"}
    assert {layer.processor._attention_backend for layer in attention_layers(other)} == {None}
    unet.reset_attention_backend()
    assert {layer.processor._attention_backend for layer in attention_layers(unet)} == {None}


@torch.no_grad()
def test_a_backend_changes_the_computation_and_not_the_result():
    unet, plain = svd_unet(), svd_unet()
    unet.set_attention_backend("_native_math")
    profiles = []
    for network in (plain, unet):
        with torch.profiler.profile() as profile:
            result = network(**SVD_CALLS[0]).sample
        profiles.append({event.key for event in profile.key_averages()})
    assert any("flash" in name for name in profiles[0])
    assert not any("flash" in name for name in profiles[1])
    torch.testing.assert_close(result, plain(**SVD_CALLS[0]).sample, atol=1e-4, rtol=0)


def test_a_backend_that_is_not_there_is_one_sentence():
    unet = svd_unet()
    with pytest.raises(AttentionBackendError, match=r"attention backend 'flash' cannot be used .*native"):
        unet.set_attention_backend("flash")
    with pytest.raises(ValueError, match="must be one of the following"):
        unet.set_attention_backend("fast")
    assert {layer.processor._attention_backend for layer in attention_layers(unet)} == {None}
    unet.set_attention_backend("_native_cudnn")
    with pytest.raises(AttentionBackendError, match=r"'_native_cudnn' cannot compute torch.float32 heads"):
        unet(**SVD_CALLS[0])
    unet.set_attn_processor(AttnProcessor())
    with pytest.raises(ValueError, match=r"AttnProcessor does not support .* set_default_attn_processor"):
        unet.set_attention_backend("native")


SWITCHES = {
    "slicing of a network": lambda unet: [
        layer.set_attention_slice(1) for layer in unet.modules() if hasattr(layer, "sliceable_head_dim")
    ],
    "slicing off": lambda unet: [
        layer.set_attention_slice(None) for layer in unet.modules() if hasattr(layer, "sliceable_head_dim")
    ],
    "fused projections": lambda unet: unet.fuse_qkv_projections(),
    "unfused projections": lambda unet: (unet.fuse_qkv_projections(), unet.unfuse_qkv_projections()),
    "explicit attention": lambda unet: unet.set_attn_processor(AttnProcessor()),
    "default": lambda unet: unet.set_default_attn_processor(),
    "default after another": lambda unet: (
        unet.set_attn_processor(AttnProcessor()),
        unet.set_default_attn_processor(),
    ),
    "processors as a dictionary": lambda unet: unet.set_attn_processor(
        {name: AttnProcessor2_0() for name in unet.attn_processors}
    ),
    "one block": lambda unet: (
        unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(AttnProcessor())
    ),
    "one block, by attribute": lambda unet: setattr(
        unet.mid_block.attentions[0].transformer_blocks[0].attn1, "processor", AttnProcessor2_0()
    ),
    "xformers off": lambda unet: unet.disable_xformers_memory_efficient_attention(),
}


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("cut", [False, True])
def test_no_switch_loses_the_reference(switch, cut):
    unet, writer = motion_unet(), reference_unet(ends_with_norm=cut)
    keys = list(unet.state_dict())
    bank = filled_bank(writer)
    expected, without = predict(unet, bank), predict(unet, None)
    SWITCHES[switch](writer)
    SWITCHES[switch](unet)
    again = filled_bank(writer)
    for name, features in bank.features.items():
        torch.testing.assert_close(again.features[name], features, atol=1e-4, rtol=0)
    torch.testing.assert_close(predict(unet, again), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(expected, without, atol=1e-3)
    assert list(unet.state_dict()) == keys


@torch.no_grad()
@pytest.mark.parametrize("build", [svd_unet, motion_unet, reference_unet])
def test_the_default_processors_are_ours_again(build):
    unet = build()
    unet.set_attn_processor(AttnProcessor())
    unet.set_default_attn_processor()
    assert {type(layer.processor) for layer in attention_layers(unet)} == {DispatchedAttnProcessor}


@pytest.mark.parametrize("family", [animate_anyone, magic_animate])
@torch.no_grad()
def test_slicing_a_pipeline_and_back_keeps_the_reference(family):
    pipe = family(height=16, width=16, seed=0)
    writer = getattr(pipe, "reference_unet", None) or pipe.appearance_encoder
    width = writer.config.cross_attention_dim

    def bank():
        filled = ReferenceBank()
        writer(normal(1, 4, 4, 4), 0, normal(1, 1, width), filled)
        return filled.features

    expected = bank()
    pipe.enable_attention_slicing()
    for name, features in bank().items():
        torch.testing.assert_close(features, expected[name], atol=1e-4, rtol=0)
    pipe.disable_attention_slicing()
    for name, features in bank().items():
        assert torch.equal(features, expected[name])


def test_a_block_that_writes_or_reads_nothing_is_named():
    writer, unet = reference_unet(), motion_unet()
    bank = filled_bank(writer)
    block = writer.mid_block.attentions[0].transformer_blocks[0]
    block.attn1 = nn.Identity()
    block.attn1.forward = lambda hidden, **_: hidden
    with pytest.raises(ValueError, match=r"block mid_block\.attentions\.0.* wrote nothing into the bank"):
        filled_bank(writer)
    del bank.features["mid_block.attentions.0.transformer_blocks.0"]
    with pytest.raises(ValueError, match=r"nothing for block mid_block\.attentions\.0"):
        predict(unet, bank)


@torch.no_grad()
@pytest.mark.parametrize("attends", [(True, True), (True, False)])
@pytest.mark.parametrize("videos", [1, 2])
def test_a_reference_projected_once_gives_the_same(attends, videos):
    unet, writer, bank = motion_unet(), reference_unet(), ReferenceBank()
    writer(normal(videos, 4, 8, 8, seed=2), 0, TEXT[:videos], bank)
    plain = unet(**motion_call(bank=bank, attends=attends)).sample
    projected = bank.projected_by(unet)
    assert bank.projected == {}
    fast = unet(**motion_call(bank=projected, attends=attends)).sample
    torch.testing.assert_close(fast, plain, atol=1e-5, rtol=0)
    unet.set_attn_processor(AttnProcessor())  # cannot take keys: uses the features
    torch.testing.assert_close(
        unet(**motion_call(bank=projected, attends=attends)).sample, plain, atol=1e-4, rtol=0
    )


def test_copies_have_their_own_processors_and_keep_the_reference():
    unet = motion_unet()
    bank = filled_bank()
    copied = copy.deepcopy(unet)
    copied.set_attn_processor(AttnProcessor())
    assert {type(layer.processor) for layer in attention_layers(unet)} == {DispatchedAttnProcessor}
    torch.testing.assert_close(predict(copied, bank), predict(unet, bank), atol=1e-4, rtol=0)
