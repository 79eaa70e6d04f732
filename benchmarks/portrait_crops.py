"""How often is somebody found in small portraits? People of real pictures, cropped at shoulders and chest.

    python -m benchmarks.portrait_crops FOLDER [--annotations COCO_WHOLEBODY.json]

Takes the pictures of a folder and of its subfolders, and of clips the first frame. People are those of the
annotations where these know the picture, otherwise those whom the estimator finds in the whole picture.
Crops whose shorter side is below 40 pixels are left out. A person is found when some nose lies within a
fifth of the crop's side of the true one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose import load_estimator
from pose.estimators import Estimator
from pose.skeletons import LEFT_SHOULDER, NOSE, RIGHT_SHOULDER
from pose.video import VideoError, VideoReader

Picture = NDArray[np.uint8]
PICTURES = (".jpg", ".jpeg", ".png")
CLIPS = (".gif", ".mp4", ".avi", ".mkv")
CROPS = {
    "shoulders": (1.1, 0.5),
    "chest": (1.1, 1.3),
}  # breadths of the shoulders: above the nose, below the neck
SIDES = 0.9  # breadths of the shoulders to either side of the neck
MIN_SIDE = 40  # pixels
MIN_BREADTH = 0.7  # distances from nose to neck: people seen from the side are not narrower than that
REACH = 0.2  # of the crop's longer side
SMALL = 123  # pixels of the longer side; the table separates crops up to here


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--annotations", type=Path, help="COCO-WholeBody JSON of some of the pictures")
    parser.add_argument("--missed", type=Path, help="folder for the crops in which nobody is found")
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    estimator = load_estimator("blazepose", device="cpu", num_threads=1)
    annotated = read_annotations(arguments.annotations) if arguments.annotations else {}
    counts = {(kind, small): [0, 0] for kind in CROPS for small in (True, False)}
    for name, picture in read_pictures(arguments.folder):
        people = annotated.get(name.name)
        if people is None:
            people = estimated_people(estimator, picture)
        for i, person in enumerate(people):
            for kind, (crop, nose) in crops(picture, person).items():
                is_found = finds(estimator, crop, nose)
                count = counts[kind, max(crop.shape[:2]) <= SMALL]
                count[0] += is_found
                count[1] += 1
                if not is_found and arguments.missed:
                    arguments.missed.mkdir(parents=True, exist_ok=True)
                    path = arguments.missed / f"{name.stem}-{i}-{kind}.png"
                    cv2.imwrite(str(path), cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    for (kind, small), (found, total) in counts.items():
        print(f"{kind}, {'up to' if small else 'above'} {SMALL} pixels: {found} of {total}")
    found, total = np.sum(list(counts.values()), axis=0)
    print(f"all: {found} of {total}, {found / max(total, 1):.0%}")


def read_pictures(folder: Path) -> Iterator[tuple[Path, Picture]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in PICTURES:
            image = cv2.imread(str(path))
            if image is not None:
                yield path, np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        elif path.suffix.lower() in CLIPS:
            try:
                yield path, next(iter(VideoReader(path, max_frames=1)))
            except (VideoError, StopIteration):
                continue


def read_annotations(path: Path) -> dict[str, list[NDArray[np.float64]]]:
    """Nose, left and right shoulder ``3 x 2`` in pixels of the people in each picture who have all three."""
    document = json.loads(path.read_text())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    people: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names.values()}
    for annotation in document["annotations"]:
        points = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)[[0, 5, 6]]
        if (points[:, 2] > 0).all():
            people[names[annotation["image_id"]]].append(points[:, :2])
    return people


def estimated_people(estimator: Estimator, picture: Picture) -> list[NDArray[np.float64]]:
    """Nose and shoulders of the people whom the estimator finds."""
    poses = estimator.image(picture)
    chosen = [NOSE, LEFT_SHOULDER, RIGHT_SHOULDER]
    size = np.array([poses.width, poses.height])
    sure = poses.scores[0][:, chosen].min(axis=1) > 0.5
    return list(poses.points[0][sure][:, chosen] * size)


def crops(picture: Picture, person: NDArray[np.float64]) -> dict[str, tuple[Picture, NDArray[np.float64]]]:
    """The crops of a person, and where the nose is in each."""
    nose, neck = person[0], (person[1] + person[2]) / 2
    breadth = float(np.linalg.norm(person[1] - person[2]))
    breadth = max(breadth, MIN_BREADTH * float(np.linalg.norm(nose - neck)))
    height, width = picture.shape[:2]
    found = {}
    for kind, (above, below) in CROPS.items():
        low = np.array([neck[0] - SIDES * breadth, nose[1] - above * breadth])
        high = np.array([neck[0] + SIDES * breadth, neck[1] + below * breadth])
        left, top = np.clip(low, 0, [width, height]).astype(int)
        right, bottom = np.clip(high, 0, [width, height]).astype(int)
        crop = picture[top:bottom, left:right]
        if min(crop.shape[:2]) >= MIN_SIDE:
            found[kind] = (np.ascontiguousarray(crop), nose - [left, top])
    return found


def finds(estimator: Estimator, crop: Picture, nose: NDArray[np.float64]) -> bool:
    """Whether somebody's nose is where the person's is."""
    poses = estimator.image(crop)
    noses = poses.points[0, :, NOSE] * [poses.width, poses.height]
    is_seen = poses.scores[0, :, NOSE] > 0
    distances = np.linalg.norm(noses - nose, axis=1)[is_seen]
    return bool((distances < REACH * max(crop.shape[:2])).any())


if __name__ == "__main__":
    main()
