"""`mimic pose`: the poses of a video or picture to a file, and drawn over it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimic.cli.commands import PICTURE_SUFFIXES, UsageError
from mimic.progress import progress_bar
from mimic.video import VideoInfo, VideoWriter, probe, read_frames, read_image, write_image
from mimic.video.audio import in_step
from mimic.video.write import FORMATS
from pose import PoseSequence, follow_person, load_estimator, smooth_pose
from pose.draw import overlay_frame
from pose.estimators import Estimator
from pose.skeletons import BODY

log = logging.getLogger("mimic")


def estimate(options: argparse.Namespace) -> int:
    """Find, save and draw as the options say."""
    is_picture = options.input.suffix.lower() in PICTURE_SUFFIXES
    _check(options, is_picture=is_picture)
    output = options.output or Path(options.input.with_suffix(".npz").name)
    picture, clip = None, None
    if is_picture:
        picture = read_image(options.input)
    else:
        clip = probe(options.input)
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
    """A second pass over the clip, one frame at a time; its sound comes along."""
    fps = clip.fps / options.stride
    sound = None
    if clip.has_audio:
        seconds = float(len(poses) / fps)
        sound = in_step(clip.path, start_s=clip.start_s, source_s=seconds, result_s=seconds)
    frames: Iterable[NDArray[np.uint8]] = read_frames(
        clip.path, stride=options.stride, max_frames=len(poses), info=clip
    )
    with (
        VideoWriter(options.overlay, height=clip.height, width=clip.width, fps=fps, audio=sound) as writer,
        progress_bar("overlay", "frame", is_shown=not options.quiet) as show,
    ):
        for number, frame in enumerate(frames):
            writer.write(_overlaid(frame, poses, number))
            show(number + 1, len(poses))


def _overlaid(frame: NDArray[np.uint8], poses: PoseSequence, number: int) -> NDArray[np.uint8]:
    assert poses.is_present is not None
    return overlay_frame(frame, poses.points[number], poses.scores[number], poses.is_present[number])


def _summary(poses: PoseSequence) -> str:
    assert poses.is_present is not None
    is_seen = (poses.scores[:, :, BODY].max(axis=2) > 0) & poses.is_present
    confidence = poses.scores[:, :, BODY][is_seen].mean() if is_seen.any() else 0.0
    people = "1 person" if poses.num_people == 1 else f"up to {poses.num_people} people"
    return (
        f"{len(poses)} frames of {poses.width}x{poses.height}, {people}; somebody in "
        f"{np.count_nonzero(is_seen.any(axis=1))} of them, mean confidence of body joints {confidence:.2f}"
    )


def _check(options: argparse.Namespace, *, is_picture: bool) -> None:
    """Say what does not go together before anything is computed."""
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
            f"--overlay is {options.overlay}; of a {kind} it ends in one of {', '.join(suffixes)}"
        )
    if options.overlay is not None and options.overlay.resolve() == options.input.resolve():
        raise UsageError(f"--overlay is {options.overlay}, the input itself; give it another name")
