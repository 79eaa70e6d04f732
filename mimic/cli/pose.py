"""`mimic pose`: find the poses in a video or picture, save them, draw them; convert files of poses."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mimic.cli.options import (
    PICTURE_SUFFIXES,
    Subparsers,
    UsageError,
    add_estimator_options,
    check_place,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mimic.video import VideoInfo
    from pose import PoseSequence
    from pose.adjust import Adjustment
    from pose.estimators import Estimator

POSE_SUFFIXES = (".npz", ".json")

log = logging.getLogger("mimic")


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "pose",
        parents=[shared],
        help="find the poses in a video or picture",
        description="Estimate whole-body poses (134 points), save them, and optionally draw them. Drawn "
        "skeletons (OpenPose, DWPose) are read from their colours; files of poses are converted.",
    )
    parser.add_argument(
        "input",
        type=Path,
        metavar="VIDEO|IMAGE|POSES",
        help="a video, a picture, or a file of poses (.npz, .json)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=".npz or .json of the poses (default: the input's name with .npz, in the current folder)",
    )
    parser.add_argument(
        "--overlay", type=Path, metavar="FILE", help="also draw the poses over the input: .mp4 or .png"
    )
    parser.add_argument(
        "--person",
        help="largest (default; of files of poses: all), center, all, or a number from 0, "
        "counted from the left",
    )
    add_estimator_options(parser)
    parser.add_argument(
        "--format", choices=("npz", "openpose", "coco"), help="of the poses (default: by the output's suffix)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace former poses")
    parser.add_argument(
        "--stride", type=int, default=1, metavar="N", help="keep every N-th frame (default: all)"
    )
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--smooth", type=int, default=1, metavar="N", help="smooth over N frames, an odd number"
    )
    parser.add_argument("--adjust", type=Path, metavar="FILE", help="YAML with corrections of the poses")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.files import local_path
    from mimic.results import PlainFiles, set_aside
    from mimic.video import is_video, probe, read_frames, read_image, write_image
    from pose import PoseSequence, load_estimator, smooth_pose
    from pose.adjust import adjust_pose
    from pose.drawings import DrawnSkeletons, are_skeleton_drawings
    from pose.presence import summarise_presence

    options.input = local_path(options.input)
    is_poses = options.input.suffix.lower() in POSE_SUFFIXES
    options.person = options.person or ("all" if is_poses else "largest")
    output = _output(options)
    _check(options, output)
    is_picture = not is_poses and not is_video(options.input)
    _check_overlay(options, output, is_picture=is_picture)
    for option, path in (("--output", output), ("--overlay", options.overlay)):
        check_place(option, path)
    adjustment = _adjustment(options)
    if is_poses:
        PoseSequence.load(options.input)  # told before it is hashed: a pipe would be waited for
    files = PlainFiles((output, *([options.overlay] if options.overlay is not None else [])))
    identity = _identity(options)
    if _is_there(files, identity) and not options.overwrite:
        log.info("kept, unchanged since it was made")
        print("\n".join(str(path) for path in files))
        return 0
    picture = read_image(options.input) if is_picture else None
    clip = None if is_picture or is_poses else probe(options.input)
    if is_poses:
        poses = _poses_of_file(options)
    elif are_skeleton_drawings([picture] if picture is not None else read_frames(options.input, info=clip)):
        log.info("the input shows drawn skeletons; their joints are read from the colours")
        poses = _poses_of(picture, clip, DrawnSkeletons(), options)
    else:
        estimator = load_estimator(options.estimator, weights=options.weights)
        poses = _poses_of(picture, clip, estimator, options)
    poses = smooth_pose(poses, window=options.smooth)
    if adjustment is not None:
        poses = adjust_pose(poses, adjustment)
    made_of = {"identity": identity, "overlay": None if options.overlay is None else options.overlay.name}
    poses = replace(poses, metadata={**poses.metadata, **made_of})
    output.parent.mkdir(parents=True, exist_ok=True)
    with set_aside(files, is_kept=not options.overwrite) as former:
        if options.overlay is not None:
            if picture is not None:
                write_image(options.overlay, _overlaid(picture, poses, 0))
            else:
                assert clip is not None
                _write_overlay(clip, poses, options)
        poses.save(output, format=options.format)
    if former is not None:
        log.info("the former result was made of other things and is kept as %s", next(iter(former)).name)
    log.info(_summary(poses))
    for sentence in summarise_presence(poses).sentences():
        log.info(sentence)
    print("\n".join(str(path) for path in files))
    return 0


def _output(options: argparse.Namespace) -> Path:
    """The file of the poses: as given, or the input's name in the current folder."""
    from mimic.files import local_path
    from mimic.names import made_safe

    if options.output is not None:
        return local_path(options.output)
    return Path(made_safe(options.input.stem) + (".npz" if options.format in (None, "npz") else ".json"))


