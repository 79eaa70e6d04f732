"""How well does a VAE give back dancers that it has not seen? Figures, and a sheet to look at.

Legend: N pictures, H x W their size.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mimic.files import whole_file
from mimic.miniature.crops import REGIONS
from mimic.miniature.dancers import DancerSettings, as_network_input, make_dancer
from mimic.models.mini import MiniTemporalVAE

FIRST_UNSEEN = 5_000_000
_NUM_DANCERS, _NUM_PICTURES, _NUM_CHANGES = 12, 2, 3


@torch.no_grad()
def write_figures(
    vae: MiniTemporalVAE, dancers: DancerSettings, output_dir: Path, step: int
) -> dict[str, float]:
    """Measure a VAE on unseen dancers, two pictures each, and write figures and a sheet.

    The sheet shows pictures above their reconstructions; faces and hands are shown again, enlarged.

    Returns:
        PSNR in dB of all pixels and of each of `REGIONS`, and the standard deviation of the latents.
    """
    size = DancerSettings(
        height=dancers.height, width=dancers.width, world=dancers.world, num_pictures=_NUM_PICTURES,
        latent_downscale=2, noise_strength=0.0, canvas_short_side=dancers.canvas_short_side,
    )  # fmt: skip
    unseen = [make_dancer(FIRST_UNSEEN + number, size) for number in range(_NUM_DANCERS)]
    pictures = as_network_input(torch.cat([dancer.pictures for dancer in unseen]))
    means = torch.cat([vae.encode(picture).latent_dist.mode() for picture in pictures.split(1)])
    made = torch.cat([vae.decode(latent, num_frames=1).sample for latent in means.split(1)]).clamp(-1, 1)
    regions = torch.cat([dancer.regions for dancer in unseen]).float() / 100
    regions = functional.interpolate(regions, size=pictures.shape[-2:], mode="nearest")
    error = ((made - pictures) / 2).square().mean(1, keepdim=True)
    figures = {"unseen_psnr": _decibels(error.mean())}
    for index, name in enumerate(REGIONS):
        mask = regions[:, index : index + 1] > 0.5
        figures[f"{name}_psnr"] = _decibels((error * mask).sum() / mask.sum().clamp(min=1))
    figures["latents_std"] = float(means.std())
    folder = output_dir / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    _write_sheet(
        folder / f"{step:06d}.png", pictures[::_NUM_PICTURES], made[::_NUM_PICTURES], regions[::_NUM_PICTURES]
    )
    with whole_file(folder / f"{step:06d}.json") as beside:
        beside.write_text(json.dumps(figures), encoding="utf-8")
    return figures


def _decibels(squared_error: Tensor) -> float:
    return float(-10 * torch.log10(squared_error.clamp(min=1e-10)))


def _write_sheet(path: Path, pictures: Tensor, made: Tensor, regions: Tensor) -> None:
    height = pictures.shape[-2]
    columns = []
    for picture, own, region in zip(pictures, made, regions):
        parts = [torch.cat([picture, own], dim=-2)]
        for mask in (region[2], region[1]):  # face, hands
            inside = (mask > 0.5).nonzero()
            middle = (
                inside.float().mean(0).round().long().tolist() if len(inside) else [height // 2, height // 2]
            )
            side = height // 4
            top, left = (int(np.clip(place - side // 2, 0, height - side)) for place in middle)
            window = (..., slice(top, top + side), slice(left, left + side))
            pair = torch.cat([picture[window], own[window]], dim=-1)[None]
            enlarged = functional.interpolate(pair, size=(height // 2, height), mode="nearest")[0]
            parts.append(enlarged)
        columns.append(torch.cat(parts, dim=-2))
    half = len(columns) // 2
    sheet = torch.cat([torch.cat(columns[:half], dim=-1), torch.cat(columns[half:], dim=-1)], dim=-2)
    pixels = ((sheet + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))
