"""Low-rank differences: where they go, that merging is exact, and that inference loads their files."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mimic.config.loading import ConfigError
from mimic.training.lora import adapted_layers, add_lora, lora_state, merged, target_layers
from mimic.training.settings import LoraSettings
from mimic.training.trainable import select
from mimic.weights.lora import merge_lora
from mimic.weights.strict import WeightsError


class Networks(nn.Module):
    """Every kind of layer that the UNet has, at the smallest."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.unet = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.Conv3d(8, 8, (3, 1, 1), padding=(1, 0, 0)), nn.Linear(5, 4)
        )
        self.pose_net = nn.Conv2d(3, 3, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        features = self.unet[0](self.pose_net(pictures))
        return self.unet[2](self.unet[1](features.transpose(0, 1)))


PARTS = {"unet.convolutions": ["unet.0.*", "unet.1.*"]}
PICTURES = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def with_differences(targets=("unet",), **settings) -> Networks:
    """Differences that are not zero any more; PoseNet trains whole."""
    model = Networks()
    select(model, ["pose_net"], PARTS)
    add_lora(model, LoraSettings(rank=2, targets=targets, **settings), PARTS, seed=3)
    for wrapper in adapted_layers(model).values():
        nn.init.normal_(wrapper.lora_B["default"].weight, std=0.3)
    nn.init.normal_(model.pose_net.weight)
    return model


def test_targets_are_networks_parts_ends_of_names_or_patterns():
    model = Networks()
    assert target_layers(model, ["unet"], PARTS) == ["unet.0", "unet.1", "unet.2"]
    assert target_layers(model, ["unet.convolutions"], PARTS) == ["unet.0", "unet.1"]
    assert target_layers(model, ["2", "pose_*"], PARTS) == ["unet.2", "pose_net"]
    with pytest.raises(ConfigError, match=r"lora.targets: 'unte'"):
        target_layers(model, ["unte"], PARTS)


def test_differences_begin_as_nothing_and_train_beside_what_was_chosen():
    model, plain = Networks(), Networks()
    select(model, ["pose_net"], PARTS)
    added = add_lora(model, LoraSettings(rank=2, targets=("unet",)), PARTS, seed=3)
    assert torch.equal(model(PICTURES), plain(PICTURES))
    training = {name for name, p in model.named_parameters() if p.requires_grad}
    assert training == {*added, "pose_net.weight", "pose_net.bias"}
    assert len(added) == 6
    again = Networks()
    add_lora(again, LoraSettings(rank=2, targets=("unet",)), PARTS, seed=3)
    assert torch.equal(again.unet[2].lora_A["default"].weight, model.unet[2].lora_A["default"].weight)


def test_merged_is_a_plain_model_that_gives_the_same_and_leaves_no_trace():
    model = with_differences(alpha=4.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model(PICTURES)
    with merged(model):
        assert list(model.state_dict()) == list(Networks().state_dict())
        assert not adapted_layers(model)
        assert torch.allclose(model(PICTURES), expected, atol=1e-5)
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_file_of_differences_makes_the_merged_model_of_a_plain_one(tmp_path):
    model, plain = with_differences(), Networks()
    path = tmp_path / "lora.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in lora_state(model).items()}, path)
    changed = merge_lora({"unet": plain.unet, "pose_net": plain.pose_net}, path)
    assert set(changed) == {*(f"unet.{i}.weight" for i in range(3)), "pose_net.weight", "pose_net.bias"}
    with merged(model):
        expected = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(value, expected[name]) for name, value in plain.state_dict().items())


def test_the_scale_of_a_file_goes_from_nothing_to_all(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in lora_state(with_differences()).items()}, path)

    def merged_at(scale):
        model = Networks()
        merge_lora({"unet": model.unet, "pose_net": model.pose_net}, path, scale=scale)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    plain = torch.cat([p.detach().flatten() for p in Networks().parameters()])
    assert torch.equal(merged_at(0), plain)
    assert torch.allclose(merged_at(0.5), (plain + merged_at(1)) / 2, atol=1e-6)


def test_a_file_that_does_not_fit_changes_nothing_and_lists_why(tmp_path):
    state = {name: tensor.contiguous() for name, tensor in lora_state(with_differences()).items()}
    path, model = tmp_path / "lora.safetensors", Networks()
    networks = {"unet": model.unet, "pose_net": model.pose_net}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    elsewhere = {name.replace("unet.2", "unet.9"): tensor for name, tensor in state.items()}
    save_file(elsewhere | {"pose_net.bias": torch.zeros(7)}, path)
    with pytest.raises(WeightsError, match=r"(?s)surplus.*unet\.9\.weight.*pose_net\.bias: found \[7\]"):
        merge_lora(networks, path)
    del state["unet.0.lora_B.weight"]
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"(?s)missing.*unet\.0\.lora_B\.weight"):
        merge_lora(networks, path)
    save_file({"unet.0.weight": torch.zeros(8, 3, 3, 3)}, path)
    with pytest.raises(WeightsError, match="no LoRA weights"):
        merge_lora(networks, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_pipeline_loads_what_a_training_with_differences_wrote(tmp_path):
    from mimic.families.mimicmotion.training import SINGLE_FILE, MimicMotionTask

    def task():
        pipeline = MimicMotionTask.tiny_pipeline(height=16, width=16, seed=0)
        return MimicMotionTask.from_pipeline(pipeline, MimicMotionTask.Settings())

    trained, plain = task(), task()
    select(trained.model, ["pose_net"], trained.parts)
    add_lora(trained.model, LoraSettings(targets=("unet.attention",)), trained.parts, seed=0)
    for wrapper in adapted_layers(trained.model).values():
        nn.init.normal_(wrapper.lora_B["default"].weight, std=0.1)
    save_file(
        {n: t.contiguous() for n, t in lora_state(trained.model).items()}, tmp_path / "lora.safetensors"
    )
    with merged(trained.model):
        expected = trained.released_files()[SINGLE_FILE]
        assert expected.keys() == plain.released_files()[SINGLE_FILE].keys()
        changed = plain.pipeline().load_lora(tmp_path / "lora.safetensors")
        assert any("attn1.to_q" in name for name in changed)
        found = plain.released_files()[SINGLE_FILE]
        assert all(torch.equal(value, found[name]) for name, value in expected.items())
