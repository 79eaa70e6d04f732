"""A small clip of what is being denoised, written while denoising runs.

Latents become colours by a linear map, which is fitted to the reference picture and its latents; each pixel
of the preview is then one latent. With a light decoder (`mimic.models.preview_decoder`), it shows the frames.

Legend: F frames, C latent channels, H x W pixels, h x w latents.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mimic.data.transforms import picture_to_tensor
from mimic.families.base import AnimationPipeline
from mimic.files import local_path, replace
from mimic.models.preview_decoder import PreviewDecoder, load_preview_decoder
from mimic.models.vae import VAE, encode_images
from mimic.sampling.schedules import has_noise_levels, noise_levels
from mimic.video import VideoWriteError, VideoWriter
from mimic.video.formats import is_folder_name, sibling
from mimic.weights.strict import WeightsError

log = logging.getLogger("mimic")

DECODER = Path("models/taesdv.pth")
"""Light decoder that previews use if it is there."""


class Preview:
    """A callback for a pipeline's `callback_on_step_end` that writes a preview after each step.

    It shows the frames that the last step points to: with noise levels s and s' before and after it, and
    latents x and x' (divided by the signal's part), x0 = x' - s' (x' - x) / (s' - s), which is exact for
    deterministic samplers of first order (Euler, DDIM). Where a preview cannot be written, a line is logged
    and the run continues.

    Args:
        path: of the video; replaced after each step.
        picture: the reference, RGB uint8 ``H x W x 3``.
        fps: frames per second of the clip.
        decoder: a light decoder for the latents; None uses the linear map.
    """

    def __init__(
        self,
        pipeline: AnimationPipeline[Any, Any],
        path: Path,
        picture: NDArray[np.uint8],
        *,
        fps: float | Fraction,
        decoder: PreviewDecoder | None = None,
    ) -> None:
        self.path = path
        self._fps = fps
        self._decoder = decoder
        self._shows_reference_first = pipeline.shows_reference_first
        self._map = _fitted(pipeline.vae, picture) if decoder is None else None
        self._former: Tensor | None = None

    def make_room(self, *, is_ours: bool) -> Path | None:
        """Rename a file that has the preview's name; returns its new name.

        Args:
            is_ours: it is what an interrupted run has left, and may be replaced.
        """
        if is_ours or not os.path.lexists(self.path):
            return None
        names = (sibling(self.path, f".{number}") for number in itertools.count(1))
        free = next(name for name in names if not os.path.lexists(name))
        replace(self.path, free)
        return free

    def __call__(
        self, pipeline: AnimationPipeline[Any, Any], step: int, t: Tensor, tensors: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Write the preview of latents after a step; it changes none."""
        latents = tensors["latents"][0].detach().float().cpu()
        levels = _levels(pipeline.scheduler, step, int(t))
        clean = latents if levels is None else self._clean(latents, *levels, pipeline.scheduler)
        self._former = latents
        if clean is None:
            return None
        try:
            self.show(self.colours(clean))
        except (VideoWriteError, ValueError) as error:
            log.warning("no preview of step %d: %s", step + 1, error)
        return None

    def remove(self) -> None:
        """Remove the preview, when the result is there."""
        with contextlib.suppress(OSError):
            self.path.unlink()

    def colours(self, latents_FChw: Tensor) -> NDArray[np.uint8]:
        """Turn latents without noise into pictures, RGB uint8 ``F x h x w x 3``, or larger with a decoder."""
        if self._decoder is not None:
            pixels = self._decoder(latents_FChw).movedim(1, -1)
        else:
            assert self._map is not None
            pixels = latents_FChw.movedim(1, -1) @ self._map[:-1] + self._map[-1]
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy()

    def _clean(self, latents: Tensor, before: float, after: float, scheduler: Any) -> Tensor | None:
        if after == 0:
            return latents
        if self._former is None or before == after or not np.isfinite(before):
            return None
        own, former = (
            value * _unscaled(level, scheduler) for value, level in ((latents, after), (self._former, before))
        )
        return own - after * (own - former) / (after - before)

    def show(self, frames_Fhw3: NDArray[np.uint8]) -> None:
        """Write pictures of all frames; subclasses show them elsewhere."""
        shown = frames_Fhw3[1:] if self._shows_reference_first and len(frames_Fhw3) > 1 else frames_Fhw3
        height, width = shown.shape[1:3]
        with VideoWriter(self.path, height=height, width=width, fps=self._fps) as writer:
            for frame in shown:
                writer.write(np.ascontiguousarray(frame))


