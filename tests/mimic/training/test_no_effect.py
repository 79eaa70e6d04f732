"""What no result depends on is not trained; a step moves little to the device and waits for it once."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mimic.config.loading import ConfigError
from mimic.families.mimicmotion.training import INERT, MimicMotionTask
from mimic.models.svd_unet import PoseConditionedSVDUNet
from mimic.training.engine import check_gradients, make_accelerator
from mimic.training.loop import one_step, train
from mimic.training.lora import target_layers
from mimic.training.run import sample_bytes
from mimic.training.setup import set_up
from mimic.training.tasks import make_task
from mimic.training.trainable import is_among, names_of
from tests.mimic.training.small import Said, quick_settings, small_settings

FULL_SIZE = {"height": 1024, "width": 576, "num_frames": 16}


def test_queries_and_keys_of_attention_to_one_token_have_no_effect_and_are_not_trained(tmp_path):
    task = make_task(small_settings(tmp_path))
    names = dict(task.model.named_parameters())
    inert = {name for name in names if is_among(name, INERT)}
    assert inert
    assert not any(names[name].requires_grad for name in inert)
    assert all(parameter.requires_grad for name, parameter in names.items() if name not in inert)
    layers = target_layers(task.model, ["unet.attention"], task.parts, inert=task.inert)
    ends = {layer.split("attn")[1] for layer in layers}
    assert ends == {f"1.to_{end}" for end in ("q", "k", "v", "out.0")} | {"2.to_v", "2.to_out.0"}
    with pytest.raises(ConfigError, match=r"'unet\.\*attn2\.to_q\.\*' selects only queries, keys or norms"):
        names_of(task.model, ["unet.*attn2.to_q.*"], task.parts, inert=task.inert)
    with pytest.raises(ConfigError, match=r"lora\.targets: 'attn2\.to_k' selects only"):
        target_layers(task.model, ["attn2.to_k"], task.parts, inert=task.inert)
    sample = set_up_quick(tmp_path).dataset[0, 0]
    before = task.generate(sample, seed=0)
    with torch.no_grad():
        for name in inert:
            nn.init.normal_(names[name])
    assert torch.equal(task.generate(sample, seed=0), before)


def test_in_the_full_model_that_is_50_million_parameters():
    with torch.device("meta"):
        unet = PoseConditionedSVDUNet(sample_size=96)
    sizes = [p.numel() for name, p in unet.named_parameters() if is_among(f"unet.{name}", INERT)]
    assert sum(sizes) / 1e6 == pytest.approx(50.3, abs=0.1)


def test_a_checkpoint_that_has_them_trained_resumes(tmp_path, monkeypatch):
    trained = {"trainable": ["unet.mid_block", "pose_net.scale"], "max_steps": 1}
    monkeypatch.setattr(MimicMotionTask, "inert", ())
    train(small_settings(tmp_path, **trained), say=Said())
    monkeypatch.undo()
    had = load_file(tmp_path / "checkpoint-1" / "weights.safetensors")
    assert any(is_among(name, INERT) for name in had)
    shutil.rmtree(tmp_path / "final")
    said = Said()
    train(small_settings(tmp_path, **trained | {"max_steps": 2}), say=said)
    assert "going on from" in str(said)
    has = load_file(tmp_path / "checkpoint-2" / "weights.safetensors")
    assert set(had) - set(has) == {name for name in had if is_among(name, INERT)}


def test_trained_parameters_without_gradients_are_named():
    layer = nn.Linear(2, 2)
    layer(torch.ones(2)).sum().backward()
    check_gradients(dict(layer.named_parameters()))
    with pytest.raises(ConfigError, match=r"does not depend on unet\.a, unet\.b, .* and 2 more"):
        check_gradients({f"unet.{name}": nn.Parameter(torch.ones(1)) for name in "abcdefg"})


class Waits(TorchDispatchMode):
    """Counts reads of single numbers, for each of which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.number, self.is_counting = 0, True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += self.is_counting and func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def set_up_quick(folder):
    settings = quick_settings(folder)
    return set_up(settings, make_accelerator(settings), say=Said(), is_dry_run=True)


def test_a_step_waits_for_the_device_once(tmp_path):
    run = set_up_quick(tmp_path)
    batches = run.batches()
    one_step(run, batches)
    with Waits() as waits:
        # On the CPU, AdamW reads its counters; the fused one of GPUs does not.
        run.optimiser.optimizer.register_step_pre_hook(lambda *_: setattr(waits, "is_counting", False))
        run.optimiser.optimizer.register_step_post_hook(lambda *_: setattr(waits, "is_counting", True))
        one_step(run, batches)
    assert waits.number == 0, "all results come in the one `tolist` of `averages`"


def test_samples_of_the_gpu_configs_take_a_sixth_of_what_floats_took(tmp_path):
    settings = small_settings(tmp_path, data=FULL_SIZE, memory={"cache": tmp_path / "cache"})
    as_floats = 4 * 3 * 34 * 1024 * 576 + 4 * 17 * 128 * 72
    size = sample_bytes(settings, channels=4, width=1024)
    assert size < as_floats / 6
    run = set_up_quick(tmp_path)
    assert run.dataset[0, 0].num_bytes == sample_bytes(
        run.settings.model_copy(update={"data": run.dataset.settings}), channels=4, width=0
    )
