"""(c) Full size with random weights at 576x1024: windows of 16 and 72 frames, released way and ours."""

from __future__ import annotations

import gc
from typing import Any

import torch

from benchmarks.gpu.record import Part, Setting
from benchmarks.gpu.weights import SMALL_UNET, random_parts
from benchmarks.speed.operators import cost_of_pass
from benchmarks.speed.run import (
    BASELINE,
    Given,
    Job,
    Parts,
    Way,
    decode,
    random_inputs,
    relative_error,
    sample,
)

WAYS = {
    "baseline": BASELINE,
    "ours": Way(),
    "ours, branches batched": Way(batches_guidance=True),
    "ours, compiled": Way(is_compiled=True),
}
_BACKENDS = ("native", "_native_cudnn", "flash", "_flash_3", "sage")


def run(setting: Setting, part: Part) -> None:
    """Measure 16 frames first, which fit everywhere; then 72."""
    parts = random_parts(setting.device, setting.dtype, is_small=setting.is_small)
    height, width = (64, 64) if setting.is_small else (576, 1024)
    part.put("size", {"height": height, "width": width, "dtype": str(setting.dtype)})
    for num_frames in (4, 8) if setting.is_small else (16, 72):
        job = Job(num_frames=num_frames, tile_size=num_frames, tile_overlap=0, num_steps=1)
        given = random_inputs(parts, job, height, width)
        _measure_ways(setting, part, parts, job, given, f"{num_frames} frames")
        _measure_decoding(setting, part, parts, job, given, f"{num_frames} frames")
        if setting.seconds_left < 60 and not setting.is_small:
            part.put("stopped", f"after {num_frames} frames: out of time")
            return
        if num_frames in (4, 16):
            _measure_layouts(setting, part, parts, job, given)
    gc.collect()


def _measure_ways(setting: Setting, part: Part, parts: Parts, job: Job, given: Given, name: str) -> None:
    config = SMALL_UNET if setting.is_small else {}
    h, w = given.reference.shape[-2:]
    flop = sum(
        cost.flop
        for cost in cost_of_pass(
            config, num_frames=job.num_frames, height=h, width=w, dtype=setting.dtype
        ).values()
    )
    rates = part.of("a").get("matrix rate, TFLOP/s") or {}
    rate = rates.get(str(setting.dtype).removeprefix("torch."))
    expected = None
    for way_name, way in WAYS.items():
        if way.is_compiled and setting.device.type != "cuda":
            part.put(f"{name}, {way_name}", {"not run": "on CUDA only"})
            continue
        setting.reset_peak()
        try:
            seconds = setting.seconds_of(
                lambda way=way: sample(parts, job, given, way), repeats=3 if job.num_frames < 32 else 2
            )
            latents = sample(parts, job, given, way)
        except Exception as error:  # out of memory, or no compiler: the other ways still count
            part.put(f"{name}, {way_name}", {"not run": f"{type(error).__name__}: {str(error)[:300]}"})
            continue
        expected = latents if expected is None else expected
        achieved = 2 * flop / seconds / 1e12
        part.put(
            f"{name}, {way_name}",
            {
                "seconds of a step (two passes)": round(seconds, 4),
                "TFLOP of a step": float(f"{2 * flop / 1e12:.4g}"),
                "TFLOP/s": float(f"{achieved:.4g}"),
                "share of the matrix rate": None if not rate else round(achieved / rate, 3),
                "peak memory, GB": setting.peak_gb(),
                "relative difference to the baseline": relative_error(latents, expected),
            },
        )


def _measure_decoding(setting: Setting, part: Part, parts: Parts, job: Job, given: Given, name: str) -> None:
    latents = given.noise.to(setting.dtype)
    results: dict[str, Any] = {}
    for way_name, way in (("baseline", BASELINE), ("ours", Way())):
        setting.reset_peak()
        seconds = setting.seconds_of(lambda way=way: decode(parts, job, latents, way), repeats=1)
        results[way_name] = {"seconds": round(seconds, 4), "peak memory, GB": setting.peak_gb()}
    part.put(f"{name}, decoding", results)
    seconds = setting.seconds_of(lambda: _pose_features(parts, given), repeats=1)
    part.put(f"{name}, PoseNet", {"seconds": round(seconds, 4)})


@torch.no_grad()
def _pose_features(parts: Parts, given: Given) -> None:
    for maps in given.poses.split(8):
        parts.pose_net(maps)


def _measure_layouts(setting: Setting, part: Part, parts: Parts, job: Job, given: Given) -> None:
    """Attention backends, and channels last, which eager blocks undo at each transformer."""
    for backend in _BACKENDS:
        try:
            parts.unet.set_attention_backend(backend)
            seconds = setting.seconds_of(lambda: sample(parts, job, given, Way()), repeats=2)
            part.put(f"attention backend {backend}", {"seconds of a step": round(seconds, 4)})
        except Exception as error:
            part.put(f"attention backend {backend}", {"not run": str(error)[:200]})
        finally:
            parts.unet.reset_attention_backend()
    convolutions = [module for module in parts.unet.modules() if type(module) is torch.nn.Conv2d]
    former = [conv.weight.data for conv in convolutions]
    for conv in convolutions:
        conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
    try:
        seconds = setting.seconds_of(lambda: sample(parts, job, given, Way()), repeats=2)
        part.put("channels last", {"seconds of a step": round(seconds, 4)})
    finally:
        for conv, weight in zip(convolutions, former):
            conv.weight.data = weight
