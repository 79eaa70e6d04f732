"""The bundled networks give the recorded outputs."""

from pathlib import Path

import numpy as np
import pytest

from pose.session import BUNDLED, Network

GOLDENS = Path(__file__).parents[2] / "goldens" / "blazepose"
SIZES = {
    "pose_detection": 224,
    "pose_landmark": 256,
    "hand_recrop": 256,
    "hand_landmark": 224,
    "face_detection": 128,
    "face_landmark": 192,
}
PROBABILITIES = {"scores", "presence", "handedness"}
EVERY_50TH_ROW, EVERY_8TH_COLUMN = np.s_[:, ::50], np.s_[..., ::8]  # how large arrays were thinned


def pattern(size: int) -> np.ndarray:
    """The recorded input: a pattern and its negative."""
    y, x, c = np.mgrid[:size, :size, :3]
    picture = ((7 * y + 13 * x + 29 * c + (x * y) % 31) % 256).astype(np.uint8)
    return np.stack([picture, 255 - picture])


@pytest.mark.parametrize("name", SIZES)
def test_outputs_equal_the_recorded_ones(name):
    network = Network(BUNDLED / f"{name}.onnx", device="cpu", num_threads=1)
    assert not network.has_fixed_batch
    outputs = network(pattern(SIZES[name]))
    with np.load(GOLDENS / "model_outputs.npz") as recorded:
        keys = {key.split(".")[1] for key in recorded if key.split(".")[0] == name}
        assert keys == set(outputs)
        for key, value in outputs.items():
            thinned = {"boxes": EVERY_50TH_ROW, "heatmap": EVERY_8TH_COLUMN}.get(key, ...)
            atol = 1e-4 if key in PROBABILITIES else 1e-2
            np.testing.assert_allclose(value[thinned], recorded[f"{name}.{key}"], atol=atol, rtol=0)


@pytest.mark.parametrize("name", ["hand_landmark", "face_landmark", "hand_recrop"])
def test_lean_networks_give_what_the_original_ones_gave(name):
    network = Network(BUNDLED / f"{name}.onnx", device="cpu", num_threads=1)
    with np.load(GOLDENS / "original_outputs.npz") as recorded:
        enlarge = SIZES[name] // 32
        pictures = recorded[f"{name}.pictures"].repeat(enlarge, axis=1).repeat(enlarge, axis=2)
        for key, value in network(pictures).items():
            atol = 1e-5 if key in PROBABILITIES else 1e-3
            np.testing.assert_allclose(value, recorded[f"{name}.{key}"], atol=atol, rtol=0)


def test_the_licence_is_with_the_networks():
    assert "Apache License" in (BUNDLED / "LICENSE").read_text()
    assert {path.stem for path in BUNDLED.glob("*.onnx")} == set(SIZES)