def _identity(options: argparse.Namespace) -> str:
    """A hash of all that makes the poses: the input, the networks, the options."""
    from mimic.provenance import estimator_facts
    from mimic.results import identity_of
    from mimic.weights.sources import sha256

    names = ("person", "stride", "max_frames", "smooth", "format")
    return identity_of(
        {
            "input": sha256(options.input),
            "estimator": estimator_facts(options.estimator, options.weights),
            **{name: getattr(options, name) for name in names},
            **({} if options.adjust is None else {"adjust": sha256(options.adjust)}),
        }
    )


def _adjustment(options: argparse.Namespace) -> Adjustment | None:
    """The corrections of `--adjust`; the keys may be at the top level of the file or below `adjust`.

    Raises:
        ConfigError, PoseError: the file does not exist, is not YAML, or holds an invalid correction.
    """
    from mimic.config.loading import read_yaml
    from mimic.files import local_path
    from pose import PoseError
    from pose.adjust import Adjustment

    if options.adjust is None:
        return None
    options.adjust = local_path(options.adjust)
    content = read_yaml(options.adjust)
    try:
        return Adjustment.from_dict(content["adjust"] if list(content) == ["adjust"] else content)
    except PoseError as error:
        raise PoseError(f"{options.adjust}: {error}") from error


def _is_there(files: Iterable[Path], identity: str) -> bool:
    """Whether these poses are there already, made of the same things.

    Raises:
        ResultError: a file of one of the names is not ours.
    """
    from mimic.results import ResultError
    from pose import PoseError, PoseSequence

    output, *overlays = files
    there = [path for path in (output, *overlays) if os.path.lexists(path)]
    if not there:
        return False
    try:
        found = PoseSequence.load(output).metadata if output.is_file() else {}
    except PoseError:
        found = {}
    is_old = "estimator" in found  # of before poses had an identity
    foreign = [path for path in there if path != output and path.name != found.get("overlay")]
    if "identity" not in found and not is_old:
        foreign.insert(0, output)
    if foreign:
        raise ResultError(
            f"{foreign[0]} is there and is no result of this command; it is not replaced. Give another name "
            "with -o or --overlay, or move it away"
        )
    return found.get("identity") == identity and len(there) == 1 + len(overlays)


def _poses_of_file(options: argparse.Namespace) -> PoseSequence:
    """The poses of a file, of the frames and of the person that were asked for."""
    from pose import PoseSequence, follow_person

    poses = PoseSequence.load(options.input)
    poses = replace(poses[slice(0, None, options.stride)], fps=poses.fps / options.stride)
    return follow_person(poses[slice(0, options.max_frames)], options.person)


