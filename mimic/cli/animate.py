"""`mimic animate`: one picture and one clip to one video, or folders of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mimic.cli.infer import run_cases
from mimic.cli.options import Subparsers, UsageError, add_dry_run, add_overwrite

if TYPE_CHECKING:
    from mimic.config import InferenceConfig

DEFAULT_MODEL = "bundled:mini"


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "animate",
        parents=[shared],
        help="make the person of a picture move as in a clip",
        description="Make the person of a picture move as the person of a clip does. With a folder of "
        "pictures or of clips, all pairs are made.",
        epilog="Settings as key=value, for example seed=7 num_inference_steps=30 align=robust "
        "side_by_side=true device=cpu; `mimic configs --keys infer` lists them all.",
    )
    parser.add_argument("picture", metavar="PICTURE", help="picture of a person, or a folder of pictures")
    parser.add_argument(
        "clip", metavar="CLIP", help="driving video, poses of `mimic pose` (.npz), or a folder of those"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="result: .mp4, .m4v, .mkv, .mov, .webm or .gif; a name in .png or without suffix is a folder "
        "with one PNG for each frame; for several pairs, the folder of the results "
        "(default: outputs/<clip>_<picture>.mp4)",
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="M",
        help="mimicmotion, animate-anyone or magic-animate (released weights, see `mimic download`), a model "
        "folder, a hub id, a MimicMotion checkpoint, or a YAML with a model (default: %(default)s, a "
        "miniature for demonstration)",
    )
    parser.add_argument("--start", metavar="S", help="begin the clip at this time: seconds, or m:ss")
    parser.add_argument("--end", metavar="S", help="end the clip at this time: seconds, or m:ss")
    parser.add_argument(
        "--preset", metavar="NAME", help="settings for quality or speed: exact, balanced, fast"
    )
    add_dry_run(parser)
    add_overwrite(parser)
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="settings")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    pairs = _pairs(options.picture, options.clip)
    is_batch = any(_is_folder(path) for path in (options.picture, options.clip))
    config, options.output_dir = _config(options, pairs, is_batch=is_batch)
    return run_cases(config, options)


def _config(
    options: argparse.Namespace, pairs: list[tuple[str, str]], *, is_batch: bool
) -> tuple[InferenceConfig, Path]:
    from mimic.config.one_line import animate_config

    folder, name, kind = _place(options.output, is_batch=is_batch)
    is_said = any(override.partition("=")[0].strip() == "format" for override in options.overrides)
    if is_said and kind is not None:
        raise UsageError(f"the format of the result follows from -o {options.output}; leave format=… out")
    settings = {
        "start": seconds_of("--start", options.start),
        "end": seconds_of("--end", options.end),
        "preset": options.preset,
        "format": kind,
    }
    config = animate_config(
        pairs, model=options.model, name=name, settings=settings, overrides=options.overrides
    )
    return config, folder if folder is not None else Path(config.output_dir)


def _place(output: str | None, *, is_batch: bool) -> tuple[Path | None, str | None, str | None]:
    """Folder, name and format of the results; None where they are not determined."""
    from mimic.files import local_path
    from mimic.video.formats import FORMATS, PICTURE_FOLDER, check_format

    if output is None:
        return None, None, None
    if not output.strip():
        raise UsageError("-o is empty; give the name of the result")
    path = local_path(output)
    suffix = path.suffix.lower()
    if is_batch:
        if suffix in FORMATS or path.is_file():
            raise UsageError(f"-o is {output}, but there may be several results; give a folder")
        return path, None, None
    if suffix == ".png":
        if "%" in path.name:
            raise UsageError(
                f"-o is {output}; give a folder, in which the frames are 00001.png, 00002.png, …"
            )
        path, suffix = path.with_suffix(""), ""
    if suffix in FORMATS:
        return path.parent, path.stem, suffix.removeprefix(".")
    try:
        check_format(path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    name = path.name or path.absolute().name
    return path.absolute().parent if not path.name else path.parent, name, PICTURE_FOLDER


def _pairs(picture: str, clip: str) -> list[tuple[str, str]]:
    """Every picture with every clip.

    Raises:
        UsageError: there is none, or picture and clip are swapped.
    """
    from mimic.files import local_path
    from mimic.video import VideoError, is_video

    if not _is_folder(picture) and not _is_folder(clip):
        try:
            is_swapped = is_video(local_path(picture)) and not is_video(local_path(clip))
        except (VideoError, OSError):
            is_swapped = False  # what is wrong with them is told by the checks
        if is_swapped:
            raise UsageError(f"{picture} is a video and {clip} a picture; the picture comes first")
    pictures = _files(picture, "picture") if _is_folder(picture) else [picture]
    clips = _files(clip, "video") if _is_folder(clip) else [clip]
    return [(one, other) for one in pictures for other in clips]


def _files(folder: str, kind: str) -> list[str]:
    """Pictures or clips in a folder, by content; others are named in a message.

    Raises:
        UsageError: it holds none.
    """
    import logging

    from mimic.files import local_path
    from mimic.video import VideoError, kind_of

    found: list[str] = []
    others: list[str] = []
    for path in sorted(local_path(folder).iterdir()):
        if path.name.startswith(".") or path.is_dir():
            continue
        try:
            is_wanted = path.suffix.lower() == ".npz" if kind == "video" else False
            is_wanted = is_wanted or kind_of(path) == kind
        except (VideoError, OSError):
            is_wanted = False
        (found if is_wanted else others).append(str(path))
    what = "pictures" if kind == "picture" else "videos"
    if not found:
        raise UsageError(f"the folder {folder} holds no {what}")
    if others:
        names = ", ".join(Path(path).name for path in others[:4]) + (", …" if len(others) > 4 else "")
        logging.getLogger("mimic").info("%s: left out, no %s: %s", folder, what, names)
    return found


def _is_folder(path: str) -> bool:
    from mimic.files import local_path

    return local_path(path).is_dir()


def seconds_of(option: str, text: str | None) -> float | None:
    """Read a time: seconds, m:ss or h:mm:ss.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    seconds = 0.0
    try:
        for part in text.split(":"):
            seconds = 60 * seconds + float(part)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise UsageError(f"{option} is {text}; expected seconds (12.5) or minutes and seconds (1:02.5)")
    return seconds
