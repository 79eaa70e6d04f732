"""A network gives the same result compiled, from several threads at once, copied, wrapped and adapted."""

import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mimic.models.memory import save_memory
from mimic.models.reference import ReferenceBank
from mimic.models.speed import compiled_blocks, exact_speed, recompile_limits
from mimic.models.svd_unet import PoseConditionedSVDUNet
from tests.mimic.models.test_motion_unet import TEXT, motion_unet, normal, reference_unet
from tests.tiny import random_pipeline


@pytest.fixture
def compiler(monkeypatch):
    """A compiler without results of other tests. Its trace log, which pytest would capture, is left out."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "propagate", False)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def svd_unet():
    return random_pipeline().unet


def smallest_svd_unet():
    """A single level, so that tracing takes little time."""
    torch.manual_seed(0)
    return PoseConditionedSVDUNet(
        block_out_channels=(32,),
        down_block_types=("DownBlockSpatioTemporal",),
        up_block_types=("UpBlockSpatioTemporal",),
        layers_per_block=1,
        num_attention_heads=(2,),
        cross_attention_dim=16,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    ).eval()


def svd_call(frames=2, pose=None, seed=0, image_only=False, videos=1):
    """Arguments of a call; `pose` is the seed of its pose term."""
    arguments = {
        "sample": normal(videos, frames, 8, 4, 4, seed=seed),
        "timestep": torch.tensor(0.3),
        "encoder_hidden_states": normal(videos, 1, 16, seed=seed + 1),
        "added_time_ids": torch.ones(videos, 3),
        "image_only_indicator": image_only,
    }
    if pose is not None:
        arguments["pose_latents"] = normal(videos * frames, 32, 4, 4, seed=pose)
    return arguments


SVD_CALLS = [
    svd_call(pose=3),
    svd_call(pose=4),
    svd_call(),
    svd_call(pose=5),
    svd_call(frames=3, pose=6),
    svd_call(frames=3),
    svd_call(pose=7, image_only=True),
    svd_call(pose=8),
    svd_call(frames=4, pose=9, videos=2),
]


def motion_call(frames=3, pose=None, motion=True, bank=None, attends=(True, False)):
    arguments = {
        "sample": normal(2, frames, 4, 8, 8),
        "timestep": 5,
        "encoder_hidden_states": TEXT,
        "use_motion": motion,
    }
    if pose is not None:
        arguments["pose_features"] = normal(1, frames, 16, 8, 8, seed=pose)
    if bank is not None:
        arguments["reference"] = bank.read(attends)
    return arguments


def motion_calls():
    banks = []
    for seed in (2, 3):
        banks.append(ReferenceBank())
        with torch.no_grad():
            reference_unet()(normal(1, 4, 8, 8, seed=seed), 0, TEXT[:1], banks[-1])
    return [
        motion_call(pose=3),
        motion_call(pose=4, bank=banks[0]),
        motion_call(),
        motion_call(pose=5, bank=banks[1]),
        motion_call(frames=2, pose=6, bank=banks[1], attends=(True, True)),
        motion_call(frames=4, pose=7),
        motion_call(pose=8, motion=False),
        motion_call(pose=3),
    ]


@torch.no_grad()
def assert_same_results(changed, plain, calls, tolerance=1e-5):
    for arguments in calls:
        expected = plain(**arguments).sample
        torch.testing.assert_close(changed(**arguments).sample, expected, atol=tolerance, rtol=0)


def test_the_compilers_limits_have_their_names_of_torch_2_6_too():
    former = SimpleNamespace(cache_size_limit=8, accumulated_cache_size_limit=256)
    assert recompile_limits(former).keys() == vars(former).keys()
    for name in recompile_limits(torch._dynamo.config):
        assert hasattr(torch._dynamo.config, name)


def test_a_compiled_unet_gives_each_call_its_own_pose(compiler):
    unet = smallest_svd_unet()
    compiled = torch.compile(copy.deepcopy(unet), backend="eager", fullgraph=True)
    assert_same_results(compiled, unet, [SVD_CALLS[n] for n in (0, 1, 2, 1)])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_compiled_unet_gives_each_call_its_pose_length_and_kind(compiler):
    unet = svd_unet()
    compiled = torch.compile(copy.deepcopy(unet), backend="aot_eager", fullgraph=True)
    assert_same_results(compiled, unet, SVD_CALLS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scope", ["frame", "clip"])
def test_a_compiled_motion_unet_gives_each_call_its_pose_reference_and_length(compiler, scope):
    unet = motion_unet(residual_norms=scope)
    compiled = torch.compile(copy.deepcopy(unet), backend="eager", fullgraph=True)
    assert_same_results(compiled, unet, motion_calls())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@torch.no_grad()
def test_a_compiled_reference_unet_fills_each_bank(compiler):
    unet = reference_unet()
    compiled = torch.compile(copy.deepcopy(unet), backend="eager", fullgraph=True)
    for seed in (2, 3, 4):
        banks = [ReferenceBank(), ReferenceBank()]
        for network, bank in zip((unet, compiled), banks):
            network(normal(1, 4, 8, 8, seed=seed), 0, TEXT[:1], bank)
        assert banks[0].features.keys() == banks[1].features.keys()
        for name, features in banks[0].features.items():
            assert torch.equal(features, banks[1].features[name])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_inductor_gives_each_call_its_own_pose(compiler):
    unet = smallest_svd_unet()
    assert_same_results(torch.compile(copy.deepcopy(unet)), unet, SVD_CALLS[:5], tolerance=1e-4)


@pytest.mark.parametrize("build", [svd_unet, motion_unet, reference_unet])
def test_the_blocks_that_are_compiled_alone_are_there(build):
    unet = build()
    names = {type(module).__name__ for module in unet.modules()}
    assert names & set(unet._repeated_blocks)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("build", "calls"), [(svd_unet, lambda: SVD_CALLS), (motion_unet, motion_calls)], ids=["svd", "motion"]
)
def test_repeated_blocks_can_be_compiled_alone(compiler, build, calls):
    unet, compiled = build(), build()
    compiled.compile_repeated_blocks(backend="eager", fullgraph=True)
    assert_same_results(compiled, unet, calls())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@torch.no_grad()
def test_blocks_compiled_for_a_run_are_not_compiled_again_for_a_third_length(compiler):
    unet, plain = svd_unet(), svd_unet()
    graphs = torch._dynamo.utils.counters["stats"]
    with exact_speed(unet, single_token=True), compiled_blocks(unet, backend="eager"):
        num_compiled = []
        for frames in (4, 3, 5, 2):
            arguments = svd_call(frames=frames, pose=3)
            torch.testing.assert_close(unet(**arguments).sample, plain(**arguments).sample, atol=1e-4, rtol=0)
            num_compiled.append(graphs["unique_graphs"])
    assert num_compiled[1] == num_compiled[2] == num_compiled[3]
    assert not any(module._compiled_call_impl for module in unet.modules())


@pytest.mark.parametrize(
    ("build", "calls"),
    [
        (svd_unet, lambda: SVD_CALLS),
        (motion_unet, motion_calls),
        (lambda: motion_unet(residual_norms="clip"), motion_calls),
    ],
    ids=["svd", "motion-frame", "motion-clip"],
)
@torch.no_grad()
def test_threads_on_one_unet_do_not_mix_their_calls(build, calls):
    unet, calls = build(), calls()
    expected = [unet(**arguments).sample for arguments in calls]

    @torch.no_grad()
    def run(number):
        return torch.equal(unet(**calls[number]).sample, expected[number])

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(run, list(range(len(calls))) * 3))


class Wrapped(nn.Module):
    """A layer inside another module, as sharding and offloading libraries leave it."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs, **arguments):
        return self.inner(*inputs, **arguments)


