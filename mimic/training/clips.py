"""Show a clip in TensorBoard: as an animated picture, which its own `add_video` makes by means of moviepy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_WIDTH = 960
"""Pixels; a wider clip is shown smaller, since an animated picture is hardly compressed."""


def add_clip(writer: Any, name: str, step: int, frames: Sequence[NDArray[np.uint8]], *, fps: float) -> None:
    """Add a clip to what TensorBoard shows as images.

    Args:
        writer: a `SummaryWriter`.
        name: of the image.
        step: of the training.
        frames: ``H x W x 3`` each.
        fps: frames per second.

    Nothing is added where the package `tensorboard` is not installed.
    """
    try:
        from tensorboard.compat.proto.summary_pb2 import Summary
    except ImportError:  # the writer is tensorboardX's
        return

    height, width = frames[0].shape[:2]
    if width > MAX_WIDTH:
        height, width = round(height * MAX_WIDTH / width), MAX_WIDTH
    pictures = [Image.fromarray(frame).resize((width, height)) for frame in frames]
    encoded = io.BytesIO()
    duration = round(1000 / fps)
    pictures[0].save(encoded, "GIF", save_all=True, append_images=pictures[1:], loop=0, duration=duration)
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encoded.getvalue())
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
