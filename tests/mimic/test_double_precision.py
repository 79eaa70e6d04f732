"""Apple's GPUs have no float64: what is computed with it stays on the CPU."""

import re
from pathlib import Path

import diffusers
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mimic.families.registry import FAMILIES
from tests.tiny import random_image, random_poses

ROOT = Path(__file__).parents[2]


class DoublePrecision(TorchDispatchMode):
    """Notes float64 tensors that are copied to a device, or that a network computes."""

    def __init__(self):
        super().__init__()
        self.found, self.is_in_network = [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        is_copied = func is torch.ops.aten._to_copy.default and (kwargs or {}).get("device") is not None
        tensors = [*args[:1], result] if is_copied else [result] if self.is_in_network else []
        if any(isinstance(each, torch.Tensor) and each.dtype == torch.float64 for each in tensors):
            self.found.append(str(func))
        return result


@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_double_precision_reaches_a_device(family):
    """Apple's GPUs have no float64: tables made with it on the CPU are cast before they are copied."""
    pipe = FAMILIES[family].tiny_pipeline(height=16, width=24, seed=0)
    mode = DoublePrecision()
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.register_forward_pre_hook(lambda *_: setattr(mode, "is_in_network", True))
            part.register_forward_hook(lambda *_: setattr(mode, "is_in_network", False))
    with mode:
        pipe(
            random_image(16, 24), random_poses(3, 16, 24), num_inference_steps=1, guidance_scale=2.0,
            output_type="pt",
        )  # fmt: skip
    assert mode.found == []


@pytest.mark.parametrize(
    "name", ["KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "HeunDiscreteScheduler"]
)
def test_no_double_precision_reaches_a_device_with_other_schedulers(name):
    pipe, found = FAMILIES["animate_anyone"].tiny_pipeline(height=16, width=24, seed=0), []
    pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, use_karras_sigmas=True)
    pipe.unet.register_forward_pre_hook(
        lambda _, given, named: found.extend(
            getattr(value, "dtype", None) for value in (*given, *named.values())
        ),
        with_kwargs=True,
    )
    pipe(random_image(16, 24), random_poses(3, 16, 24), num_inference_steps=2, output_type="latent")
    assert torch.float32 in found
    assert torch.float64 not in found


def test_double_precision_is_made_of_tensors_on_the_cpu_alone():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "mimic").rglob("*.py")]
    assert not [text for text in sources if re.search(r"(?<!\.cpu\(\))\.double\(\)", text)]
