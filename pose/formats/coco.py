"""COCO-WholeBody's JSON: 133 points as annotations of pictures.

`images` have id, height and width; `annotations` have an image_id and flat lists x, y, v: `keypoints` (17),
`foot_kpts` (6), `face_kpts` (68), `lefthand_kpts` and `righthand_kpts` (21 each). Annotators set v to 0 (not
labelled), 1 (hidden) or 2 (visible); networks write their score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose.formats.json_file import own_facts, positive_int, triples, write_json
from pose.skeletons import COCO_INDEX, LEFT_SHOULDER, NECK, RIGHT_SHOULDER, VISIBLE_ABOVE
from pose.text import shown
from pose.tracking import stack_people
from pose.types import FORMAT_NAME, FORMAT_VERSION, NUM_POINTS, PoseError, PoseSequence

PARTS = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}
HIDDEN_SCORE = 0.4  # of a point that is annotated as hidden

# Our point of each of COCO's 133; the neck has no place there.
_OURS = np.argsort(COCO_INDEX[np.arange(NUM_POINTS) != NECK])
_OURS = _OURS + (_OURS >= NECK)


def read_coco(
    content: Any,
    path: Path,
    *,
    fps: float | None = None,
    height: int | None = None,
    width: int | None = None,
) -> PoseSequence:
    """The poses of annotations or results; each picture is a frame, in the order of the file.

    Args:
        path: of the file, for messages.
        fps: frames per second; None takes what our own files say, else 25.
        height, width: the size of the pictures where the file does not say it, as lists of results do not.

    Raises:
        PoseError: the content is not of this form, its numbers are not finite, pictures differ in size, or
            there is no size.
    """
    if isinstance(content, list):
        content = {"images": [], "annotations": content}
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise PoseError(
            f"{path} is no pose file; expected OpenPose's people, or COCO-WholeBody's images and annotations"
        )
    ids, sizes = _images(content.get("images"), annotations, path, height, width)
    by_image: dict[Any, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {one: [] for one in ids}
    is_labelled = _is_labelled(annotations)
    for number, annotation in enumerate(annotations):
        image = annotation.get("image_id")
        if not isinstance(image, (int, str)) or image not in by_image:
            raise PoseError(f"{path}, annotation {number}: there is no image with the id {shown(image)}")
        points, scores = _read_person(annotation, f"{path}, annotation {number}", is_labelled)
        if (scores > 0).any():
            by_image[image].append((points / (sizes[1], sizes[0]), scores))
    frames = [
        (
            np.array([points for points, _ in people]).reshape(-1, NUM_POINTS, 2),
            np.array([scores for _, scores in people]).reshape(-1, NUM_POINTS),
        )
        for people in by_image.values()
    ]
    noted_fps, metadata = own_facts(content.get("info"))
    sequence = stack_people(frames, *sizes, noted_fps if fps is None else fps)
    sequence.metadata.update({**metadata, "format": "coco"})
    return sequence


def write_coco(sequence: PoseSequence, path: Path) -> None:
    """Write a picture for each frame and an annotation with scores for each person who is seen in it."""
    size = {"height": int(sequence.height), "width": int(sequence.width)}
    images = [{"id": i, "file_name": f"{i:06d}", **size} for i in range(len(sequence))]
    annotations = [
        {
            "id": number,
            "image_id": int(frame),
            "category_id": 1,
            **_write_person(
                sequence.points[frame, person] * (sequence.width, sequence.height),
                sequence.scores[frame, person],
            ),
        }
        for number, (frame, person) in enumerate(np.argwhere(sequence.is_seen))
    ]
    info = {"format": FORMAT_NAME, "version": FORMAT_VERSION, "fps": float(sequence.fps),
            "metadata": sequence.metadata}  # fmt: skip
    categories = [{"id": 1, "name": "person"}]
    write_json({"info": info, "images": images, "annotations": annotations, "categories": categories}, path)


def _images(
    images: Any, annotations: list[dict[str, Any]], path: Path, height: int | None, width: int | None
) -> tuple[list[Any], tuple[int, int]]:
    """The ids of the pictures and their one size."""
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise PoseError(f"{path}: images is no list of pictures with id, height and width")
    if not images:
        if height is None or width is None:
            raise PoseError(f"{path} does not say the size of its pictures; give it: height=…, width=…")
        ids = sorted({one["image_id"] for one in annotations if isinstance(one.get("image_id"), int)})
        return list(ids), (positive_int(height, "height"), positive_int(width, "width"))
    sizes = {
        (
            positive_int(image.get("height"), f"{path}: the height of an image"),
            positive_int(image.get("width"), f"{path}: the width of an image"),
        )
        for image in images
    }
    if len(sizes) > 1:
        raise PoseError(
            f"{path} has pictures of {len(sizes)} sizes; frames of one clip have one. Split the file by size"
        )
    ids = [image.get("id") for image in images]
    if not all(isinstance(one, (int, str)) for one in ids) or len(set(ids)) != len(ids):
        raise PoseError(f"{path}: each image needs a different id")
    return ids, sizes.pop()


def _is_labelled(annotations: list[dict[str, Any]]) -> bool:
    """Whether people set the values v: nothing but 0, 1 and 2, and some 2."""
    lists = (annotation.get("keypoints") for annotation in annotations)
    values = [value for found in lists if isinstance(found, list) for value in found[2::3]]
    return 2 in values and all(value in (0, 1, 2) for value in values)


def _read_person(
    annotation: dict[str, Any], where: str, is_labelled: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    numbers = np.zeros((sum(PARTS.values()), 3))
    start = 0
    for name, count in PARTS.items():
        part = triples(annotation.get(name), (count,), f"{where}: {name}")
        if part is not None:
            if is_labelled and name in ("keypoints", "foot_kpts"):
                part[:, 2] = np.array([0.0, HIDDEN_SCORE, 1.0])[
                    np.clip(np.rint(part[:, 2]), 0, 2).astype(int)
                ]
            elif is_labelled:
                part[:, 2] = np.clip(part[:, 2], 0, 1)
            numbers[start : start + count] = part
        start += count
    ours = numbers[COCO_INDEX]
    shoulders = ours[[LEFT_SHOULDER, RIGHT_SHOULDER]]
    ours[NECK, :2] = shoulders[:, :2].mean(axis=0)
    ours[NECK, 2] = shoulders[:, 2].min() if shoulders[:, 2].min() > VISIBLE_ABOVE else 0.0
    return ours[:, :2], ours[:, 2]


def _write_person(pixels: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, Any]:
    numbers = np.concatenate([pixels, scores[:, None]], axis=1)[_OURS]
    person: dict[str, Any] = {}
    start = 0
    for name, count in PARTS.items():
        person[name] = [float(number) for number in numbers[start : start + count].ravel()]
        start += count
    seen = numbers[numbers[:, 2] > VISIBLE_ABOVE, :2] if (scores > VISIBLE_ABOVE).any() else numbers[:, :2]
    low, high = seen.min(axis=0), seen.max(axis=0)
    box = [float(number) for number in (*low, *(high - low))]
    valid = {
        "lefthand_valid": "lefthand_kpts",
        "righthand_valid": "righthand_kpts",
        "face_valid": "face_kpts",
    }
    flags = {flag: any(score > 0 for score in person[part][2::3]) for flag, part in valid.items()}
    return {**person, **flags, "foot_valid": True, "bbox": box, "area": box[2] * box[3], "iscrowd": 0,
            "num_keypoints": sum(score > VISIBLE_ABOVE for score in person["keypoints"][2::3]),
            "score": float(scores.mean())}  # fmt: skip
