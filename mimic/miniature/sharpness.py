"""Does a decoded crop look like a rendered one? A small discriminator that sharpens the VAE's decoder.

The generator's terms are those of VQGAN (Esser et al., 2021, equation 7): a hinge loss, weighed by the ratio
of gradients at the decoder's last layer. A loss on the discriminator's features (Wang et al., pix2pixHD,
2018, equation 4) takes the place of a perceptual term, for which no network of rendered people exists.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PatchDiscriminator(nn.Module):
    """Four convolutions that score overlapping patches of about 23 pixels."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(3, width, 4, stride=2, padding=1),
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
                nn.Conv2d(2 * width, 2 * width, 3, padding=1),
                nn.Conv2d(2 * width, 1, 3, padding=1),
            ]
        )
        self.norms = nn.ModuleList([nn.GroupNorm(4, 2 * width), nn.GroupNorm(4, 2 * width)])

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return scores of patches, ``B x 1 x h x w``, and the features before them."""
        first, second, third, last = self.layers
        features = [functional.leaky_relu(first(pixels), 0.2)]
        for layer, norm in zip((second, third), self.norms):
            features.append(functional.leaky_relu(norm(layer(features[-1])), 0.2))
        return last(features[-1]), features


def discriminator_loss(discriminator: PatchDiscriminator, real: Tensor, made: Tensor) -> Tensor:
    """Hinge loss of the discriminator."""
    scores, _ = discriminator(torch.cat([real, made.detach()]))
    of_real, of_made = scores.chunk(2)
    return 0.5 * (functional.relu(1 - of_real).mean() + functional.relu(1 + of_made).mean())


def generator_terms(
    discriminator: PatchDiscriminator, real: Tensor, made: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the generator's hinge loss and the loss on features.

    Args:
        discriminator: whose weights get no gradient here.
        real, made: ``B x 3 x H x W`` in [-1, 1].
        weight: of each pixel, ``B x 1 x H x W``.
    """
    discriminator.requires_grad_(False)
    scores, features = discriminator(made)
    with torch.no_grad():
        _, wanted = discriminator(real)
    discriminator.requires_grad_(True)
    matching = made.new_zeros(())
    for own, target in zip(features, wanted):
        importance = functional.interpolate(weight, size=own.shape[-2:], mode="area")
        matching = matching + (importance * (own - target).abs()).mean()
    importance = functional.interpolate(weight, size=scores.shape[-2:], mode="area")
    return -(importance * scores).mean() / importance.mean(), matching / len(features)


def balance(reconstruction: Tensor, adversarial: Tensor, last_layer: nn.Parameter) -> Tensor:
    """Return the factor that gives both losses the same gradient at the decoder's last layer."""
    (of_first,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (of_second,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (of_first.norm() / (of_second.norm() + 1e-6)).clamp(0, 100).detach()


def edge_error(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute the error of first differences, which keeps edges sharp."""
    total = output.new_zeros(())
    for axis in (-1, -2):
        difference = output.diff(dim=axis) - target.diff(dim=axis)
        total = total + (weight.narrow(axis, 1, weight.shape[axis] - 1) * difference.square()).mean()
    return total
