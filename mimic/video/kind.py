"""Is a file a picture or a film? Its content says, not its suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import av.error
from PIL import Image

from mimic.video.images import BROKEN
from pose.text import one_line
from pose.video import VideoError
from pose.video.film import Film, open_film
from pose.video.source import why_no_file

Kind = Literal["picture", "video"]

# Formats of which several frames are an animation; in others they are pages, layers or sizes.
_ANIMATED = {"APNG", "AVIF", "GIF", "PNG", "WEBP"}
_HEIF_STILLS = {b"heic", b"heix", b"heim", b"heis", b"mif1"}
_ONE_FRAME_FORMATS = ("image2", "_pipe")


def kind_of(path: str | os.PathLike[str]) -> Kind:
    """Whether a file holds one picture, or a film: a video, or an animation of more than one frame.

    Raises:
        FileNotFoundError: there is no such file.
        VideoError: it is neither.
    """
    path = Path(path)
    try:
        other = why_no_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    if other is not None:
        raise VideoError(f"{path} is {other}; expected a picture or a video")
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_STILLS:
        return "picture"
    try:
        with Image.open(path) as image:
            if image.format != "MPEG":
                is_animated = image.format in _ANIMATED and getattr(image, "n_frames", 1) > 1
                return "video" if is_animated else "picture"
    except BROKEN:
        pass  # no picture that Pillow knows
    try:
        with open_film(path) as film:
            if next(film.frames(is_lenient=True), None) is None:
                raise VideoError("nothing in it can be decoded")
            is_still = isinstance(film, Film) and film.container.format.name.endswith(_ONE_FRAME_FORMATS)
    except (VideoError, av.error.FFmpegError) as error:
        raise VideoError(
            f"{path} is neither a picture nor a video that can be read ({one_line(error, 400)})"
        ) from error
    return "picture" if is_still else "video"


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether `kind_of` a file is ``"video"``.

    Raises:
        FileNotFoundError, VideoError: as `kind_of`.
    """
    return kind_of(path) == "video"
