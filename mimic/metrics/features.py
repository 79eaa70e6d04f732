"""Feature networks of metrics: from a file or hub id to a callable that takes bytes and gives features.

Legend: N pictures or clips, T frames of a clip, H x W pixels, D width of a feature. Frames are uint8 RGB.

A network is named by a file, or by ``hf:owner/repository/file`` on the hub, of one of two kinds.

- Weights alone (``.safetensors``, ``.pth``): they go, every key, into the published network of that metric,
  which is built here (`mimic.metrics.networks`).
- TorchScript. If its ``forward`` has an argument ``return_features`` (NVIDIA's ``inception-2015-12-05.pt``,
  StyleGAN-V's ``i3d_torchscript.pt``), it is given pixels in 0 to 255 at their own size with
  ``return_features=True``, and ``rescale`` and ``resize`` where it has them. Any other is given what the
  table says and has to return ``N x D``.

| metric   | weights of          | input                | range                                          |
| -------- | ------------------- | -------------------- | ---------------------------------------------- |
| fid      | Inception-v3 (FID)  | N x 3 x 299 x 299    | [-1, 1]                                        |
| fid_vid  | 3D ResNet-50        | N x 3 x 16 x 112^2   | 0 to 255 less (114.7748, 107.7354, 99.4750)    |
| fvd      | I3D (Kinetics-400)  | N x 3 x 16 x 224^2   | [-1, 1]                                        |
| lpips    | VGG-16 or AlexNet   | 2 x (N x 3 x H x W)  | [-1, 1]; N distances (`PerceptualDistance`)    |

Inputs are RGB. Pictures for ``fid`` are resized as the protocol says, clips by an antialiased bicubic filter
(Pillow's). torchvision is not needed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from mimic.weights.sources import resolve_checkpoint, sha256
from mimic.weights.strict import WeightsError, compare, read_state
from mimic.weights.torchscript import DAMAGED_ZIP, load_torchscript

Resize = Literal["bilinear", "antialiased"]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Role:
    """What a metric asks of its network."""

    build: Callable[[], nn.Module]
    size: int
    num_frames: int | None
    """Frames of a clip; None for pictures."""
    normalise: Callable[[Tensor], Tensor]
    """Pixels ``N x 3 x … x H x W`` in 0 to 255 to the network's range."""


class FeatureNetwork:
    """Frames to features: ``(N x H x W x 3)`` or, for clips, ``(N x T x H x W x 3)`` to float64 ``N x D``.

    Args:
        role: ``fid``, ``fid_vid`` or ``fvd``.
        source: a file, or ``hf:owner/repository/file``.
        resize: how pictures come to the network's size; clips are always resized with antialiasing.
        device: where it computes.

    Raises:
        SourceError: the file is not there, or cannot be downloaded.
        WeightsError: it is damaged, or its weights do not fit the network of this metric.
    """

    def __init__(
        self, role: str, source: str, *, resize: Resize = "bilinear", device: torch.device | str = "cpu"
    ) -> None:
        self.role, self.path = ROLES[role], resolve_checkpoint(source)
        self._resize, self._device = resize, torch.device(device)
        self.is_torchscript = is_torchscript(self.path)
        if self.is_torchscript:
            self._module: Any = load_torchscript(self.path, self._device)
            self._options = _options_of(self._module)
        else:
            self._module = _filled(self.role.build, [self.path]).to(self._device)
            self._options = None
        self.facts = {"source": source, "file": self.path.name, "sha256": sha256(self.path)}

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> NDArray[np.float64]:
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).to(self._device)
        is_clip = self.role.num_frames is not None
        pixels = rearrange(pixels, "n t h w c -> n c t h w" if is_clip else "n h w c -> n c h w")
        if self._options is not None:
            features = self._module(pixels.float() if is_clip else pixels, **self._options)
        else:
            features = self._module(self.prepared(pixels.float()))
        if not isinstance(features, Tensor) or features.ndim < 2 or len(features) != len(frames):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise WeightsError(
                f"{self.path} gave {shape} for {len(frames)} inputs; a feature network returns one row each"
            )
        return features.flatten(1).cpu().double().numpy()

    def prepared(self, pixels: Tensor) -> Tensor:
        """Pixels ``N x 3 x … x H x W`` in 0 to 255 as the network takes them."""
        size = self.role.size
        if self.role.num_frames is None:
            return self.role.normalise(resized(pixels, size, size, self._resize))
        flat = resized(rearrange(pixels, "n c t h w -> (n t) c h w"), size, size, "antialiased")
        return self.role.normalise(rearrange(flat, "(n t) c h w -> n c t h w", n=len(pixels)))


