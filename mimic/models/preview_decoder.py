"""Light decoders for previews: TAESDV, and diffusers' `AutoencoderTiny`.

Both decode the latents of Stable Diffusion's VAE, which Stable Video Diffusion shares, as the sampler has
them (times the scaling factor). TAESDV also looks at the frame before each frame. Its layout is that of the
published weights (madebyollin/taesdv, MIT licence).

Legend: F frames, C channels, H x W pixels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from torch.nn import functional

from mimic.weights.errors import SourceError
from mimic.weights.parts import load_part, read_json
from mimic.weights.strict import load_strictly, read_state
from pose.text import one_line

_WIDTH = 64
_FRAMES_AT_A_TIME = 4


class MemoryBlock(nn.Module):
    """A residual block that sees each frame's features beside those of the frame before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, features_FCHW: Tensor, before_1CHW: Tensor) -> Tensor:
        """Compute the features of consecutive frames; `before_1CHW` are those of the frame before them."""
        former = torch.cat([before_1CHW, features_FCHW[:-1]])
        return functional.relu(self.conv(torch.cat([features_FCHW, former], dim=1)) + features_FCHW)


class TinyVideoDecoder(nn.Module):
    """The decoder of TAESDV: latents ``F x 4 x h x w`` to frames 8 times as large.

    Args:
        width: channels inside; the published weights have 64.
    """

    def __init__(self, width: int = _WIDTH) -> None:
        super().__init__()
        # Numbered as in the published weights, in which layer 0 limits the latents and has no weights.
        layers: list[nn.Module] = [nn.Identity(), nn.Conv2d(4, width, 3, padding=1), nn.ReLU()]
        for _ in range(3):
            layers += [MemoryBlock(width) for _ in range(3)]
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        layers += [MemoryBlock(width), nn.Conv2d(width, 3, 3, padding=1)]
        self.decoder = nn.Sequential(*layers)

    def frames(self, latents_FChw: Tensor) -> Iterator[Tensor]:
        """Yield the frames of a clip in order, ``f x 3 x H x W``, about [0, 1]."""
        memories: dict[int, Tensor] = {}
        for latents in latents_FChw.split(_FRAMES_AT_A_TIME):
            features = torch.tanh(latents / 3) * 3
            for number, layer in enumerate(self.decoder):
                if not isinstance(layer, MemoryBlock):
                    features = layer(features)
                    continue
                before = memories.get(number, torch.zeros_like(features[:1]))
                memories[number] = features[-1:]
                features = layer(features, before)
            yield features


class PreviewDecoder:
    """Decodes latents to small frames.

    Args:
        network: what decodes.
        largest: frames larger than this are halved until they are not, in pixels.
    """

    channels = 4
    """Channels of the latents that it takes."""
    pixels_per_latent = 8

    def __init__(self, network: TinyVideoDecoder | AutoencoderTiny, *, largest: int = 512) -> None:
        self._network, self._largest = network, largest
        if isinstance(network, AutoencoderTiny):
            self.channels = network.config.latent_channels
            self.pixels_per_latent = 2 ** (len(network.config.decoder_block_out_channels) - 1)

    @torch.no_grad()
    def __call__(self, latents_FChw: Tensor) -> Tensor:
        """Decode a clip's latents; returns frames ``F x 3 x H x W`` in [0, 1], float32, on the CPU."""
        weight = next(self._network.parameters())
        small = []
        for frames in self._frames(latents_FChw.to(weight)):
            height, width = frames.shape[-2:]
            factor = 1
            while max(height, width) > self._largest * factor and not any(
                side % (4 * factor) for side in (height, width)
            ):
                factor *= 2
            small.append(functional.avg_pool2d(frames, factor).float().clamp(0, 1).cpu())
        return torch.cat(small)

    def _frames(self, latents_FChw: Tensor) -> Iterator[Tensor]:
        if isinstance(self._network, TinyVideoDecoder):
            yield from self._network.frames(latents_FChw)
            return
        for latents in latents_FChw.split(_FRAMES_AT_A_TIME):
            yield self._network.decode(latents).sample / 2 + 0.5


def load_preview_decoder(path: Path, *, device: torch.device, dtype: torch.dtype) -> PreviewDecoder:
    """Load a light decoder.

    Args:
        path: the published file of TAESDV (``.pth`` or ``.safetensors``), or a folder in diffusers' layout
            that holds an `AutoencoderTiny`.
        device, dtype: where and in which precision to decode.

    Raises:
        SourceError: there is nothing there, or another kind of model (an `OSError`).
        WeightsError: weights are missing, unexpected or of a wrong shape (a `ValueError`).
    """
    if path.is_dir():
        kind = read_json(path / "config.json").get("_class_name")
        if kind != "AutoencoderTiny":
            found = one_line(kind, 60)
            raise SourceError(f"preview_decoder {path} holds a {found}; expected an AutoencoderTiny.")
        folder = load_part(AutoencoderTiny, path, dtype=dtype)
        return PreviewDecoder(folder.to(device))
    if not path.is_file():
        raise SourceError(
            f"there is no preview_decoder {path}; give taesdv.pth or a folder with an AutoencoderTiny, or "
            "leave preview_decoder out."
        )
    state = read_state(path, dtype=dtype)
    first = state.get("decoder.1.weight")
    with torch.device("meta"):
        network = TinyVideoDecoder(_WIDTH if first is None or first.ndim != 4 else len(first))
    own = {key: tensor for key, tensor in state.items() if not key.startswith("encoder.")}
    load_strictly({"": network}, own, source=path)
    return PreviewDecoder(network.eval().to(device))
