"""The denoising loop copies nothing to an accelerator and waits for it once a step.

The accelerator is simulated: `OnDevice` holds a tensor of the CPU and says that it is on another device, so
that every operation that would need a transfer can be seen and is still computed.
"""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from mimic.families.inputs import read_inputs
from mimic.families.registry import FAMILIES
from mimic.families.steps import StepReport
from tests.tiny import random_image, random_poses

DEVICE = "meta"
"""Of PyTorch's devices the one that needs no backend; nothing is computed on it."""
READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "allclose", "masked_select", "unique")


class OnDevice(torch.Tensor):
    """A tensor of the CPU that says it is on another device."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE
        )

    def __init__(self, held):
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {}, Counter())


def computed(func, args, kwargs, seen):
    """Compute an operation on the CPU; count in `seen` what a device would have to copy or wait for."""
    name = func.overloadpacket.__name__
    tensors = [each for value in (*args, *kwargs.values()) for each in tensors_in(value)]
    on_device = [each for each in tensors if isinstance(each, OnDevice)]
    elsewhere = [each for each in tensors if not isinstance(each, OnDevice) and each.ndim]
    place = kwargs.get("device")
    goes_there = bool(on_device) if place is None else torch.device(place).type != "cpu"
    if on_device and name in READS:
        seen[f"wait: {name}"] += 1
    elif on_device and place is not None and not goes_there:
        seen["copy from the device"] += 1
    elif elsewhere and goes_there:
        seen[f"copy to the device: {name}"] += 1
    if place is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*map(held, args), **{key: held(value) for key, value in kwargs.items()})
    if not goes_there:
        return result
    if name.endswith("_") and isinstance(args[0], OnDevice):
        return args[0]
    return (
        OnDevice(result)
        if isinstance(result, torch.Tensor)
        else tree_map_only(torch.Tensor, OnDevice, result)
    )


def tensors_in(value):
    """The tensors of an argument."""
    if isinstance(value, torch.Tensor):
        return [value]
    return (
        [each for each in value if isinstance(each, torch.Tensor)] if isinstance(value, list | tuple) else []
    )


def held(value):
    """An argument as it is on the CPU."""
    if isinstance(value, OnDevice):
        return value.held
    return [held(each) for each in value] if isinstance(value, list | tuple) else value


class MadeOnCPU(TorchFunctionMode):
    """`torch.tensor` makes tensors of our device directly, without values; here they are made on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        place = kwargs.pop("device", None) if func is torch.tensor else None
        made = func(*args, **kwargs)
        return made if place is None else made.to(place)


class Watched(TorchDispatchMode):
    """Counts copies to and from the simulated device, and waits for it."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {}, self.seen)


def moved(pipeline):
    """The pipeline with all weights on the simulated device."""
    for part in pipeline.components.values():
        for module in part.modules() if isinstance(part, nn.Module) else ():
            for name, weight in list(module._parameters.items()):
                if weight is not None:
                    module._parameters[name] = nn.Parameter(OnDevice(weight.detach()), requires_grad=False)
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[name] = OnDevice(buffer)
    return pipeline


@torch.no_grad()
def watched_loop(pipeline, num_frames, **settings):
    """What the loop copies and waits for until the end of each step."""
    pipeline.set_progress_bar_config(disable=True)
    plan = pipeline.plan(
        num_frames=num_frames,
        height=16,
        width=24,
        tile_size=4,
        tile_overlap=2,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0),
        **settings,
    )
    maps = random_poses(num_frames, 16, 24)
    inputs = read_inputs(random_image(16, 24), maps, num_videos_per_prompt=1, latents=None, size=(None, None))
    with MadeOnCPU(), Watched() as watched:
        pipeline.check(inputs, plan)
        with pipeline.at_speed(plan):
            conditions = pipeline.encode(inputs, plan)
            noise = pipeline.prepare(inputs, plan)
            watched.seen.clear()
            steps = []
            report = StepReport(lambda *_: steps.append(Counter(watched.seen)))
            pipeline.denoise(plan, conditions, noise, report)
    return steps


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_copies_nothing_to_the_device_and_waits_once(family):
    pipeline = moved(FAMILIES[family].tiny_pipeline(height=16, width=24, seed=0))
    first, second = watched_loop(pipeline, 6, num_inference_steps=2)
    assert second - first == {"wait: _local_scalar_dense": 1}  # whether the latents are finite
    assert first.pop("wait: _local_scalar_dense") == 1
    windows = len(pipeline.plan(num_frames=6, height=16, width=24, tile_size=4, tile_overlap=2).windows)
    # Before: indices, weights and maps of each window; once the timesteps and the scales of guidance.
    assert set(first) == {"copy to the device: _to_copy"}
    assert first.total() <= 3 * windows + 2


def test_a_wait_or_a_copy_for_each_window_would_be_seen():
    pipeline = moved(FAMILIES["mimicmotion"].tiny_pipeline(height=16, width=24, seed=0))

    def careless(conditions, plan, window, branches):
        assert window.latents.sum().item() == window.latents.sum().cpu()
        window.latents[:, [0]]
        return window.latents.expand(len(branches), -1, -1, -1, -1)

    pipeline.predict_window = careless
    first, second = watched_loop(pipeline, 4, num_inference_steps=2)
    seen = {"wait: _local_scalar_dense", "copy from the device", "copy to the device: index"}
    assert set(second - first) == seen
