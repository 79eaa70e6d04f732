"""Pictures, whatever they come as, to upright opaque sRGB; and back to PNG or JPEG files."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from mimic.files import whole_file
from mimic.video.colour import to_srgb
from pose.text import one_line
from pose.video.shown import over_white
from pose.video.source import MAX_PIXELS, MAX_SIDE, nearest_file, why_no_file

PictureSource = str | os.PathLike[str] | Image.Image | NDArray[Any]

MAX_ASPECT = 16
_MOST_WHITE = 1.1

# What Pillow's readers raise for files that are damaged.
BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, OverflowError, struct.error),
    RuntimeError,  # AVIF
    Image.DecompressionBombError,
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


class PictureError(OSError):
    """Something that cannot be read as a picture."""


def picture_from(source: PictureSource, *, name: str = "the picture") -> NDArray[np.uint8]:
    """Any picture as uint8 ``H x W x 3`` sRGB, the same by path and in memory.

    Args:
        source: a file; a PIL image of any mode, whose EXIF orientation and colour profile are applied; or an
            array ``H x W``, ``H x W x 1``, ``x 3`` or ``x 4`` of uint8, uint16, bool, or floats in [0, 1].
        name: of a picture in memory, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        PictureError: it is no picture, is damaged, or its size or shape is out of bounds.
    """
    if isinstance(source, str | os.PathLike):
        return read_image(source)
    if isinstance(source, Image.Image):
        return _from_pil(source, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    raise PictureError(f"{name} is a {type(source).__name__}; expected a path, a PIL image or a NumPy array")


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a picture as uint8 ``H x W x 3`` sRGB.

    It is turned upright by its EXIF orientation, laid over white, and converted from the colour space of its
    profile. 16-bit and float pictures are reduced to 8 bits; of an animation the first frame is taken.

    Raises:
        FileNotFoundError: there is no such file.
        PictureError: it is not a picture that can be read, is damaged, or its size is out of bounds.
    """
    path = Path(path)
    try:
        other = why_no_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no picture {path}{nearest_file(path)}") from None
    if other is not None:
        raise PictureError(f"{path} is {other}; expected a picture file")
    if _is_heif(path):
        _enable_heif(path)
    try:
        with Image.open(path) as image:
            return _from_pil(image, str(path))
    except UnidentifiedImageError as error:
        float_picture = _float_tiff(path)
        if float_picture is not None:
            return _from_array(float_picture, str(path))
        raise PictureError(
            f"{path} is not a picture that can be read; expected JPEG, PNG, WebP or another that Pillow knows"
        ) from error
    except PictureError:
        raise
    except BROKEN as error:
        raise PictureError(f"{path} cannot be read as a picture: {one_line(error)}") from error


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


def check_picture_size(height: int, width: int, name: str) -> None:
    """Refuse sizes that no memory holds, and strips that no person fits in.

    Raises:
        PictureError: a side, the number of pixels or the aspect is out of bounds.
    """
    if max(height, width) > MAX_SIDE or height * width > MAX_PIXELS:
        raise PictureError(
            f"{name} has {width}x{height} pixels; expected sides of at most {MAX_SIDE} and at most "
            f"{MAX_PIXELS // 10**6} million pixels. Make it smaller"
        )
    if min(height, width) < 1 or max(height, width) > MAX_ASPECT * min(height, width):
        raise PictureError(
            f"{name} has {width}x{height} pixels; expected one side at most {MAX_ASPECT} times the other. "
            "Crop it to the person"
        )


def _from_pil(image: Image.Image, name: str) -> NDArray[np.uint8]:
    check_picture_size(image.height, image.width, name)
    try:
        image = ImageOps.exif_transpose(image)
        image.load()
    except BROKEN as error:
        raise PictureError(f"{name} cannot be read as a picture: {one_line(error)}") from error
    check_picture_size(image.height, image.width, name)  # an icon has the size of the picture inside
    if image.mode.startswith("I;16") or image.mode == "I":
        return _from_integers(np.asarray(image), image)
    if image.mode == "F":
        return _from_array(np.asarray(image), name)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        colours = np.asarray(to_srgb(image, rgba.convert("RGB")))
        return over_white(np.dstack([colours, np.asarray(rgba)[..., 3]]))
    return np.array(to_srgb(image))


