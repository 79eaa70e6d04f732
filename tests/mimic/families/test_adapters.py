"""LoRA adapters load, weigh, switch off and go again without a trace; files that do not fit are refused."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimic.families.adapters import AdaptedPipeline
from mimic.families.mimicmotion.training import MimicMotionTask
from mimic.training.lora import adapted_layers, add_lora, lora_state
from mimic.training.settings import LoraSettings
from mimic.training.trainable import select
from mimic.weights.lora import merge_lora
from mimic.weights.strict import WeightsError

pytest.importorskip("peft")


def tiny(seed: int = 0) -> MimicMotionTask:
    pipeline = MimicMotionTask.tiny_pipeline(height=16, width=16, seed=seed)
    return MimicMotionTask.from_pipeline(pipeline, MimicMotionTask.Settings())


def trained_file(path, seed: int, targets=("unet.attention", "unet.conv_in")):
    """A LoRA of linear layers and convolutions, and PoseNet trained in full."""
    task = tiny()
    select(task.model, ["pose_net"], task.parts)
    add_lora(task.model, LoraSettings(rank=2, alpha=3.0, targets=targets), task.parts, seed=seed)
    torch.manual_seed(seed)
    for wrapper in adapted_layers(task.model).values():
        nn.init.normal_(wrapper.lora_B["default"].weight, std=0.1)
    nn.init.normal_(task.pipeline().pose_net.scale)
    state = {name: tensor.contiguous() for name, tensor in lora_state(task.model).items()}
    save_file(state, path)
    return state


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    for seed in (1, 2):
        trained_file(folder / f"{seed}.safetensors", seed)
    return folder


def networks(pipe):
    return {"unet": pipe.unet, "pose_net": pipe.pose_net}


def output(pipe) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 3, 16, 16, generator=generator) * 2 - 1
    return pipe(
        torch.rand(3, 16, 16, generator=generator), maps, num_inference_steps=1, tile_size=3, tile_overlap=1,
        generator=torch.Generator().manual_seed(1), output_type="latent", return_dict=False,
    )  # fmt: skip


def state_of(pipe):
    return {
        f"{name}.{key}": value.clone()
        for name, part in networks(pipe).items()
        for key, value in part.state_dict().items()
    }


def test_an_adapter_gives_what_merging_gives_and_leaves_as_it_came(files):
    pipe, merged = tiny().pipeline(), tiny().pipeline()
    before, plain = state_of(pipe), output(pipe)
    pipe.load_lora_weights(files / "1.safetensors", adapter_name="one")
    changed = {name for name, value in state_of(pipe).items() if not torch.equal(value, before[name])}
    assert changed == {"pose_net.scale"}, "layers with low-rank changes keep their weights"
    for weight in (1.0, 0.5):
        pipe.set_adapters("one", weight)
        merged = tiny().pipeline()
        merge_lora(networks(merged), files / "1.safetensors", scale=weight)
        assert (output(merged) - plain).abs().max() > 1e-3
        torch.testing.assert_close(output(pipe), output(merged), rtol=1e-3, atol=1e-3)
    pipe.disable_lora()
    assert pipe.get_active_adapters() == []
    assert torch.equal(output(pipe), plain)
    pipe.enable_lora()
    assert not torch.equal(output(pipe), plain)
    pipe.unload_lora_weights()
    assert torch.equal(output(pipe), plain)
    assert all(torch.equal(value, before[name]) for name, value in state_of(pipe).items())


def test_adapters_add_up_and_merge_on_request_only(files, tmp_path):
    pipe, merged = tiny().pipeline(), tiny().pipeline()
    before = state_of(pipe)
    for name in ("1", "2"):
        pipe.load_lora_weights(files, adapter_name=name, weight_name=f"{name}.safetensors")
    assert pipe.get_list_adapters() == {"unet": ["1", "2"], "pose_net": ["1", "2"]}
    pipe.set_adapters(["1", "2"], [0.5, -1.0])
    combined = output(pipe)
    pipe.save_pretrained(tmp_path / "base")
    again = type(pipe).from_pretrained(tmp_path / "base")
    assert all(torch.equal(value, before[name]) for name, value in state_of(again).items())
    assert torch.equal(output(pipe), combined), "saving leaves adapters active"
    pipe.delete_adapters("2")
    pipe.set_adapters("1", 0.5)
    only_one = output(pipe)
    changed = pipe.fuse_lora()
    assert "unet.conv_in.weight" in changed
    assert pipe.get_list_adapters() == {}
    torch.testing.assert_close(output(pipe), only_one, rtol=1e-3, atol=1e-3)
    merge_lora(networks(merged), files / "1.safetensors", scale=0.5)
    assert all(torch.equal(value, state_of(merged)[name]) for name, value in state_of(pipe).items())


def test_fused_adapters_are_separated_again_and_the_weights_come_back(tmp_path):
    for number in (1, 2):
        trained_file(tmp_path / f"{number}.safetensors", number)
    pipe = tiny().pipeline()
    before = state_of(pipe)
    pipe.load_lora_weights(tmp_path / "1.safetensors", adapter_name="1")
    pipe.set_adapters("1", 0.5)
    active = output(pipe)
    pipe.fuse_lora(components=["unet", "pose_net"], lora_scale=1.0, safe_fusing=True, adapter_names=["1"])
    assert (pipe.fused_loras, pipe.num_fused_loras, pipe.get_active_adapters()) == ({"1"}, 1, [])
    torch.testing.assert_close(output(pipe), active, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="'1' is in use"):
        pipe.load_lora_weights(tmp_path / "2.safetensors", adapter_name="1")
    pipe.load_lora_weights(tmp_path / "2.safetensors", adapter_name="2")
    pipe.fuse_lora()
    with pytest.raises(ValueError, match="components leaves out pose_net"):
        pipe.unfuse_lora(components=["unet"])
    pipe.unfuse_lora()
    assert (pipe.num_fused_loras, set(pipe.get_active_adapters())) == (0, {"1", "2"})
    pipe.delete_adapters("2")
    assert torch.equal(output(pipe), active)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    fused = state_of(pipe)
    pipe.unfuse_lora()
    assert all(torch.equal(value, fused[name]) for name, value in state_of(pipe).items()), "merged for good"
    assert any(not torch.equal(value, before[name]) for name, value in fused.items())


def test_adapters_that_would_leave_weights_without_numbers_are_not_fused(tmp_path):
    state = trained_file(tmp_path / "1.safetensors", 1)
    key = next(key for key in state if key.endswith("lora_B.weight"))
    save_file(state | {key: state[key] * 1e35}, tmp_path / "large.safetensors")
    pipe = tiny().pipeline()
    before = state_of(pipe)
    pipe.load_lora_weights(tmp_path / "large.safetensors")
    with pytest.raises(ValueError, match=r"would not be finite: .*; nothing was fused"):
        pipe.fuse_lora(lora_scale=1e10, safe_fusing=True)
    assert pipe.get_list_adapters()
    pipe.unload_lora_weights()
    assert all(torch.equal(value, before[name]) for name, value in state_of(pipe).items())


def test_a_file_without_alpha_has_its_rank_for_it(tmp_path):
    state = trained_file(tmp_path / "with.safetensors", 1)
    without = {key: value for key, value in state.items() if not key.endswith(".alpha")}
    ranked = {key: torch.tensor(2.0) if key.endswith(".alpha") else value for key, value in state.items()}
    outputs = []
    for given in (without, ranked):
        pipe = tiny().pipeline()
        pipe.load_lora_weights(given)
        outputs.append(output(pipe))
    assert torch.equal(*outputs)


def test_a_repository_is_named_as_in_diffusers(files, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "mimic.families.adapters.hub_file", lambda *given: asked.append(given) or files / given[1]
    )
    pipe = tiny().pipeline()
    pipe.load_lora_weights("owner/name", weight_name="1.safetensors")
    assert asked == [("owner/name", "1.safetensors")]
    assert pipe.get_active_adapters() == ["default_0"]


class Small(AdaptedPipeline):
    def __init__(self, unet):
        super().__init__()
        self.register_modules(unet=unet)


def test_adapters_of_a_compiled_network_come_and_go():
    """Compiled code looks at the hooks of a network once."""
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(4, 3), nn.SiLU()), torch.rand(2, 4)
    lora = {"unet.0.lora_A.weight": torch.rand(2, 4), "unet.0.lora_B.weight": torch.rand(3, 2)}
    before = network(x).detach()
    change = lora["unet.0.lora_B.weight"] @ lora["unet.0.lora_A.weight"]
    adapted = nn.functional.silu(nn.functional.linear(x, network[0].weight + change, network[0].bias))
    pipe = Small(torch.compile(network, backend="eager"))
    for _ in range(2):
        torch.testing.assert_close(pipe.unet(x), before)
        pipe.load_lora_weights(lora)
        torch.testing.assert_close(pipe.unet(x), adapted)
        pipe.unload_lora_weights()


@pytest.mark.parametrize(
    ("end", "value", "sentence"),
    [
        ("lora_B.weight", torch.zeros(8, 3), "has rank 2, but .* rank 3"),
        ("alpha", torch.ones(2), "alpha is 2 values; expected one"),
        ("alpha", torch.tensor(float("inf")), "NaN or infinite values"),
        ("lora_A.weight", torch.zeros(2), "expected rank x inputs"),
        ("lora_A.weight", torch.zeros(2, 5), "do not fit the model"),
    ],
)
def test_files_with_faults_are_refused_in_one_sentence(tmp_path, end, value, sentence):
    state = trained_file(tmp_path / "good.safetensors", 1)
    layer = next(key for key in state if key.endswith("attn1.to_q.lora_A.weight")).removesuffix(
        ".lora_A.weight"
    )
    state[f"{layer}.{end}"] = value
    save_file(state, tmp_path / "bad.safetensors")
    pipe = tiny().pipeline()
    before = state_of(pipe)
    for load in (pipe.load_lora, pipe.load_lora_weights):
        with pytest.raises(WeightsError, match=sentence):
            load(tmp_path / "bad.safetensors")
    assert pipe.get_list_adapters() == {}
    assert all(torch.equal(value, before[name]) for name, value in state_of(pipe).items())


def test_names_and_weights_that_are_wrong_are_refused(files):
    pipe = tiny().pipeline()
    pipe.load_lora_weights(files / "1.safetensors", "one")
    with pytest.raises(ValueError, match="'one' is in use"):
        pipe.load_lora_weights(files / "2.safetensors", "one")
    with pytest.raises(ValueError, match="'two' is not loaded; loaded are: one"):
        pipe.set_adapters(["one", "two"])
    with pytest.raises(ValueError, match="1 adapters and 2 adapter_weights"):
        pipe.set_adapters("one", [1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        pipe.set_adapters("one", float("nan"))
    with pytest.raises(OSError, match="there is no checkpoint"):
        pipe.load_lora_weights(files / "3.safetensors")
