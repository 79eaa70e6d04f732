"""Shared loading code of families based on Stable Video Diffusion: the kept parts of its folder, its
schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLTemporalDecoder, EulerDiscreteScheduler
from torch import nn
from transformers import CLIPVisionModelWithProjection

from mimic.families.base import quiet_libraries
from mimic.models.image_embedding import image_processor_class
from mimic.models.mini import MiniTemporalVAE
from mimic.weights.parts import DIFFUSERS, TRANSFORMERS, find_files, load_part, require
from mimic.weights.sources import SVD

_CONFIGS = {
    "unet": "config.json",
    "vae": "config.json",
    "image_encoder": "config.json",
    "scheduler": "scheduler_config.json",
    "feature_extractor": "preprocessor_config.json",
}


def svd_scheduler(*, sigma_min: float = 0.002, sigma_max: float = 700.0) -> EulerDiscreteScheduler:
    """Build Stable Video Diffusion's noise scheduler."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="v_prediction",
        interpolation_type="linear",
        use_karras_sigmas=True,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )


def check_base(base: Path, variant: str | None = None) -> None:
    """Check that a folder has the parts of Stable Video Diffusion that a checkpoint with a UNet needs.

    Args:
        base: the folder, in diffusers' layout.
        variant: of the weight files, for example ``fp16``.

    Raises:
        SourceError: files are missing; all are named (an `OSError`).
    """
    wanted = [base / part / file for part, file in _CONFIGS.items()]
    for part, names in (("vae", DIFFUSERS), ("image_encoder", TRANSFORMERS)):
        wanted += [base / part / name for name in find_files(base / part, names, variant)[1]]
    require(wanted, f"Give the folder of {SVD} in diffusers' layout.")


def load_base(base: Path, *, dtype: torch.dtype, variant: str | None = None) -> dict[str, Any]:
    """Load VAE, image encoder, scheduler and feature extractor of Stable Video Diffusion, by component name.

    Args:
        base: the folder, in diffusers' layout.
        dtype: precision of the weights.
        variant: of the weight files, for example ``fp16``.

    Raises:
        SourceError: a file is missing (an `OSError`).
        WeightsError: keys are missing, unexpected or of a wrong shape; all are listed (a `ValueError`).
    """
    with quiet_libraries():
        return {
            "vae": load_part(_vae_class(base), base / "vae", dtype=dtype, variant=variant),
            "image_encoder": load_part(
                CLIPVisionModelWithProjection, base / "image_encoder", dtype=dtype, variant=variant
            ),
            "scheduler": EulerDiscreteScheduler.from_pretrained(base, subfolder="scheduler"),
            "feature_extractor": image_processor_class().from_pretrained(base, subfolder="feature_extractor"),
        }


def _vae_class(base: Path) -> type[nn.Module]:
    """Return the class that the VAE's config names; the bundled miniature has a class with fewer norm
    groups."""
    name = AutoencoderKLTemporalDecoder.load_config(base / "vae").get("_class_name")
    return MiniTemporalVAE if name == MiniTemporalVAE.__name__ else AutoencoderKLTemporalDecoder
