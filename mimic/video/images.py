"""Pictures: any file that Pillow reads to upright opaque RGB, and back to PNG or JPEG."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mimic.files import whole_file


class PictureError(OSError):
    """A file that is no picture that can be read."""


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a picture as uint8 ``H x W x 3`` RGB: turned upright by its EXIF orientation, laid over white.

    16-bit pictures are reduced to 8 bits; of an animation the first frame is taken.

    Raises:
        FileNotFoundError: there is no such file.
        PictureError: it is not a picture that Pillow can read, or is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no picture {path}")
    if path.is_dir():
        raise PictureError(f"{path} is a folder; expected a picture in it")
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{path} is not a picture that can be read; expected JPEG, PNG, WebP or another that Pillow knows"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"{path} cannot be read as a picture: {error}") from error
    if image.mode.startswith("I;16") or image.mode == "I":
        return np.repeat((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> Path:
    """Write uint8 ``H x W x 3`` RGB in the format of the suffix, whole or not at all.

    Raises:
        PictureError: no picture format has this suffix.
    """
    path = Path(path)
    if path.suffix.lower() not in Image.registered_extensions():
        raise PictureError(
            f"cannot write {path}: no picture has the suffix {path.suffix!r}; use .png or .jpg"
        )
    with whole_file(path) as beside:
        Image.fromarray(image).save(beside)
    return path


def over_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay uint8 ``… x 4`` RGBA over white: what is transparent becomes white paper, not a hidden colour."""
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)
