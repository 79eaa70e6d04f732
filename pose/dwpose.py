"""DWPose: 133 whole-body points with the two original ONNX files.

Yang et al., "Effective Whole-body Pose Estimation with Two-stages Distillation", 2023, arXiv 2307.15880:
a YOLOX-L finds people, an RTMPose with SimCC heads finds the points of each.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose import simcc
from pose.detector import PersonDetector
from pose.estimators import Estimator, Progress, checked_frames, checked_picture
from pose.session import Network, available_cores
from pose.skeletons import COCO_INDEX
from pose.tracking import Followed, check_choice, stack_people
from pose.types import NUM_POINTS, PoseError, PoseSequence

DETECTOR_FILE = "yolox_l.onnx"
POSE_FILE = "dw-ll_ucoco_384.onnx"
FOLDER_VARIABLE = "MIMIC_DWPOSE"

MAX_BATCH = 8
MIN_SHOULDER_SCORE = 0.3
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6  # COCO

Frame = tuple[NDArray[np.float64], NDArray[np.float64]]  # points P x K x 2 as fractions, scores P x K


class EstimatorWeightsError(PoseError, FileNotFoundError):
    """The DWPose files are not where they were looked for."""


def __getattr__(name: str) -> type[EstimatorWeightsError]:
    if name != "WeightsError":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "pose.dwpose.WeightsError is now EstimatorWeightsError; the old name goes with the next release",
        FutureWarning,
        stacklevel=2,
    )
    return EstimatorWeightsError


@dataclass(frozen=True)
class WeightFiles:
    detector: Path
    pose: Path


class DWPose(Estimator):
    """Whole-body poses with DWPose.

    Args:
        detector, pose: the files `yolox_l.onnx` and `dw-ll_ucoco_384.onnx`, or exports of the same form.
        device, num_threads: see `pose.session.Network`.
        whole_image_if_nobody: where the detector finds nobody, take the whole picture as one person's box,
            as the released MimicMotion does; otherwise nobody is there.
    """

    name = "dwpose"

    def __init__(
        self,
        detector: str | Path,
        pose: str | Path,
        *,
        device: str = "auto",
        num_threads: int | None = None,
        whole_image_if_nobody: bool = False,
    ) -> None:
        cores = num_threads or available_cores()
        self.detector = PersonDetector(detector, device=device, num_threads=cores)
        self.network = Network(pose, device=device, num_threads=cores)
        self.whole_image_if_nobody = whole_image_if_nobody
        self.num_workers = min(4, cores)
        self.size_HW = (int(self.network.input_shape[1]), int(self.network.input_shape[2]))

    def image(self, picture: NDArray[np.uint8]) -> PoseSequence:
        picture = checked_picture(picture)
        with ThreadPoolExecutor(self.num_workers) as workers:
            people = self._people([picture], workers)
        return replace(stack_people(people, *picture.shape[:2]), metadata={"estimator": self.name})

    def frames(
        self,
        pictures: Iterable[NDArray[np.uint8]],
        *,
        fps: float,
        person: Followed = "largest",
        total: int | None = None,
        progress: Progress | None = None,
    ) -> PoseSequence:
        person = check_choice(person)
        found: list[Frame] = []
        height = width = 0
        frames = checked_frames(pictures)
        with ThreadPoolExecutor(self.num_workers) as workers:
            while chunk := list(islice(frames, 2 * self.num_workers)):
                height, width = chunk[0].shape[:2]
                for people in self._people(chunk, workers):
                    found.append(people)
                    if progress is not None:
                        progress(len(found), total)
        return self.follow(stack_people(found, height, width, fps), person)

    def _people(self, pictures: list[NDArray[np.uint8]], workers: ThreadPoolExecutor) -> list[Frame]:
        """Everyone in each of some pictures, the surest first."""
        boxes = list(workers.map(self._boxes, pictures))
        tasks = [(picture, box) for picture, found in zip(pictures, boxes) for box in found]
        regions = [simcc.crop_region(box, self.size_HW) for _, box in tasks]
        keypoints = self._keypoints([picture for picture, _ in tasks], regions, workers)
        people: list[Frame] = []
        for picture, found in zip(pictures, boxes):
            size = np.array([picture.shape[1], picture.shape[0]], dtype=np.float64)
            own = list(islice(keypoints, len(found)))
            points = np.array([points for points, _ in own]).reshape(-1, NUM_POINTS, 2)
            scores = np.array([scores for _, scores in own]).reshape(-1, NUM_POINTS)
            people.append((points / size, scores))
        return people

    def _boxes(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        boxes = self.detector(picture)
        if len(boxes) == 0 and self.whole_image_if_nobody:
            return np.array([[0.0, 0.0, picture.shape[1], picture.shape[0]]])
        return boxes

    def _keypoints(
        self,
        pictures: list[NDArray[np.uint8]],
        regions: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
        workers: ThreadPoolExecutor,
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The 134 points (pixels) and scores of each region, in order.

        Regions are batched where the network takes a batch; where not, each is a task for the worker threads.
        """
        size = 1 if self.network.has_fixed_batch else MAX_BATCH
        starts = range(0, len(regions), size)

        def run(start: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
            part = slice(start, start + size)
            return self._keypoints_of_batch(pictures[part], regions[part])

        batches = workers.map(run, starts) if self.network.has_fixed_batch else map(run, starts)
        return (person for batch in batches for person in batch)

    def _keypoints_of_batch(
        self,
        pictures: list[NDArray[np.uint8]],
        regions: list[tuple[NDArray[np.float64], NDArray[np.float64]]],
    ) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        crops = [simcc.crop(picture, *region, self.size_HW) for picture, region in zip(pictures, regions)]
        outputs = self.network(simcc.normalise(np.stack(crops)))
        centres, sizes = (np.stack(column) for column in zip(*regions))
        points, scores = simcc.decode(outputs["simcc_x"], outputs["simcc_y"], centres, sizes, self.size_HW)
        return [to_openpose(p, s) for p, s in zip(points, scores)]


def to_openpose(
    points: NDArray[np.float64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COCO-WholeBody's 133 points and scores as our 134: OpenPose's body order, and a neck.

    The neck is the middle of the shoulders; its score is 1 when both shoulders score above 0.3, else 0.
    """
    shoulders = [LEFT_SHOULDER, RIGHT_SHOULDER]
    ours, our_scores = points[COCO_INDEX], scores[COCO_INDEX].astype(np.float64)
    ours[1] = points[shoulders].mean(axis=0)
    our_scores[1] = float((scores[shoulders] > MIN_SHOULDER_SCORE).all())
    return ours, our_scores


def find_weights(folder: str | os.PathLike[str] | None = None) -> WeightFiles:
    """Where the DWPose files are: `folder`, else $MIMIC_DWPOSE, else ~/.cache/mimic/dwpose ($XDG_CACHE_HOME).

    Raises:
        EstimatorWeightsError: a file is missing there.
    """
    place = weights_folder(folder)
    files = WeightFiles(place / DETECTOR_FILE, place / POSE_FILE)
    missing = [file.name for file in (files.detector, files.pose) if not file.is_file()]
    if missing:
        raise EstimatorWeightsError(
            f"DWPose needs {' and '.join(missing)} in {place}, and there is no such file. Get them with "
            f"`mimic download dwpose`, or name the folder that has them (weights= or ${FOLDER_VARIABLE})"
        )
    return files


def has_weights() -> bool:
    """Whether `find_weights()` finds the files.

    Raises:
        EstimatorWeightsError: $MIMIC_DWPOSE names a folder that lacks them (it is set, so DWPose is wanted).
    """
    try:
        find_weights()
    except EstimatorWeightsError:
        if os.environ.get(FOLDER_VARIABLE):
            raise
        return False
    return True


def weights_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder in which `find_weights` looks, whether it is there or not."""
    named = folder or os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(os.path.expanduser(named))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if cache.startswith("~"):  # this user id has no home folder, as in some containers
        cache = os.path.abspath(os.environ.get("TMPDIR") or "/tmp")  # perhaps read-only as well
    return Path(cache) / "mimic" / "dwpose"
