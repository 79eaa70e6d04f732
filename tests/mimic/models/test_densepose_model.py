"""Networks of the documented interface number the parts; others are refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mimic.models.densepose_model import DensePoseError, DensePoseModel

HEIGHT, WIDTH = 24, 16


class ByBrightness(nn.Module):
    """Part 2 where a pixel is red, part 24 where it is blue, else background; half the size of its input."""

    def forward(self, pixels: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(pixels, 2)
        background = torch.full_like(small[:, :1], 0.25)
        none = torch.zeros_like(small[:, :1])
        scores = [background, none, small[:, 0:1], *[none] * 21, small[:, 2:3]]
        return torch.cat(scores, dim=1)


class Numbers(nn.Module):
    """The parts' numbers themselves, by a tuple's first entry."""

    def __init__(self, largest: int = 24) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return (pixels[:, 0] > 0.5).long() * self.largest, pixels


def picture() -> np.ndarray:
    """Black, a red block above a blue one."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[4:12, 4:12, 0] = 255
    pixels[12:20, 4:12, 2] = 255
    return pixels


def script(module: nn.Module, path: Path) -> Path:
    torch.jit.trace(module, torch.rand(1, 3, HEIGHT, WIDTH)).save(str(path))
    return path


def write_onnx(path: Path, *, height: int | str = "H", width: int | str = "W") -> Path:
    """`ByBrightness` at full size as an ONNX graph of one convolution, in protobuf's own bytes."""
    weights, bias = np.zeros((25, 3, 1, 1), np.float32), np.zeros(25, np.float32)
    weights[2, 0], weights[24, 2], bias[0] = 1, 1, 0.25
    node = _field(1, "pixels") + _field(1, "weights") + _field(1, "bias") + _field(2, "scores")
    graph = (
        _field(1, node + _field(4, "Conv"))
        + _field(2, "parts")
        + _field(5, _tensor("weights", weights))
        + _field(5, _tensor("bias", bias))
        + _field(11, _value("pixels", [1, 3, height, width]))
        + _field(12, _value("scores", [1, 25, height, width]))
    )
    opset = _field(1, "") + _field(2, 13)
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, opset))
    return path


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    more, low = value >> 7, value & 0x7F
    return bytes([low | 0x80]) + _varint(more) if more else bytes([low])


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_field(1, size) for size in values.shape)
    return dims + _field(2, 1) + _field(8, name) + _field(9, values.tobytes())


def _value(name: str, sizes: list[int | str]) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in sizes)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def assert_blocks(parts: np.ndarray) -> None:
    assert parts.shape == (HEIGHT, WIDTH)
    assert parts.dtype == np.uint8
    assert (parts[5:11, 5:11] == 2).all()
    assert (parts[13:19, 5:11] == 24).all()
    assert parts[:2].max() == parts[:, :2].max() == 0


def test_torchscript_scores_become_the_parts_at_the_pictures_size(tmp_path: Path) -> None:
    assert_blocks(DensePoseModel(script(ByBrightness(), tmp_path / "a.pt"), device="cpu")(picture()))


def test_onnx_scores_become_the_parts(tmp_path: Path) -> None:
    assert_blocks(DensePoseModel(write_onnx(tmp_path / "a.onnx"), device="cpu")(picture()))
    fixed = write_onnx(tmp_path / "fixed.onnx", height=48, width=32)
    assert_blocks(DensePoseModel(fixed, device="cpu")(picture()))


def test_numbers_of_parts_are_taken_as_they_are(tmp_path: Path) -> None:
    parts = DensePoseModel(script(Numbers(), tmp_path / "a.ts"), device="cpu")(picture())
    assert np.array_equal(parts == 24, picture()[..., 0] > 127)


def test_other_files_and_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no DensePose model"):
        DensePoseModel(tmp_path / "none.onnx")
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(DensePoseError, match=r"expected \.onnx or one of"):
        DensePoseModel(tmp_path / "a.pkl")
    for name in ("broken.onnx", "broken.pt"):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(DensePoseError, match=r"cannot be read as|file that can be read"):
            DensePoseModel(tmp_path / name, device="cpu")
    with pytest.raises(DensePoseError, match="numbers of parts from 0 to 133"):
        DensePoseModel(script(Numbers(133), tmp_path / "b.pt"), device="cpu")(picture())
    with pytest.raises(DensePoseError, match=r"output of shape \[1, 3, 24, 16\]"):
        DensePoseModel(script(nn.Identity(), tmp_path / "c.pt"), device="cpu")(picture())
