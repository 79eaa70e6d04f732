"""Run a DensePose network provided by the user: the body part that each pixel of a picture shows.

The file is ONNX (``.onnx``) or TorchScript (``.pt``, ``.pth``, ``.ts``, ``.torchscript``) and has one input
and one output:

* input: float32 ``1 x 3 x H x W``, RGB in [0, 1]. Pictures are resized for an ONNX file whose H
  and W are fixed; other files get them in their own size.
* output: scores ``1 x 25 x h x w`` of the background (0) and DensePose's 24 parts, of which the largest
  is taken; or the part numbers themselves, ``1 x h x w`` or ``1 x 1 x h x w``. Any h, w: the map is
  brought to the picture's size. Further outputs are ignored.

Legend: H, W pixels of the picture; h, w of the network's output.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mimic.weights.strict import WeightsError
from mimic.weights.torchscript import load_torchscript
from pose.session import Network

NUM_PARTS = 24
_TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")


class DensePoseError(ValueError):
    """A file does not contain a DensePose network with the interface described above."""


class DensePoseModel:
    """A network that numbers the parts of the body in a picture.

    Args:
        path: the file.
        device: ``cpu``, ``cuda``, ``cuda:<index>`` or ``auto``.

    Raises:
        FileNotFoundError: there is no such file.
        DensePoseError: it is neither ONNX nor TorchScript.
    """

    def __init__(self, path: str | os.PathLike[str], *, device: str = "auto") -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"there is no DensePose model {self.path}; give an ONNX or TorchScript file"
            )
        self._size: tuple[int, int] | None = None
        suffix = self.path.suffix.lower()
        if suffix == ".onnx":
            self._run = self._open_onnx(device)
        elif suffix in _TORCHSCRIPT:
            self._run = self._open_torchscript(device)
        else:
            raise DensePoseError(
                f"{self.path} is no DensePose model: expected .onnx or one of {', '.join(_TORCHSCRIPT)}"
            )

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Numbers of the parts, uint8 ``H x W``, of an RGB picture uint8 ``H x W x 3``.

        Raises:
            DensePoseError: the network's output does not have one of the forms described above.
        """
        height, width = picture.shape[:2]
        shown = picture
        if self._size is not None and self._size != (height, width):
            shown = np.asarray(cv2.resize(picture, self._size[::-1], interpolation=cv2.INTER_AREA))
        pixels = np.ascontiguousarray(shown.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)
        return self._read(np.asarray(self._run(pixels)), height, width)

    def _open_onnx(self, device: str) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
        try:
            network = Network(self.path, device=device)
        except ValueError as error:
            raise DensePoseError(str(error)) from error
        sizes = network.input_shape
        if len(sizes) != 3 or sizes[0] != 3:
            raise DensePoseError(f"{self.path} takes inputs of shape 1 x {sizes}; expected 1 x 3 x H x W")
        if isinstance(sizes[1], int) and isinstance(sizes[2], int):
            self._size = sizes[1], sizes[2]
        return lambda pixels: next(iter(network(pixels).values()))

    def _open_torchscript(self, device: str) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            module = load_torchscript(self.path, device)
        except WeightsError as error:
            raise DensePoseError(str(error)) from error

        @torch.no_grad()
        def run(pixels: NDArray[np.float32]) -> NDArray[Any]:
            out = module(torch.from_numpy(pixels).to(device))
            return (out[0] if isinstance(out, tuple | list) else out).float().cpu().numpy()

        return run

    def _read(self, output: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
        if output.ndim == 4 and output.shape[:2] == (1, NUM_PARTS + 1):
            scores = np.ascontiguousarray(output[0].transpose(1, 2, 0), dtype=np.float32)
            # Scores are enlarged, not their winners: edges come out smooth.
            planes = [
                cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
                for plane in scores.transpose(2, 0, 1)
            ]
            return np.argmax(np.stack(planes), axis=0).astype(np.uint8)
        numbers = output[:, 0] if output.ndim == 4 and output.shape[1] == 1 else output
        if numbers.ndim != 3 or len(numbers) != 1:
            raise DensePoseError(
                f"{self.path} gives an output of shape {list(output.shape)}; expected scores "
                f"1 x {NUM_PARTS + 1} x h x w or numbers of parts 1 x h x w"
            )
        largest = float(numbers.max())
        if largest > NUM_PARTS or float(numbers.min()) < 0:
            raise DensePoseError(
                f"{self.path} gives numbers of parts from {numbers.min():g} to {largest:g}; expected 0 "
                f"(background) to {NUM_PARTS}"
            )
        rounded = np.round(numbers[0]).astype(np.uint8)
        return np.asarray(cv2.resize(rounded, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))
