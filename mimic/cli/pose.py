"""`mimic pose`: find the poses in a video or picture, save them, and draw them over it."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mimic.cli.options import PICTURE_SUFFIXES, Subparsers, UsageError, add_estimator_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mimic.video import VideoInfo
    from pose import PoseSequence
    from pose.estimators import Estimator

log = logging.getLogger("mimic")


def add(subparsers: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "pose",
        parents=[shared],
        help="find the poses in a video or picture",
        description="Estimate whole-body poses (134 points), save them, and optionally draw them.",
    )
    parser.add_argument("input", type=Path, metavar="VIDEO|IMAGE")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE.npz",
        help="default: the input's name in the current folder",
    )
    parser.add_argument(
        "--overlay", type=Path, metavar="FILE", help="also draw the poses over the input: .mp4 or .png"
    )
    parser.add_argument(
        "--person",
        default="largest",
        help="largest (default), center, all, or a number counted from the left",
    )
    add_estimator_options(parser)
    parser.add_argument("--stride", type=int, default=1, help="keep every n-th frame (default: all)")
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--smooth", type=int, default=1, metavar="N", help="smooth over N frames, an odd number"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from mimic.video import probe, read_image, write_image
    from pose import follow_person, load_estimator, smooth_pose

    is_picture = options.input.suffix.lower() in PICTURE_SUFFIXES
    _check(options, is_picture=is_picture)
    output = options.output or Path(options.input.with_suffix(".npz").name)
    picture = read_image(options.input) if is_picture else None
    clip = None if is_picture else probe(options.input)
    estimator = load_estimator(options.estimator, weights=options.weights)
    if picture is not None:
        poses = follow_person(estimator.image(picture), options.person)
    else:
        assert clip is not None
        poses = _poses_of(clip, estimator, options)
    poses = smooth_pose(poses, window=options.smooth)
    output.parent.mkdir(parents=True, exist_ok=True)
    poses.save(output)
    log.info(_summary(poses))
    print(output)
    if options.overlay is not None:
        if picture is not None:
            write_image(options.overlay, _overlaid(picture, poses, 0))
        else:
            assert clip is not None
            _write_overlay(clip, poses, options)
        print(options.overlay)
    return 0


def _poses_of(clip: VideoInfo, estimator: Estimator, options: argparse.Namespace) -> PoseSequence:
    from mimic.progress import progress_bar
    from mimic.video import read_frames

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
    from pose.skeletons import BODY

    assert poses.is_present is not None
    is_seen = (poses.scores[:, :, BODY].max(axis=2) > 0) & poses.is_present
    confidence = poses.scores[:, :, BODY][is_seen].mean() if is_seen.any() else 0.0
    people = "1 person" if poses.num_people == 1 else f"up to {poses.num_people} people"
    return (
        f"{len(poses)} frames of {poses.width}x{poses.height}, {people}; somebody in "
        f"{int(is_seen.any(axis=1).sum())} of them, mean confidence of body joints {confidence:.2f}"
    )


def _check(options: argparse.Namespace, *, is_picture: bool) -> None:
    """Refuse invalid options before anything is computed."""
    from mimic.video.write import FORMATS

    if options.stride < 1:
        raise UsageError(f"--stride is {options.stride}; expected 1 or more")
    if options.max_frames is not None and options.max_frames < 1:
        raise UsageError(f"--max-frames is {options.max_frames}; expected 1 or more")
    if options.smooth < 1 or options.smooth % 2 == 0:
        raise UsageError(f"--smooth is {options.smooth}; expected an odd number of frames: 1 (none), 3, 5, …")
    if options.output is not None and options.output.suffix != ".npz":
        raise UsageError(f"--output is {options.output}; poses are saved as .npz")
    suffixes = PICTURE_SUFFIXES if is_picture else tuple(FORMATS)
    if options.overlay is not None and options.overlay.suffix.lower() not in suffixes:
        kind = "picture" if is_picture else "video"
        raise UsageError(
            f"--overlay is {options.overlay}; for a {kind} it must end in one of {', '.join(suffixes)}"
        )
    if options.overlay is not None and options.overlay.resolve() == options.input.resolve():
        raise UsageError(f"--overlay is {options.overlay}, the input itself; give it another name")
