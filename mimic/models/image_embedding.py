"""What the UNet attends to: CLIP's embedding of the reference picture, as Stable Video Diffusion prepares it.

Legend: B batch, H height, W width, D width of the embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as nnf
from torch import Tensor

from mimic.weights.parts import quiet_transformers

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection


def resize_antialiased(images_B3HW: Tensor, height: int, width: int) -> Tensor:
    """Gaussian blur, then bicubic resize with aligned corners (the resize in front of SVD's image encoder).

    The blur of an axis reduced f times has sigma (f - 1) / 2, at least 0.001, over int(4 sigma) pixels, made
    odd, at least 3; edges are mirrored.
    """
    blurred = _blur(images_B3HW, images_B3HW.shape[-1] / width, axis=-1)
    blurred = _blur(blurred, images_B3HW.shape[-2] / height, axis=-2)
    return nnf.interpolate(blurred, (height, width), mode="bicubic", align_corners=True)


def _blur(images: Tensor, factor: float, axis: int) -> Tensor:
    sigma = torch.tensor(max((factor - 1) / 2, 0.001), dtype=images.dtype)
    taps = int(max(4 * float(max((factor - 1) / 2, 0.001)), 3)) | 1
    offsets = torch.arange(taps, dtype=images.dtype) - taps // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(images.device)
    padding = [taps // 2, taps // 2, 0, 0] if axis == -1 else [0, 0, taps // 2, taps // 2]
    padded = nnf.pad(images, padding, mode="reflect")
    shape = (1, 1, 1, taps) if axis == -1 else (1, 1, taps, 1)
    channels = images.shape[1]
    return nnf.conv2d(padded, kernel.view(shape).expand(channels, 1, *shape[2:]), groups=channels)


def clip_pixels(images_B3HW: Tensor, feature_extractor: CLIPImageProcessor, size: int) -> Tensor:
    """Pictures in [0, 1] as CLIP takes them: ``B x 3 x size x size``, resized in [-1, 1], then normalised.

    Args:
        images_B3HW: RGB, any size.
        feature_extractor: whose `image_mean` and `image_std` are used.
        size: side of the image encoder's input.
    """
    resized = (resize_antialiased(images_B3HW * 2 - 1, size, size) + 1) / 2
    return normalised(resized, feature_extractor)


def normalised(pixels_B3HW: Tensor, feature_extractor: CLIPImageProcessor) -> Tensor:
    """Pixels in [0, 1] minus the extractor's mean, divided by its standard deviation."""
    mean = torch.tensor(feature_extractor.image_mean).to(pixels_B3HW).view(1, 3, 1, 1)
    std = torch.tensor(feature_extractor.image_std).to(pixels_B3HW).view(1, 3, 1, 1)
    return (pixels_B3HW - mean) / std


def embed_images(
    image_encoder: CLIPVisionModelWithProjection, feature_extractor: CLIPImageProcessor, images_B3HW: Tensor
) -> Tensor:
    """``B x 1 x D``: one token a picture; pictures in [0, 1], each embedded by itself."""
    pixels = clip_pixels(images_B3HW, feature_extractor, image_encoder.config.image_size)
    return torch.cat(
        [image_encoder(image.to(image_encoder.dtype)).image_embeds for image in pixels.split(1)]
    )[:, None]


def image_processor_class() -> type[CLIPImageProcessor]:
    """transformers' `CLIPImageProcessor`, without the notice that it also works without torchvision."""
    with quiet_transformers():
        import transformers

        return transformers.CLIPImageProcessor
