"""Latents as the miniature itself makes them of a reference and poses: what its decoder has to draw.

Legend: N pictures of a dancer, C latent channels, H x W pixels, h x w latents.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimic.families.base import AnimationOutput
from mimic.families.mimicmotion.pipeline import MimicMotionPipeline
from mimic.families.registry import load_pipeline
from mimic.miniature.dancers import Dancer, as_network_input


class LatentMaker:
    """Computes the latents of a dancer's pictures from the first one and the poses, with a MimicMotion.

    Args:
        model: folder of a MimicMotion whose VAE has the encoder of the one that is trained.

    Raises:
        ValueError: the model is of another family.
    """

    def __init__(self, model: Path) -> None:
        pipe = load_pipeline(model, dtype="float32", device="cpu")
        if not isinstance(pipe, MimicMotionPipeline):
            raise ValueError(f"{model} is a {type(pipe).__name__}; latents are made by a MimicMotion")
        pipe.set_progress_bar_config(disable=True)
        self._pipe = pipe

    @torch.no_grad()
    def __call__(self, dancer: Dancer, seed: int) -> Tensor:
        """Return unscaled latents ``N x C x h x w``; those of picture 0, the reference, are made as well."""
        reference = dancer.pictures[0].permute(1, 2, 0).numpy()
        output = self._pipe(
            np.ascontiguousarray(reference),
            as_network_input(dancer.maps),
            height=reference.shape[0],
            width=reference.shape[1],
            num_frames=len(dancer.maps),
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        )
        assert isinstance(output, AnimationOutput)
        assert isinstance(output.frames, Tensor)
        return output.frames[0] / self._pipe.vae.config.scaling_factor
