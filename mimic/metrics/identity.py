"""Is it the same face? Cosine similarity of face embeddings, by a face model that the user names.

The model is an ONNX file with one input ``N x 3 x S x S`` (S = 112 where the file leaves it open), RGB in
[-1, 1], and one output ``N x D``, as ArcFace's published models have it. Faces are brought to ArcFace's five
points (eyes, nose, corners of the mouth) of 112 x 112.

Legend: F frames, D width of an embedding.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mimic.weights.sources import sha256
from pose.session import Network
from pose.skeletons import FACE, VISIBLE_ABOVE

TEMPLATE_SIZE = 112
TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""Where the five points lie, pixels: eye, eye, nose, corner, corner, left ones of the picture first."""

_FIVE = (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,))
"""Points of the 68 whose mean is each of the five."""


class FaceModel:
    """Embeds faces.

    Raises:
        FileNotFoundError: there is no such file.
        PoseError: it is no ONNX network.
    """

    def __init__(self, path: str | Path, *, device: str = "cpu") -> None:
        self._network = Network(path, device=device, num_threads=1)
        *_, side = self._network.input_shape
        self.size = side if isinstance(side, int) else TEMPLATE_SIZE
        self.facts = {"source": str(path), "file": Path(path).name, "sha256": sha256(Path(path))}

    def embed(
        self, frame: NDArray[np.uint8], points: NDArray[np.float64], scores: NDArray[np.float64]
    ) -> NDArray[np.float64] | None:
        """The embedding of a person's face, length one; None where the face is not shown.

        Args:
            frame: ``H x W x 3`` RGB.
            points, scores: ``134 x 2`` as fractions of the frame, and ``134``.
        """
        face = points[FACE] * (frame.shape[1], frame.shape[0])
        used = [index for group in _FIVE for index in group]
        if (scores[FACE][used] <= VISIBLE_ABOVE).any():
            return None
        five = np.array([face[list(group)].mean(axis=0) for group in _FIVE])
        transform = similarity_transform(five, TEMPLATE * (self.size / TEMPLATE_SIZE))
        crop = cv2.warpAffine(frame, transform, (self.size, self.size), flags=cv2.INTER_LINEAR)
        pixels = (crop.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
        embedding = next(iter(self._network(pixels).values())).reshape(-1).astype(np.float64)
        length = np.linalg.norm(embedding)
        return embedding / length if length > 0 else None


def similarity_transform(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 2 x 3 matrix of rotation, one scale and shift that brings points ``N x 2`` nearest to others.

    Umeyama 1991, by complex numbers: target ≈ a · source + b.
    """
    x, y = source @ (1, 1j), target @ (1, 1j)
    centred = x - x.mean()
    a = (np.conj(centred) * (y - y.mean())).sum() / (np.abs(centred) ** 2).sum()
    b = y.mean() - a * x.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