def _from_integers(grey: NDArray[Any], image: Image.Image) -> NDArray[np.uint8]:
    """16- and 32-bit grey; of 32 bits that hold nothing beyond 255, as 8 bits."""
    is_small = image.mode == "I" and grey.max(initial=0) <= 255
    eight = (grey.clip(0, 65535) >> (0 if is_small else 8)).astype(np.uint8)
    as_grey = Image.fromarray(eight)
    as_grey.info = dict(image.info)
    return np.array(to_srgb(as_grey))


def _from_array(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise PictureError(
            f"{name} is an array of shape {array.shape}; expected H x W, or H x W x 1, 3 or 4 (RGB or RGBA)"
        )
    check_picture_size(array.shape[0], array.shape[1], name)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        array = _from_floats(array, name)
    elif array.dtype != np.uint8:
        raise PictureError(f"{name} is an array of {array.dtype}; expected uint8, uint16 or floats in [0, 1]")
    if array.shape[2] == 4:
        return over_white(array)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _from_floats(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Floats in [0, 1], or on the scale of 8 or 16 bits if they exceed it.

    White may be a little above 1: filters overshoot, and OpenCV before 5 writes float TIFFs in LogLuv, which
    keeps three digits. On the scale of 8 bits such a picture would be black all over.
    """
    if not np.isfinite(array).all():
        raise PictureError(f"{name} has pixels that are no finite numbers")
    lowest, highest = float(array.min()), float(array.max())
    if lowest < -1e-3 * max(1.0, highest) or highest > 65535:
        raise PictureError(
            f"{name} has floats from {lowest:.4g} to {highest:.4g}; expected [0, 1], [0, 255] or [0, 65535]"
        )
    scale = 255.0 if highest <= _MOST_WHITE else 1.0 if highest <= 255 else 255 / 65535
    return np.asarray(np.clip(np.round(array * scale), 0, 255), dtype=np.uint8)


@contextlib.contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Switch OpenCV's messages off; builds differ in where the switch is, and some have none."""
    home = getattr(getattr(cv2, "utils", None), "logging", cv2)
    if not hasattr(home, "setLogLevel"):
        yield
        return
    level = home.getLogLevel()
    home.setLogLevel(0)
    try:
        yield
    finally:
        home.setLogLevel(level)


def _float_tiff(path: Path) -> NDArray[Any] | None:
    """A TIFF of several float channels, which Pillow does not read, as RGB or RGBA; None if it is none."""
    with open(path, "rb") as file:
        head = file.read(8)
        if head[:4] not in (b"II*\0", b"MM\0*"):
            return None
        try:
            tags = TiffImagePlugin.ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            width, height = (
                int(tags[tag]) for tag in (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)
            )
        except BROKEN:
            return None
    check_picture_size(height, width, str(path))  # before all of it is decoded
    with _quiet_opencv():  # what is wrong is said by us
        try:
            # OpenCV opens no path with letters outside ASCII on Windows.
            array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return None
    if array is None or array.ndim != 3 or array.shape[2] not in (3, 4):
        return None
    return np.asarray(array[..., [2, 1, 0, 3][: array.shape[2]]])


def _is_heif(path: Path) -> bool:
    with open(path, "rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS


def _enable_heif(path: Path) -> None:
    """Let Pillow read HEIC.

    Raises:
        PictureError: the package that does it is not installed.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise PictureError(
            f"{path} is a HEIC picture, which needs pillow-heif: pip install 'mimic-motion[heif]', "
            "or save it as JPEG or PNG"
        ) from None
    register_heif_opener()
