"""Colours of a picture to sRGB, by the ICC profile that it carries."""

from __future__ import annotations

import functools
import io
import logging

import numpy as np
from PIL import Image, ImageCms

from pose.text import one_line

log = logging.getLogger("mimic")

# Profiles that move no colour by more than this are sRGB in other words, levels of 255.
_SAME_LEVELS = 3
_CHANNELS = {"RGB": 3, "L": 1, "CMYK": 4}


def to_srgb(image: Image.Image, colours: Image.Image | None = None) -> Image.Image:
    """A picture as sRGB in mode RGB.

    Args:
        image: carries the profile (``info["icc_profile"]``); without one, RGB and grey are taken for sRGB.
        colours: its colours, where they were taken apart from its transparency already.
    """
    colours = colours if colours is not None else image
    if colours.mode == "LAB":
        return _converted(colours, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")))
    if colours.mode not in _CHANNELS:
        colours = colours.convert("L" if colours.mode in ("1", "LA", "La") else "RGB")
    profile = image.info.get("icc_profile")
    if profile:
        transform = _transform(bytes(profile), colours.mode)
        if transform is not None:
            shown = ImageCms.applyTransform(colours, transform)
            assert shown is not None
            return shown
    return colours.convert("RGB")


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None where it is sRGB, damaged, or of another kind of picture."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode == "CMYK":
            return transform
        sample = _sample(mode)
        shown = ImageCms.applyTransform(sample, transform)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        log.warning(f"a picture's colour profile is left aside, since it cannot be read ({one_line(error)})")
        return None
    assert shown is not None
    moved = np.abs(np.asarray(shown, np.int16) - np.asarray(sample.convert("RGB"), np.int16)).max()
    return transform if moved > _SAME_LEVELS else None


def _sample(mode: str) -> Image.Image:
    """Colours from all over the cube, or all greys."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    return Image.fromarray(np.ascontiguousarray(cube))


def _converted(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    shown = ImageCms.applyTransform(image, transform)
    assert shown is not None
    return shown
