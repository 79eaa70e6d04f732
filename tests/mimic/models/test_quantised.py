"""torchao is optional: without it there is one sentence, with it the linear layers are quantised."""

import importlib.util

import pytest
import torch
from torch import nn

from mimic.config import load_inference_config
from mimic.generation.checks import InputError
from mimic.generation.ready import load_model
from mimic.models.quantised import KINDS, quantise

IS_THERE = importlib.util.find_spec("torchao") is not None


@pytest.mark.skipif(IS_THERE, reason="torchao is installed")
def test_without_torchao_there_is_one_sentence_before_loading(tmp_path):
    config = load_inference_config("configs/demo.yaml", ["torchao=int8"])
    with pytest.raises(InputError, match="not installed; pip install torchao, or leave torchao out"):
        load_model(config, tmp_path, None, torch.device("cpu"))


@pytest.mark.skipif(not IS_THERE, reason="torchao is not installed")
@pytest.mark.parametrize("kind", ["int8", "float8"])
def test_weights_of_linear_layers_take_eight_bits(kind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64))
    x = torch.randn(8, 64)
    with torch.no_grad():
        expected = network(x)
        quantise(network, kind)
        given = network(x)
    assert type(network[0].weight) is not nn.Parameter
    assert type(network[1].weight) is nn.Parameter
    assert 0 < (given - expected).norm() / expected.norm() < 0.1


@pytest.mark.skipif(not IS_THERE, reason="torchao is not installed")
def test_all_kinds_are_known_to_torchao():
    quantization = pytest.importorskip("torchao.quantization")
    assert all(hasattr(quantization, name) for name in KINDS.values())


def test_two_ways_to_change_the_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mimic.generation.ready.check_torchao", lambda: None)
    config = load_inference_config("configs/demo.yaml", ["torchao=int8", "fp8_weights=true"])
    with pytest.raises(InputError, match="both change the weights"):
        load_model(config, tmp_path, None, torch.device("cpu"))