def _poses_of(
    picture: NDArray[np.uint8] | None,
    clip: VideoInfo | None,
    estimator: Estimator,
    options: argparse.Namespace,
) -> PoseSequence:
    from mimic.progress import progress_bar
    from mimic.video import read_frames
    from pose import follow_person

    if picture is not None:
        return follow_person(estimator.image(picture), options.person)
    assert clip is not None
    total = -(-clip.num_frames // options.stride)
    frames = read_frames(clip.path, stride=options.stride, max_frames=options.max_frames, info=clip)
    with progress_bar("poses", "frame", is_shown=not options.quiet) as show:
        return estimator.frames(
            frames,
            fps=float(clip.fps / options.stride),
            person=options.person,
            total=min(total, options.max_frames or total),
            progress=show,
        )


def _write_overlay(clip: VideoInfo, poses: PoseSequence, options: argparse.Namespace) -> None:
    """Read the clip again and write it with the poses drawn in, and with its sound."""
    from mimic.progress import progress_bar
    from mimic.video import VideoWriter, read_frames
    from mimic.video.audio import in_step

    fps = clip.fps / options.stride
    sound = None
    if clip.has_audio:
        seconds = float(len(poses) / fps)
        sound = in_step(clip.path, start_s=clip.start_s, source_s=seconds, result_s=seconds)
    frames = read_frames(clip.path, stride=options.stride, max_frames=len(poses), info=clip)
    with (
        VideoWriter(options.overlay, height=clip.height, width=clip.width, fps=fps, audio=sound) as writer,
        progress_bar("overlay", "frame", is_shown=not options.quiet) as show,
    ):
        for number, frame in enumerate(frames):
            writer.write(_overlaid(frame, poses, number))
            show(number + 1, len(poses))


def _overlaid(frame: NDArray[np.uint8], poses: PoseSequence, number: int) -> NDArray[np.uint8]:
    from pose.draw import overlay_frame

    assert poses.is_present is not None
    return overlay_frame(frame, poses.points[number], poses.scores[number], poses.is_present[number])


def _summary(poses: PoseSequence) -> str:
    from mimic.progress import counted
    from pose.skeletons import BODY

    assert poses.is_present is not None
    is_seen = (poses.scores[:, :, BODY].max(axis=2) > 0) & poses.is_present
    confidence = poses.scores[:, :, BODY][is_seen].mean() if is_seen.any() else 0.0
    most = int(is_seen.sum(axis=1).max(initial=0))  # places for people may be more than are taken at once
    people = "one person" if most <= 1 else f"up to {most} people"
    return (
        f"{counted(len(poses), 'frame')} of {poses.width}x{poses.height}, poses of {people}; somebody in "
        f"{int(is_seen.any(axis=1).sum())} of them, mean confidence of body joints {confidence:.2f}"
    )


def _check(options: argparse.Namespace, output: Path) -> None:
    """Refuse invalid options before anything is computed."""
    if options.stride < 1:
        raise UsageError(f"--stride is {options.stride}; expected 1 or more")
    if options.max_frames is not None and options.max_frames < 1:
        raise UsageError(f"--max-frames is {options.max_frames}; expected 1 or more")
    if options.smooth < 1 or options.smooth % 2 == 0:
        raise UsageError(f"--smooth is {options.smooth}; expected an odd number of frames: 1 (none), 3, 5, …")
    suffix = {"openpose": ".json", "coco": ".json", "npz": ".npz"}.get(options.format)
    if output.suffix.lower() not in ((".npz", ".json") if suffix is None else (suffix,)):
        raise UsageError(f"--output is {output}; poses are saved as {suffix or '.npz or .json'}")


def _check_overlay(options: argparse.Namespace, output: Path, *, is_picture: bool) -> None:
    """Refuse files that do not suit the input, or that are the input."""
    from mimic.video.formats import FORMATS

    if options.overlay is not None and options.input.suffix.lower() in POSE_SUFFIXES:
        raise UsageError(f"--overlay is {options.overlay}, but {options.input} holds poses and no picture")
    suffixes = PICTURE_SUFFIXES if is_picture else tuple(FORMATS)
    if options.overlay is not None and options.overlay.suffix.lower() not in suffixes:
        kind = "picture" if is_picture else "video"
        raise UsageError(
            f"--overlay is {options.overlay}; for a {kind} it must end in one of {', '.join(suffixes)}"
        )
    for option, path in (("--overlay", options.overlay), ("--output", output)):
        if path is not None and path.exists() and os.path.samefile(path, options.input):
            raise UsageError(f"{option} is {path}, the input itself; give it another name")
