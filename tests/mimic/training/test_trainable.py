"""What trains is what was named, and nothing else is touched by the backward pass."""

import pytest
import torch
from torch import nn

from mimic.config.loading import ConfigError
from mimic.families.mimicmotion.training import PARTS, MimicMotionTask
from mimic.training.trainable import names_of, select


@pytest.fixture(scope="module")
def model():
    pipeline = MimicMotionTask.tiny_pipeline(height=32, width=32, seed=0)
    return MimicMotionTask.from_pipeline(pipeline, MimicMotionTask.Settings()).model


def test_networks_modules_parts_and_patterns_are_names(model):
    every = [name for name, _ in model.named_parameters()]
    assert names_of(model, ["unet", "pose_net"], PARTS) == every
    assert names_of(model, ["pose_net.scale"], PARTS) == ["pose_net.scale"]
    assert all(n.startswith("unet.mid_block.") for n in names_of(model, ["unet.mid_block"], PARTS))
    assert set(names_of(model, ["*.bias"], PARTS)) == {n for n in every if n.endswith("bias")}
    assert names_of(model, ["unet.temporal", "unet"], PARTS) == names_of(model, ["unet"], PARTS)


def test_parts_divide_the_blocks_by_what_they_look_along(model):
    temporal, spatial = (set(names_of(model, [f"unet.{part}"], PARTS)) for part in ("temporal", "spatial"))
    assert not temporal & spatial
    blocks = {n for n in names_of(model, ["unet"], PARTS) if ".resnets." in n or ".attentions." in n}
    rest = {n.split(".attentions.")[1].split(".")[1] for n in blocks - temporal - spatial}
    assert rest == {"norm", "proj_in", "proj_out"}


def test_only_what_was_named_wants_gradients(model):
    chosen = select(model, ["pose_net", "unet.temporal"], PARTS)
    assert chosen == [name for name, p in model.named_parameters() if p.requires_grad]
    assert 0 < len(chosen) < len(list(model.parameters()))
    select(model, ["unet", "pose_net"], PARTS)


def test_frozen_layers_before_the_trained_ones_keep_nothing_for_the_backward_pass():
    layers = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8))
    select(layers, ["2"], {})
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda kept: kept):
        layers(torch.ones(4, 8)).sum()
    assert len(kept) == 1


def test_a_name_that_means_nothing_is_told_with_those_that_do(model):
    with pytest.raises(ConfigError, match=r"trainable: 'posenet'.*did you mean pose_net\?.*unet\.temporal"):
        select(model, ["posenet"], PARTS)
