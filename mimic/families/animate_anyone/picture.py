"""Encode the reference picture for Animate Anyone: its CLIP embedding and the reference network's latents.

Legend: B batch, C latent channels, H height, W width; h, w of latents; D width of CLIP's embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import PIL.Image
import torch
from torch import Tensor

from mimic.data.transforms import frames_to_uint8
from mimic.models.image_embedding import normalised
from mimic.models.vae import VAE, encode_images

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

Picture: TypeAlias = PIL.Image.Image | Tensor


def embed_picture(
    image_encoder: CLIPVisionModelWithProjection,
    feature_extractor: CLIPImageProcessor,
    picture: Picture,
    device: torch.device | None = None,
) -> Tensor:
    """Embed a picture as one token for the cross-attention.

    The picture is resized to the encoder's square without keeping its aspect ratio, as in the released code.

    Args:
        image_encoder: CLIP's image encoder.
        feature_extractor: provides the mean and the standard deviation for normalisation.
        picture: RGB, or a tensor ``1 x 3 x H x W`` in [0, 1].
        device: where the encoder computes; None for where its weights are, which offloaded ones are not.

    Returns:
        embedding, ``1 x 1 x D``.
    """
    pixels = clip_pixels(feature_extractor, picture, image_encoder.config.image_size)
    encoder_input = pixels.to(image_encoder.device if device is None else device, image_encoder.dtype)
    return image_encoder(encoder_input).image_embeds[:, None]


def clip_pixels(feature_extractor: CLIPImageProcessor, picture: Picture, size: int) -> Tensor:
    """Resize (bicubic), round to 8 bits and normalise a picture for CLIP; ``1 x 3 x size x size``."""
    if isinstance(picture, Tensor):
        picture = PIL.Image.fromarray(frames_to_uint8(picture.reshape(-1, *picture.shape[-3:])[:1])[0])
    square = picture.convert("RGB").resize((size, size), PIL.Image.Resampling.BICUBIC)
    bytes_HW3 = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3)
    return normalised(bytes_HW3.permute(2, 0, 1)[None] / 255, feature_extractor)


def encode_reference(vae: VAE, pictures_B3HW: Tensor, *, upcast: bool = True) -> Tensor:
    """Encode pictures ``B x 3 x H x W`` in [0, 1], on the VAE's device, to scaled latents ``B x C x h x w``.

    Latents are the mode of the posterior times the VAE's scaling factor; `upcast` as of `encode_images`.
    """
    return encode_images(vae, pictures_B3HW * 2 - 1, upcast=upcast) * vae.config.scaling_factor