def test_a_wrapped_first_convolution_still_gets_the_pose():
    unet, wrapped = svd_unet(), svd_unet()
    wrapped.conv_in = Wrapped(wrapped.conv_in)
    assert_same_results(wrapped, unet, SVD_CALLS, tolerance=0)


@pytest.mark.parametrize("build", [svd_unet, motion_unet], ids=["svd", "motion"])
def test_lora_on_the_first_convolution_changes_its_output_alone(build):
    peft = pytest.importorskip("peft")
    unet, calls = build(), (SVD_CALLS if build is svd_unet else motion_calls())
    adapted = peft.inject_adapter_in_model(
        peft.LoraConfig(r=2, target_modules=["conv_in", "to_q"]), copy.deepcopy(unet)
    )
    assert_same_results(adapted, unet, calls)  # the second matrix of a fresh adapter is zero
    for name, parameter in adapted.named_parameters():
        if "conv_in.lora_B" in name:
            nn.init.normal_(parameter)
    with torch.no_grad():
        assert not torch.allclose(adapted(**calls[0]).sample, unet(**calls[0]).sample, atol=1e-3)


def test_functional_calls_and_copies_see_their_own_weights():
    unet = svd_unet()
    doubled = {name: value.detach() * 2 for name, value in unet.named_parameters()}
    with torch.no_grad():
        expected = unet(**SVD_CALLS[0]).sample
        called = torch.func.functional_call(unet, doubled, kwargs=SVD_CALLS[0]).sample
        other = copy.deepcopy(unet)
        other.load_state_dict(doubled, strict=True)
        assert torch.equal(unet(**SVD_CALLS[0]).sample, expected)
        torch.testing.assert_close(other(**SVD_CALLS[0]).sample, called, atol=1e-3, rtol=0)


def test_saved_keys_are_those_of_the_released_checkpoint_and_loading_is_strict(tmp_path):
    unet = svd_unet()
    assert {"conv_in.weight", "conv_in.bias"} <= unet.state_dict().keys()
    unet.save_pretrained(tmp_path)
    loaded = PoseConditionedSVDUNet.from_pretrained(tmp_path)
    loaded.load_state_dict(unet.state_dict(), strict=True)
    assert_same_results(loaded, unet, SVD_CALLS[:2])


@pytest.mark.parametrize("ways", [{"gradient_checkpointing": True}, {"chunk_frames": 1}])
def test_the_pose_gets_the_same_gradient_with_activations_recomputed(ways):
    gradients = []
    for saves in (False, True):
        unet = svd_unet().train()
        if saves:
            save_memory(unet, **ways)
        arguments = svd_call(frames=3, pose=3)
        arguments["pose_latents"].requires_grad_()
        unet(**arguments).sample.square().sum().backward()
        gradients.append(arguments["pose_latents"].grad)
    torch.testing.assert_close(*gradients)


def test_passes_of_other_lengths_between_forward_and_backward_change_no_gradient():
    gradients = []
    for disturbed in (False, True):
        unet = motion_unet(residual_norms="clip").train()
        unet.enable_gradient_checkpointing()
        loss = unet(**motion_call(pose=3)).sample.square().mean()
        if disturbed:
            unet(**motion_call(frames=4, motion=False))
        loss.backward()
        gradients.append([parameter.grad for parameter in unet.parameters()])
    for plain, again in zip(*gradients):
        assert (plain is None) == (again is None)
        if plain is not None:
            torch.testing.assert_close(again, plain)