class PerceptualDistance:
    """LPIPS of two batches of frames ``N x H x W x 3``: float64 ``N``.

    Args:
        source: one file with all weights; a TorchScript that takes two pictures and gives their distance, or
            (NVIDIA's ``vgg16.pt``) one with an argument ``return_lpips``, whose outputs' squared distance is
            LPIPS; or the two published files, backbone and distances, joined by ``+``: ``vgg16.pth+vgg.pth``.
        is_range_halved: give the network pixels in [0, 1], as DisCo's script does, in place of [-1, 1].
        device: where it computes.

    Raises:
        SourceError, WeightsError: as `FeatureNetwork`.
    """

    def __init__(
        self, source: str, *, is_range_halved: bool = False, device: torch.device | str = "cpu"
    ) -> None:
        from mimic.metrics.networks.lpips import published_lpips

        paths = [resolve_checkpoint(part) for part in source.split("+")]
        self._device, self._is_range_halved = torch.device(device), is_range_halved
        self._is_embedding = False
        if is_torchscript(paths[0]):
            self._module: Any = load_torchscript(paths[0], self._device)
            self._is_embedding = "return_lpips" in _argument_names(self._module)
        else:
            state = {key: value for path in paths for key, value in read_state(path).items()}
            kept = {key: value for key, value in state.items() if not key.startswith("classifier.")}
            with torch.device("meta"):  # what is replaced at once needs no random numbers
                network = published_lpips(kept)
            self._module = fill(network, kept, " and ".join(map(str, paths))).to(self._device)
        self.facts = {
            "source": source,
            "file": "+".join(path.name for path in paths),
            "sha256": "+".join(sha256(path) for path in paths),
        }

    @torch.inference_mode()
    def __call__(self, pictures: Frames, others: Frames) -> NDArray[np.float64]:
        x, y = (self._pixels(frames) for frames in (pictures, others))
        if self._is_embedding:
            scale = 255 / 2 if self._is_range_halved else 1
            shift = 255 / 2 if self._is_range_halved else 0
            a, b = (
                self._module(p / 255 * scale + shift if scale != 1 else p, return_lpips=True) for p in (x, y)
            )
            return ((a - b) ** 2).flatten(1).sum(dim=1).cpu().double().numpy()
        found = self._module(*(p / 255 if self._is_range_halved else p / 127.5 - 1 for p in (x, y)))
        return found.reshape(len(pictures), -1).mean(dim=1).cpu().double().numpy()

    def _pixels(self, frames: Frames) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(frames)).to(self._device).permute(0, 3, 1, 2).float()


def resized(pixels_N3HW: Tensor, height: int, width: int, how: Resize) -> Tensor:
    """Pixels at another size: `bilinear` as pytorch-fid does it, `antialiased` as Pillow's bicubic filter."""
    if pixels_N3HW.shape[-2:] == (height, width):
        return pixels_N3HW
    if how == "bilinear":
        return F.interpolate(pixels_N3HW, (height, width), mode="bilinear", align_corners=False)
    return F.interpolate(pixels_N3HW, (height, width), mode="bicubic", align_corners=False, antialias=True)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: it holds code beside tensors."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (*DAMAGED_ZIP, ValueError):
        return False  # what reads its tensors says what is wrong with it


def fill(module: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> nn.Module:
    """Put every tensor of a published file in its place; counters of batch norm may be missing.

    Raises:
        WeightsError: a key is missing, surplus or of another shape.
    """
    own = module.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}
    mismatch = compare(
        {key: tensor.shape for key, tensor in own.items()},
        {key: tensor.shape for key, tensor in state.items()},
        optional=counters,
    )
    if mismatch:
        raise WeightsError(f"the weights of {source} do not fit {type(module).__name__}.", mismatch)
    zeros = {key: torch.zeros((), dtype=torch.long) for key in counters}
    module.load_state_dict({**zeros, **state}, assign=True)
    return module.eval().requires_grad_(False).float()


def _filled(build: Callable[[], nn.Module], paths: Sequence[Path]) -> nn.Module:
    state = {key.removeprefix("module."): value for path in paths for key, value in read_state(path).items()}
    with torch.device("meta"):
        network = build()
    return fill(network, state, " and ".join(map(str, paths)))


def _argument_names(module: Any) -> list[str]:
    return [argument.name for argument in module.forward.schema.arguments]


def _options_of(module: Any) -> dict[str, bool] | None:
    """Keywords for published detectors that prepare pixels themselves; None for plain networks."""
    names = _argument_names(module)
    if "return_features" not in names:
        return None
    return {name: True for name in ("return_features", "rescale", "resize") if name in names}


def _inception() -> nn.Module:
    from mimic.metrics.networks.inception import InceptionV3

    return InceptionV3()


def _resnet3d() -> nn.Module:
    from mimic.metrics.networks.resnet3d import ResNet3D

    return ResNet3D()


def _i3d() -> nn.Module:
    from mimic.metrics.networks.i3d import I3D

    return I3D()


def _less_mean(pixels: Tensor) -> Tensor:
    from mimic.metrics.networks.resnet3d import MEAN_RGB

    return pixels - torch.tensor(MEAN_RGB, device=pixels.device)[:, None, None, None]


def _plus_minus_one(pixels: Tensor) -> Tensor:
    return pixels / 127.5 - 1


ROLES = {
    "fid": Role(_inception, 299, None, _plus_minus_one),
    "fid_vid": Role(_resnet3d, 112, 16, _less_mean),
    "fvd": Role(_i3d, 224, 16, _plus_minus_one),
}
