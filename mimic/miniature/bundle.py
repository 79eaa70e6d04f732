"""Assemble a trained miniature to a model folder that loads like any other."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from mimic.families.base import AnimationPipeline
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.stable_video_diffusion import svd_scheduler
from mimic.files import write_json
from mimic.miniature.network import Mini, MiniSettings
from mimic.models.image_embedding import image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.training.main import settings_of
from mimic.training.state import checkpoints, load_state


def assemble(
    checkpoint: Path, settings: MiniSettings, *, sigma_min: float, sigma_max: float, defaults: dict[str, Any]
) -> MimicMotionPipeline:
    """Build a pipeline from the VAE and the averaged weights of a checkpoint.

    Args:
        checkpoint: the checkpoint.
        settings: the settings of its training.
        sigma_min, sigma_max: range of noise levels of the sampler, before the last step to 0.
        defaults: recommended settings, such as size, steps and guidance (stored in `mimic.json`).
    """
    vae = MiniTemporalVAE.from_pretrained(settings.vae)
    model = Mini.for_vae(vae, settings)
    tensors, _ = load_state(checkpoint)
    model.load_state_dict(tensors["average"])
    pipeline = MimicMotionPipeline(
        vae=vae,
        image_encoder=model.image_encoder,
        unet=model.unet,
        scheduler=svd_scheduler(sigma_min=sigma_min, sigma_max=sigma_max),
        feature_extractor=image_processor_class()(),
        pose_net=model.pose_net,
    )
    pipeline.generation_defaults = defaults
    for module in (vae, model):
        module.requires_grad_(False).eval()
    return pipeline


def save_bundle(pipeline: AnimationPipeline, folder: Path) -> int:
    """Write the pipeline in half precision and return the size of its weights in bytes."""
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    for file in (folder / "model_index.json", *folder.rglob("config.json")):
        config = json.loads(file.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:  # a path of the machine that wrote it
            write_json(file, config)
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors"))


def main() -> None:
    """Write a model folder from the last checkpoint of a training."""
    parser = argparse.ArgumentParser(prog="python -m mimic.miniature.bundle", description=main.__doc__)
    parser.add_argument("--config", required=True, type=Path, help="the YAML of the training")
    parser.add_argument("--output", required=True, type=Path, help="the model folder to write")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--sigma-min", type=float, default=4.0)
    parser.add_argument("--sigma-max", type=float, default=20.0)
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--tile-size", type=int, default=8)
    parser.add_argument("--tile-overlap", type=int, default=3)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    settings = settings_of(options.config, options.overrides)
    found = checkpoints(settings.output_dir)
    if not found:
        parser.error(f"no checkpoint in {settings.output_dir}; first `mimic train --config {options.config}`")
    defaults = {
        "height": settings.dancers.height,
        "width": settings.dancers.width,
        "fit": "pad",
        "canvas_short_side": settings.dancers.canvas_short_side,
        "tile_size": options.tile_size,
        "tile_overlap": options.tile_overlap,
        "num_inference_steps": options.steps,
        "min_guidance_scale": options.guidance,
        "max_guidance_scale": options.guidance,
        "fusion": "progressive",
        # With shared noise, frames with the same pose are equal.
        "noise": "shared",
        "decode_chunk_size": 8,
        "description": "A miniature of MimicMotion for demonstration, trained on synthetic dancers.",
        "warning": (
            "this is a miniature of MimicMotion for demonstration that knows synthetic dancers only, not "
            "real people; for those get the released weights with `mimic download mimicmotion`."
        ),
    }
    pipeline = assemble(
        found[-1], settings, sigma_min=options.sigma_min, sigma_max=options.sigma_max, defaults=defaults
    )
    size = save_bundle(pipeline, options.output)
    print(f"{found[-1]} → {options.output}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