def decoder_for_previews(pipeline: AnimationPipeline[Any, Any], given: str | None) -> PreviewDecoder | None:
    """Return the light decoder of a run's preview; None if there is none.

    Args:
        pipeline: whose latents are decoded.
        given: path of the decoder; None takes `DECODER` if it is there and the VAE is Stable Diffusion's.

    Raises:
        SourceError: there is no decoder at the given path (an `OSError`).
        WeightsError: its weights do not fit, or it takes other latents than the model's (a `ValueError`).
    """
    has_known_latents = isinstance(pipeline.vae, AutoencoderKL | AutoencoderKLTemporalDecoder)
    channels, side = pipeline.vae.config.latent_channels, pipeline.pixels_per_latent
    if given is None and not (has_known_latents and (channels, side) == (4, 8) and DECODER.is_file()):
        return None
    path = DECODER if given is None else local_path(given)
    decoder = load_preview_decoder(path, device=pipeline.execution_device, dtype=pipeline.denoiser.dtype)
    if (decoder.channels, decoder.pixels_per_latent) != (channels, side):
        raise WeightsError(
            f"preview_decoder {path} takes latents of {decoder.channels} channels, "
            f"{decoder.pixels_per_latent} pixels wide; those of the model have {channels}, and are {side} "
            "pixels wide. Leave preview_decoder out."
        )
    return decoder


def preview_path(path: Path) -> Path:
    """Return the path of a result's preview, a video also where the result is a folder of pictures."""
    if is_folder_name(path):
        return path.with_name(f"{path.name}_preview.mp4")
    return path.with_name(f"{path.stem}_preview{path.suffix}")


def _levels(scheduler: Any, step: int, t: int) -> tuple[float, float] | None:
    """Return the noise levels before and after a step; None if the scheduler has none."""
    if not has_noise_levels(scheduler):
        return None
    levels = [*noise_levels(scheduler), 0.0]
    if getattr(scheduler, "sigmas", None) is not None or scheduler.num_inference_steps is None:
        return levels[step], levels[step + 1]
    # DDIM's next level is not always that of the next timestep.
    following = t - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    bar = float(scheduler.alphas_cumprod[following]) if following >= 0 else 1.0
    return levels[step], ((1 - bar) / bar) ** 0.5


def _unscaled(level: float, scheduler: Any) -> float:
    """Return the factor that makes a scheduler's latents signal + level * noise.

    Schedulers with sigmas keep latents that way; those of DDPM's kind keep the variance at one.
    """
    return 1.0 if getattr(scheduler, "sigmas", None) is not None else (1 + level**2) ** 0.5


@torch.no_grad()
def _fitted(vae: VAE, picture: NDArray[np.uint8]) -> Tensor:
    """Fit colours to latents by least squares, ``(C + 1) x 3``, the last row being the offset."""
    pixels = picture_to_tensor(Image.fromarray(picture))
    latents = encode_images(vae, (pixels * 2 - 1).to(vae.device)).float().cpu() * vae.config.scaling_factor
    colours = functional.adaptive_avg_pool2d(pixels.float(), latents.shape[-2:])[0]
    rows = latents[0].flatten(1).T  # hw x C
    rows = torch.cat([rows, torch.ones(len(rows), 1)], dim=1)
    # A small ridge, because a plain picture does not determine all channels.
    gram = rows.T @ rows + 1e-3 * len(rows) * torch.eye(rows.shape[1])
    return torch.linalg.solve(gram, rows.T @ colours.flatten(1).T)
