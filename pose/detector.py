"""People in a picture as boxes: YOLOX.

YOLOX (Ge et al. 2021, arXiv 2107.08430), as exported with raw outputs: for each of three grids the offset
from the cell, log size, objectness and 80 class probabilities.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pose.session import Network

STRIDES = (8, 16, 32)
MIN_SCORE = 0.1  # below this a box takes no part in the suppression
MAX_OVERLAP = 0.45
MIN_PERSON_SCORE = 0.3
PERSON = 0  # COCO class


class PersonDetector:
    """Boxes of people with the original `yolox_l.onnx`, or any YOLOX export of that form."""

    def __init__(self, path: str | Path, *, device: str = "auto", num_threads: int | None = None) -> None:
        self.network = Network(path, device=device, num_threads=num_threads)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Boxes of the people in a picture ``H x W x 3``, ``N x 4`` (x0, y0, x1, y1) in pixels.

        Best first; not clipped to the picture.
        """
        return people(self.detect(picture))

    def detect(self, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Things of every class, ``N x 6``: box, score, class; by class, then best first."""
        size_HW = (int(self.network.input_shape[1]), int(self.network.input_shape[2]))
        image, ratio = letterbox(picture, size_HW)
        (output,) = self.network(image.astype(np.float32).transpose(2, 0, 1)[None]).values()
        boxes, class_scores = decode(output[0], size_HW)
        return suppress_by_class(boxes / ratio, class_scores)


def people(detections: NDArray[np.float64]) -> NDArray[np.float64]:
    """The boxes ``N x 4`` of persons with a score above 0.3, from `N x 6` detections."""
    is_person = (detections[:, 5] == PERSON) & (detections[:, 4] > MIN_PERSON_SCORE)
    return detections[is_person, :4]


def letterbox(picture: NDArray[np.uint8], size_HW: tuple[int, int]) -> tuple[NDArray[np.uint8], float]:
    """The picture scaled to fit, at the top left of a grey canvas; and the scale."""
    height, width = picture.shape[:2]
    ratio = min(size_HW[0] / height, size_HW[1] / width)
    new_height, new_width = int(height * ratio), int(width * ratio)
    canvas = np.full((*size_HW, 3), 114, dtype=np.uint8)
    canvas[:new_height, :new_width] = cv2.resize(
        picture, (max(new_width, 1), max(new_height, 1)), interpolation=cv2.INTER_LINEAR
    )[:new_height, :new_width]
    return canvas, ratio


def decode(
    output: NDArray[np.float32], size_HW: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Raw rows ``A x (5 + classes)`` as boxes ``A x 4`` in input pixels and scores ``A x classes``."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = size_HW[0] // stride, size_HW[1] // stride
        y, x = np.mgrid[:rows, :columns]
        cells.append(np.stack([x.ravel(), y.ravel()], axis=1))
        strides.append(np.full((rows * columns, 1), stride))
    raw = output.astype(np.float64)
    stride_A1 = np.concatenate(strides)
    centre = (raw[:, :2] + np.concatenate(cells)) * stride_A1
    half = np.exp(raw[:, 2:4]) * stride_A1 / 2
    return np.concatenate([centre - half, centre + half], axis=1), raw[:, 4:5] * raw[:, 5:]


def suppress_by_class(boxes: NDArray[np.float64], class_scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Non-maximum suppression in each class apart: ``N x 6`` rows of box, score, class."""
    found = []
    for index in np.flatnonzero((class_scores > MIN_SCORE).any(axis=0)):
        candidates = np.flatnonzero(class_scores[:, index] > MIN_SCORE)
        scores = class_scores[candidates, index]
        keep = suppress(boxes[candidates], scores, MAX_OVERLAP)
        labels = np.full((len(keep), 1), float(index))
        found.append(np.concatenate([boxes[candidates[keep]], scores[keep, None], labels], axis=1))
    return np.concatenate(found) if found else np.zeros((0, 6))


def suppress(
    boxes: NDArray[np.float64], scores: NDArray[np.float64], max_overlap: float
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression: indices of the boxes that stay, best first.

    The sides of a box count with one pixel more, as in the original detection code of R-CNN.
    """
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0 + 1) * (y1 - y0 + 1)
    order = np.argsort(-scores, kind="stable")
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        width = np.maximum(0.0, np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + 1)
        height = np.maximum(0.0, np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + 1)
        shared = width * height
        order = rest[shared / (areas[best] + areas[rest] - shared) <= max_overlap]
    return np.array(keep, dtype=np.int64)
