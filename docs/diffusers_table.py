"""Measure which of diffusers' features work with which family, and write the table of docs/diffusers.md.

    python docs/diffusers_table.py

Each feature is run on a tiny model of each family (random weights, 16x24 pixels, CPU) and compared with the
plain call: `exact` is equal in every bit, `close` gives the largest difference of a pixel in [0, 1], rounded
up to 1, 2 or 5 times a power of ten, `runs` is for features that change the video, and for `refused` the
error is printed below the table.
"""

from __future__ import annotations

import copy
import math
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import PIL.Image
import torch
from diffusers.callbacks import SDCFGCutoffCallback
from diffusers.schedulers import AysSchedules

sys.path.insert(0, str(Path(__file__).parents[1]))
from mimic.families.registry import FAMILIES, load_pipeline
from mimic.families.schedulers import CONTINUOUS, DISCRETE

PAGE = Path(__file__).with_name("diffusers.md")
BEGIN, END = "<!-- table: python docs/diffusers_table.py -->\n", "<!-- end of table -->\n"
HEIGHT, WIDTH, FRAMES = 16, 24, 3
IMAGE = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
POSES = torch.rand(FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Changed:
    """The result of a feature that is meant to change the video."""

    def __init__(self, frames: torch.Tensor) -> None:
        self.frames = frames


class NeedsGpuError(Exception):
    """A feature that does nothing without a GPU."""


def on_gpu(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A feature that is measured where there is a GPU."""

    def measure(pipe: Any) -> Any:
        if not torch.cuda.is_available():
            raise NeedsGpuError
        return run(pipe)

    return measure


def video(pipe: Any, **changes: Any) -> torch.Tensor:
    """A short guided video."""
    call = {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "pt"} | changes
    pipe.set_progress_bar_config(disable=True)
    frames = pipe(IMAGE, POSES, generator=torch.Generator().manual_seed(0), **call).frames
    assert isinstance(frames, torch.Tensor)
    return frames


def after(change: Callable[[Any], Any]) -> Callable[[Any], torch.Tensor]:
    """The video after a change to the pipeline."""

    def run(pipe: Any) -> torch.Tensor:
        change(pipe)
        return video(pipe)

    return run


def with_scheduler(name: str) -> Callable[[Any], Any]:
    def run(pipe: Any) -> Any:
        extra = {"sigma_data": 1.0} if name.startswith("EDM") else {}
        pipe.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **extra)
        return Changed(video(pipe, num_inference_steps=4))

    return run


def stopped(pipe: Any) -> Any:
    def stop(pipe: Any, *rest: Any) -> dict[str, Any]:
        pipe._interrupt = True
        return {}

    return Changed(video(pipe, callback_on_step_end=stop))


def cut_off(pipe: Any) -> Any:
    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0)
    return Changed(video(pipe, callback_on_step_end=cutoff))


def saved_and_loaded(load: Callable[[str], Any]) -> Callable[[Any], torch.Tensor]:
    def run(pipe: Any) -> torch.Tensor:
        with tempfile.TemporaryDirectory() as folder:
            pipe.save_pretrained(folder)
            return video(load(folder))

    return run


def in_halves(pipe: Any) -> torch.Tensor:
    """One part in another precision than the others."""
    pipe.vae.to(torch.bfloat16)
    return video(pipe)


def compiled(part: str) -> Callable[[Any], Any]:
    return after(lambda pipe: setattr(pipe, part, torch.compile(getattr(pipe, part), backend="eager")))


def processor(pipe: Any) -> None:
    from diffusers.models.attention_processor import AttnProcessor

    for name in ("unet", "reference_unet", "appearance_encoder"):
        if hasattr(pipe, name):
            getattr(pipe, name).set_attn_processor(AttnProcessor())


def low_rank(pipe: Any) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA of one layer, with random weights."""
    name, layer = next(
        (name, layer) for name, layer in pipe.unet.named_modules() if name.endswith("attn1.to_q")
    )
    generator = torch.Generator().manual_seed(2)
    shapes = {"lora_A.weight": (2, layer.in_features), "lora_B.weight": (layer.out_features, 2)}
    drawn = {f"unet.{name}.{end}": torch.randn(shape, generator=generator) for end, shape in shapes.items()}
    return {**drawn, f"unet.{name}.alpha": torch.tensor(2.0)}


def with_lora(*switches: str) -> Callable[[Any], torch.Tensor]:
    """The video with a LoRA, after some of a pipeline's methods were called."""

    def run(pipe: Any) -> torch.Tensor:
        pipe.load_lora_weights(low_rank(pipe), adapter_name="one")
        for switch in switches:
            getattr(pipe, switch)()
        return video(pipe)

    return run


FEATURES: dict[str, Callable[[Any], Any]] = {
    "save and load": saved_and_loaded(lambda folder: load_pipeline(folder, device="cpu")),
    "`DiffusionPipeline.from_pretrained`": saved_and_loaded(diffusers.DiffusionPipeline.from_pretrained),
    "`Pipeline(**pipe.components)`": lambda pipe: video(type(pipe)(**pipe.components)),
    "`from_pipe`": lambda pipe: video(type(pipe).from_pipe(pipe)),
    "`torch.inference_mode`": torch.inference_mode()(video),
    "`enable_attention_slicing`": after(lambda pipe: pipe.enable_attention_slicing()),
    "`fuse_qkv_projections`": after(lambda pipe: pipe.unet.fuse_qkv_projections()),
    "`set_attn_processor`": after(processor),
    "`set_default_attn_processor`": after(lambda pipe: pipe.unet.set_default_attn_processor()),
    "`set_attention_backend('native')`": after(lambda pipe: pipe.unet.set_attention_backend("native")),
    "`vae.enable_slicing`": after(lambda pipe: pipe.vae.enable_slicing()),
    "`vae.enable_tiling`": after(lambda pipe: pipe.vae.enable_tiling()),
    "`torch.compile(pipe.vae)`": compiled("vae"),
    "channels last": after(lambda pipe: pipe.unet.to(memory_format=torch.channels_last)),
    "bfloat16": after(lambda pipe: pipe.to(torch.bfloat16)),
    "a VAE in bfloat16": in_halves,
    "`enable_layerwise_casting` (bfloat16)": after(
        lambda pipe: pipe.unet.enable_layerwise_casting(
            storage_dtype=torch.bfloat16, compute_dtype=torch.float32
        )
    ),
    "`enable_model_cpu_offload`": after(lambda pipe: pipe.enable_model_cpu_offload(device="cpu")),
    '`device_map="balanced"`': on_gpu(
        saved_and_loaded(
            lambda folder: diffusers.DiffusionPipeline.from_pretrained(folder, device_map="balanced")
        )
    ),
    "`enable_group_offload` (block level)": after(
        lambda pipe: pipe.unet.enable_group_offload(
            onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
        )
    ),
    "`enable_group_offload` (leaf level)": after(
        lambda pipe: pipe.unet.enable_group_offload(
            onload_device=torch.device("cpu"), offload_type="leaf_level"
        )
    ),
    "`enable_freeu`": lambda pipe: Changed(after(lambda p: p.enable_freeu(0.9, 0.2, 1.2, 1.4))(pipe)),
    "`enable_cache` (pyramid attention)": lambda pipe: Changed(
        after(
            lambda p: p.unet.enable_cache(
                diffusers.PyramidAttentionBroadcastConfig(
                    spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
                )
            )
        )(pipe)
    ),
    "`load_lora_weights`": lambda pipe: Changed(with_lora()(pipe)),
    "`fuse_lora`": lambda pipe: Changed(with_lora("fuse_lora")(pipe)),
    "`load_lora_weights`, then `disable_lora`": with_lora("disable_lora"),
    "`load_lora_weights`, then `unload_lora_weights`": with_lora("unload_lora_weights"),
    "`fuse_lora`, then `unfuse_lora` and `disable_lora`": with_lora(
        "fuse_lora", "unfuse_lora", "disable_lora"
    ),
    "callback that stops": stopped,
    "`SDCFGCutoffCallback`": cut_off,
    "`sigmas=` (Align Your Steps)": lambda pipe: Changed(
        video(pipe, sigmas=AysSchedules["StableDiffusionVideoSigmas"])
    ),
    "`timesteps=`": lambda pipe: Changed(video(pipe, timesteps=[900, 500, 100])),
    **{f"`{name}`": with_scheduler(name) for name in sorted({*DISCRETE, *CONTINUOUS})},
    "`FlowMatchEulerDiscreteScheduler`": with_scheduler("FlowMatchEulerDiscreteScheduler"),
}


def outcome(feature: Callable[[Any], Any], pipe: Any, plain: torch.Tensor) -> tuple[str, str]:
    """One cell of the table, and the sentence of a refusal."""
    try:
        with torch.no_grad():
            result = feature(pipe)
    except ImportError as error:
        return "not installed", " ".join(str(error).split())
    except NeedsGpuError:
        return "needs a GPU", ""
    except (ValueError, NotImplementedError, AttributeError, RuntimeError) as error:
        sentence = " ".join(str(error).split())
        return "refused", re.sub(
            r"^scheduler \w+ cannot", "the scheduler cannot", sentence
        )  # the row names it
    if isinstance(result, Changed):
        return ("runs" if result.frames.isfinite().all() else "not finite"), ""
    difference = float((result - plain).abs().max())
    return ("exact" if difference == 0 else f"close ({rounded_up(difference):.1g})"), ""


def rounded_up(number: float) -> float:
    """The next of 1, 2, 5 and 10 times a power of ten, so that last bits do not change the page."""
    power = 10.0 ** math.floor(math.log10(number))
    return next((step * power for step in (1, 2, 5) if number <= step * power), 10 * power)


def measured(features: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """The cells of each feature, one for each family, with the sentence of a refusal."""
    pipes = {name: FAMILIES[name].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0) for name in FAMILIES}
    plain = {name: video(copy.deepcopy(pipe)) for name, pipe in pipes.items()}
    rows = {}
    for feature in features:
        run = FEATURES[feature]
        rows[feature] = [outcome(run, copy.deepcopy(pipe), plain[name]) for name, pipe in pipes.items()]
        print(feature, *(cell for cell, _ in rows[feature]), sep="\t", flush=True)
    return rows


def table(rows: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The table in Markdown, followed by the sentences of refusals."""
    names = [record.pipeline_name.removesuffix("Pipeline") for record in FAMILIES.values()]
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " --- |" * len(names)]
    notes: dict[str, str] = {}
    for feature, row in rows.items():
        cells = []
        for cell, note in row:
            number = notes.setdefault(note, str(len(notes) + 1)) if note else ""
            cells.append(f"{cell} [{number}]" if note else cell)
        lines.append(f"| {feature} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"{number}. {note}" for note, number in notes.items())]) + "\n"


def rows_of(page: str) -> dict[str, list[tuple[str, str]]]:
    """The cells that a page has, with the sentences of refusals: the reverse of `table`."""
    lines = page.partition(BEGIN)[2].partition(END)[0].splitlines()
    notes = dict(line.split(". ", 1) for line in lines if line[:1].isdigit())
    rows = {}
    for line in [line for line in lines if line.startswith("|")][2:]:
        feature, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        parts = [cell.rstrip("]").partition(" [") for cell in cells]
        rows[feature] = [(cell, notes.get(number, "")) for cell, _, number in parts]
    return rows


def write(rows: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Put the table into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after_it = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after_it}", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(measured(FEATURES))
