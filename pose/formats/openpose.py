"""OpenPose's JSON, as OpenPose itself and ComfyUI's DWPose nodes write it.

ComfyUI's layout is a list of frames, each `{"people": […], "canvas_height": H, "canvas_width": W}`; a person
has flat lists x, y, score of 18 body joints, 21 points of each hand and 68 or 70 of the face, in pixels of
the canvas (or as fractions of it), null where a part is missing. OpenPose itself writes one file for each
frame, with 25 body joints (feet included) and no size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.formats.json_file import OWN_KEY, own_facts, positive_int, read_json, triples, write_json
from pose.skeletons import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, VISIBLE_ABOVE
from pose.text import shown
from pose.tracking import stack_people
from pose.types import NUM_POINTS, PoseError, PoseSequence

# Where the joints of OpenPose's 25 lie among ours: the middle of the hips has no place.
_BODY_25 = np.array([*range(8), -1, *range(8, 18), *range(18, 24)])
_LARGEST_FRACTION = 2.0  # coordinates beyond are pixels
_PARTS = {
    "pose_keypoints_2d": (BODY, (18, 25)),
    "foot_keypoints_2d": (FEET, (6,)),
    "face_keypoints_2d": (FACE, (68, 70)),
    "hand_left_keypoints_2d": (LEFT_HAND, (21,)),
    "hand_right_keypoints_2d": (RIGHT_HAND, (21,)),
}


def is_openpose(content: Any) -> bool:
    """Whether a JSON file's content is a frame, or a list of frames, with people."""
    frame = content[0] if isinstance(content, list) and content else content
    return isinstance(frame, dict) and "people" in frame


def read_openpose(
    content: Any,
    path: Path,
    *,
    fps: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> PoseSequence:
    """The poses of one frame or of a list of frames.

    Args:
        path: of the file, for messages.
        fps: frames per second; None takes what our own files say, else 25.
        height, width: size of the frames in pixels where the file does not say it.

    Raises:
        PoseError: the content is not of this form, its numbers are not finite, or there is no size.
    """
    frames = content if isinstance(content, list) else [content]
    size = _size(frames[0], path, height, width)
    found = []
    for number, frame in enumerate(frames):
        people = frame.get("people") if isinstance(frame, dict) else None
        if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
            raise PoseError(f"{path}, frame {number}: expected a list of people")
        named = frame.get("canvas_height", size[0]), frame.get("canvas_width", size[1])
        if named != size:
            raise PoseError(
                f"{path}, frame {number} is {shown(named[1])}x{shown(named[0])}, the first "
                f"{size[1]}x{size[0]}; frames of one clip have one size"
            )
        read = [
            _read_person(person, f"{path}, frame {number}, person {i}") for i, person in enumerate(people)
        ]
        read = [(points, scores) for points, scores in read if (scores > 0).any()]
        found.append(
            (
                np.array([points for points, _ in read]).reshape(-1, NUM_POINTS, 2),
                np.array([scores for _, scores in read]).reshape(-1, NUM_POINTS),
            )
        )
    largest = max((np.abs(points[scores > 0]).max() for points, scores in found if len(points)), default=0.0)
    if largest > _LARGEST_FRACTION:
        found = [(points / (size[1], size[0]), scores) for points, scores in found]
    noted_fps, metadata = own_facts(frames[0].get(OWN_KEY))
    sequence = stack_people(found, *size, noted_fps if fps is None else fps)
    sequence.metadata.update({**metadata, "format": "openpose"})
    return sequence


def read_openpose_folder(folder: Path, **given: Any) -> PoseSequence:
    """The poses of a folder with one file for each frame, in the order of their names.

    Raises:
        PoseError: there is no such file, or as `read_openpose`.
    """
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise PoseError(f"{folder} holds no .json file; expected one for each frame, as OpenPose writes them")
    contents = [read_json(path) for path in paths]
    frames = [
        content[0] if isinstance(content, list) and len(content) == 1 else content for content in contents
    ]
    for path, frame in zip(paths, frames):
        if not is_openpose([frame]):
            raise PoseError(f"{path} is no frame of OpenPose: it has no people")
    return read_openpose(frames, folder, **given)


def write_openpose(sequence: PoseSequence, path: Path) -> None:
    """Write a list of frames in ComfyUI's layout; see `openpose_frames`."""
    write_json(openpose_frames(sequence), path)


def openpose_frames(sequence: PoseSequence) -> list[dict[str, Any]]:
    """Return a list of frames in ComfyUI's layout.

    Points with a score above 0.3 get a score of 1, for its nodes drop all others; ours are in
    `scores_134`, the feet in `foot_keypoints_2d`, frame rate and metadata in the first frame's `mimic`. Other
    programs ignore these.
    """
    frames: list[dict[str, Any]] = []
    for points, scores, present in zip(sequence.points, sequence.scores, sequence.is_seen):
        people = [
            _write_person(one * (sequence.width, sequence.height), surety)
            for one, surety in zip(points[present], scores[present])
        ]
        size = {"canvas_height": int(sequence.height), "canvas_width": int(sequence.width)}
        own = {} if frames else {OWN_KEY: {"fps": float(sequence.fps), "metadata": sequence.metadata}}
        frames.append({"people": people, **size, **own})
    return frames


def _size(frame: Any, path: Path, height: int | None, width: int | None) -> tuple[int, int]:
    named = frame if isinstance(frame, dict) else {}
    sizes = named.get("canvas_height", height), named.get("canvas_width", width)
    if None in sizes:
        raise PoseError(f"{path} does not say the size of its frames; give it: height=…, width=…")
    return positive_int(sizes[0], f"{path}: the height"), positive_int(sizes[1], f"{path}: the width")


def _read_person(person: dict[str, Any], where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points, scores = np.zeros((NUM_POINTS, 2)), np.zeros(NUM_POINTS)
    for name, (part, counts) in _PARTS.items():
        numbers = triples(person.get(name), counts, f"{where}: {name}")
        if numbers is None:
            continue
        if name == "pose_keypoints_2d" and len(numbers) == 25:
            ours = _BODY_25[_BODY_25 >= 0]
            numbers = numbers[_BODY_25 >= 0]
            points[ours], scores[ours] = numbers[:, :2], numbers[:, 2]
        else:
            count = part.stop - part.start  # of 70 points of a face the pupils are left out
            points[part], scores[part] = numbers[:count, :2], numbers[:count, 2]
    own = person.get("scores_134")
    if isinstance(own, list) and len(own) == NUM_POINTS:
        triple = triples(
            [number for score in own for number in (0, 0, score)], (NUM_POINTS,), f"{where}: scores"
        )
        assert triple is not None
        is_removed = (scores == 0) & (triple[:, 2] > 0)  # by a program that knows only its own scores
        scores = np.where(is_removed, 0.0, triple[:, 2])
    return points, scores


def _write_person(pixels: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, Any]:
    told = np.where(scores > VISIBLE_ABOVE, 1.0, np.minimum(scores, VISIBLE_ABOVE))
    numbers = np.concatenate([pixels, told[:, None]], axis=1)
    person: dict[str, Any] = {}
    for name, (part, _) in _PARTS.items():
        is_missing = name != "pose_keypoints_2d" and not (scores[part] > 0).any()
        person[name] = None if is_missing else [float(number) for number in numbers[part].ravel()]
    return {**person, "scores_134": [float(score) for score in scores]}
