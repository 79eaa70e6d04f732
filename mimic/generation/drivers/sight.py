"""What a driving clip shows: people, drawn skeletons, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mimic.config import CaseSettings
from mimic.generation.drivers.base import Picture, used_frames
from mimic.video import VideoInfo, probe, read_frames
from pose import PoseError
from pose.drawings import UNREADABLE, DrawnSkeletons, are_skeleton_drawings
from pose.estimators import Estimator

_FRAMES_LOOKED_AT = 12


def estimator_for(clip: VideoInfo, estimator: Callable[[], Estimator]) -> Estimator:
    """Return what finds the poses of a clip: the estimator, or a reader of drawings for drawn skeletons."""
    is_drawn = are_skeleton_drawings(read_frames(clip.path, info=clip))
    return DrawnSkeletons() if is_drawn else estimator()


def check_shows_somebody(path: Path, estimator: Callable[[], Estimator], settings: CaseSettings) -> None:
    """Look at frames spread over the clip until one shows somebody; usually the first does.

    Raises:
        PoseError: nobody is seen in any of them, or drawn skeletons cannot be read.
    """
    clip = probe(path)
    found = estimator_for(clip, estimator)
    looked_at = 0
    for frame in _spread_frames(clip, settings):
        looked_at += 1
        if found.image(frame).num_people:
            return
    if isinstance(found, DrawnSkeletons):
        raise PoseError(f"{path}: {UNREADABLE}")
    raise PoseError(
        f"{path}: nobody is found in {looked_at} frames looked at, spread over the clip; use a clip that "
        "shows a person, whole and large enough, or cut it to the part that does"
    )


def _spread_frames(clip: VideoInfo, settings: CaseSettings) -> Iterator[Picture]:
    """Frames at equal distances over the part of the clip that is used, the first one included."""
    used = used_frames(clip.num_frames, clip.fps, settings, name=str(clip.path))
    step = max(1, used.count // _FRAMES_LOOKED_AT)
    count = min(-(-used.count // step), _FRAMES_LOOKED_AT)
    return read_frames(
        clip.path, first_frame=used.first, stride=used.stride * step, max_frames=count, info=clip
    )
