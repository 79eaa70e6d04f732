"""ComfyUI's side of a running node: progress, interruption and pictures of what is being denoised."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimic.families.base import AnimationPipeline
from mimic.generation.preview import Preview

PREVIEW_SIDE = 512
"""Long side of previews in pixels."""


class NodeProgress:
    """A `mimic.progress.Progress` that moves the node's bar.

    Raises ComfyUI's `InterruptProcessingException` when the user cancels; the run ends there.
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def __call__(self, done: int, total: int | None) -> None:
        self._move(done, total, None)

    def show(self, picture: Image.Image) -> None:
        """Show a picture on the node; the bar stays where it is."""
        if self._bar is not None:
            self._move(self._bar.current, self._bar.total, ("JPEG", picture, PREVIEW_SIDE))

    def _move(self, done: int, total: int | None, picture: tuple[str, Image.Image, int] | None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total or done)
        self._bar.update_absolute(done, total, picture)


class NodePreview(Preview):
    """Shows the middle frame of what is being denoised on the node, after each step; no file is written.

    Args:
        pipeline, picture: as in `Preview`.
        progress: the node's progress, which carries the pictures.
    """

    def __init__(
        self, pipeline: AnimationPipeline[Any, Any], picture: NDArray[np.uint8], progress: NodeProgress
    ) -> None:
        super().__init__(pipeline, Path(), picture, fps=Fraction(1))
        self._progress = progress
        self._height, self._width = picture.shape[:2]

    def show(self, frames_Fhw3: NDArray[np.uint8]) -> None:
        picture = Image.fromarray(np.ascontiguousarray(frames_Fhw3[len(frames_Fhw3) // 2]))
        self._progress.show(picture.resize((self._width, self._height), Image.Resampling.BILINEAR))


def make_room() -> None:
    """Ask ComfyUI to move its own models off the GPU."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
