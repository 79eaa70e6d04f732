"""How much device memory a run uses: `memory_mode` high, balanced, low, or auto.

Modes differ in how many frames the spatial layers of Stable Video Diffusion's UNet process at a time, and in
whether each network is on the GPU only while it is used. They change results only in the order of sums.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

from mimic.distributed import Ranks
from mimic.families.base import AnimationPipeline
from mimic.families.plan import Plan
from mimic.models.memory import save_memory

ResultT = TypeVar("ResultT")

MODES = ("high", "balanced", "low")
"""From most to least memory."""
CHUNK_FRAMES: dict[str, int | None] = {"high": None, "balanced": 4, "low": 1}
"""Frames that spatial layers process at a time."""
IS_OFFLOADED = {"high": False, "balanced": True, "low": True}
"""Whether each network is on the GPU only while it is used."""

DENOISING_BYTES = {"high": 18_000, "balanced": 9_500, "low": 9_500}
"""Activations of a denoising pass in float16, in bytes for each latent pixel of each frame of a window, with
320 channels; from `python -m benchmarks.inference_memory`, rounded up."""
DECODING_BYTES = 2_100
"""Likewise of the temporal decoder, for each pixel of each frame of a chunk, in every mode."""
_SPARE_BYTES = 2 * 10**9
"""For the CUDA context, fragmentation and work space of convolutions."""


class MemoryMode:
    """Chooses a mode, applies it to a pipeline, and changes to a lower one when memory runs out.

    Args:
        asked: one of `MODES`, or ``auto``, which takes the first mode that fits into the free memory of a
            CUDA device, and ``high`` on other devices.
    """

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.used: str | None = None if asked == "auto" else asked
        """The mode in use; None if not chosen yet."""

    def apply(self, pipeline: AnimationPipeline[Any, Any], plan: Plan[Any], *, before: str | None) -> None:
        """Apply the mode to a pipeline before its plan is run; several processes use that of the first.

        Args:
            pipeline: on its device.
            plan: what is to be run.
            before: mode of the interrupted run that is continued, which `auto` does not exceed.
        """
        if self.asked == "auto":
            modes = [self.used or "high", before or "high", _that_fits(pipeline, plan)]
            self.used = max(modes, key=MODES.index)
        if pipeline.ranks is not None:
            self.used = pipeline.ranks.from_first(self.used)
        assert self.used is not None
        apply_mode(pipeline, self.used)

    def can_lower(self) -> bool:
        """Whether a lower mode may be tried."""
        return self.asked == "auto" and self.used != MODES[-1]

    def lower(self) -> str:
        """Change to the next lower mode, to be applied with the next plan, and free unused memory."""
        self.used = MODES[MODES.index(self.used or MODES[0]) + 1]
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.used


def retried_with_less_memory(
    make: Callable[[], ResultT], memory: MemoryMode, ranks: Ranks | None, say: Callable[[str], object]
) -> ResultT:
    """Call `make` in ever lower modes until memory suffices or no lower mode is left."""
    while True:
        try:
            return make()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not memory.can_lower() or ranks is not None:
                raise
            told = str(error).split(". ")[0]
        # Outside the handler, whose error keeps the failed call's tensors alive.
        say(f"memory is full ({told}); trying again with memory_mode: {memory.lower()}")


def apply_mode(pipeline: AnimationPipeline[Any, Any], mode: str) -> None:
    """Make a pipeline use no more memory than `mode` says; modes are never raised again."""
    chunk = CHUNK_FRAMES[mode]
    if chunk is not None:
        for part in pipeline.components.values():
            if isinstance(part, nn.Module):
                save_memory(part, chunk_frames=chunk)
    device = pipeline.execution_device
    if IS_OFFLOADED[mode] and device.type == "cuda" and not pipeline.is_offloaded:
        pipeline.enable_model_cpu_offload(device=device)


def offload_groups(pipeline: AnimationPipeline[Any, Any], device: torch.device) -> None:
    """Keep all weights in main memory, and on `device` those of the block that computes.

    Blocks of the networks of a step are moved as a whole; the layers of the others one by one, because a
    VAE's and an image encoder's parts are also called by themselves. Weights are copied without streams of
    their own: prefetching follows the order of the first pass, and with `reuse_interval` the order changes.
    """
    of_a_step = {id(network) for network in pipeline.networks_of_a_step()}
    for part in pipeline.components.values():
        if not isinstance(part, nn.Module):
            continue
        is_of_a_step = id(part) in of_a_step
        apply_group_offloading(
            part,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level" if is_of_a_step else "leaf_level",
            num_blocks_per_group=1 if is_of_a_step else None,
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _that_fits(pipeline: AnimationPipeline[Any, Any], plan: Plan[Any]) -> str:
    """Return the first mode whose estimated peak fits into the free memory of the device."""
    device = pipeline.execution_device
    if device.type != "cuda":
        return "high"
    free, _ = torch.cuda.mem_get_info(device)
    weights = {
        name: sum(parameter.nbytes for parameter in part.parameters())
        for name, part in pipeline.components.items()
        if isinstance(part, nn.Module)
    }
    on_device = sum(
        parameter.nbytes
        for part in pipeline.components.values()
        if isinstance(part, nn.Module)
        for parameter in part.parameters()
        if parameter.device == device
    )
    is_in_groups = pipeline.is_offloaded and not getattr(pipeline, "_all_hooks", None)
    room = free + on_device - _SPARE_BYTES
    for mode in MODES:
        held = max(weights.values()) if IS_OFFLOADED[mode] else sum(weights.values())
        if is_in_groups:
            held = max(_largest_group(network) for network in pipeline.networks_of_a_step())
        if held + activation_bytes(pipeline, plan, mode) <= room:
            return mode
    return MODES[-1]


def _largest_group(network: nn.Module) -> int:
    """Return the most bytes of weights on the device at once with `offload_groups`."""
    blocks = [b for child in network.children() if isinstance(child, nn.ModuleList) for b in child]
    sizes = [sum(parameter.nbytes for parameter in block.parameters()) for block in blocks]
    total = sum(parameter.nbytes for parameter in network.parameters())
    return total - sum(sizes) + max(sizes, default=0)


def activation_bytes(pipeline: AnimationPipeline[Any, Any], plan: Plan[Any], mode: str) -> int:
    """Estimate the peak of the activations of a plan, in bytes."""
    size = pipeline.denoiser.dtype.itemsize / 2
    pixels = plan.height * plan.width
    latent_pixels = pixels // pipeline.pixels_per_latent**2
    channels = pipeline.denoiser.config.get("block_out_channels", [320])[0]
    denoising = DENOISING_BYTES[mode] * latent_pixels * min(plan.tile_size, plan.num_frames) * channels / 320
    decoded_pixels = min(pixels, (plan.settings.decode_tile_size or pixels) ** 2)
    decoding = DECODING_BYTES * decoded_pixels * min(plan.decode_chunk_size, plan.num_frames)
    return int(size * max(denoising, decoding))
