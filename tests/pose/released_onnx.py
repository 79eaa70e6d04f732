"""The released DWPose code's own numbers on the stub networks, for comparison."""

import functools
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

GOLDENS = Path(__file__).parents[1] / "goldens" / "dwpose" / "onnx"
DETECTOR, POSE = GOLDENS / "det_stub.onnx", GOLDENS / "pose_stub.onnx"
NAMES = tuple(json.loads((GOLDENS / "cases.json").read_text()))[:3]  # the pictures
SIZE_HW = (384, 288)


@functools.cache
def golden(name: str) -> dict[str, NDArray]:
    with np.load(GOLDENS / f"{name}.npz") as file:
        return dict(file)


def picture(name: str) -> NDArray[np.uint8]:
    image = cv2.imread(str(GOLDENS / f"{name}.png"))
    assert image is not None, name
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
