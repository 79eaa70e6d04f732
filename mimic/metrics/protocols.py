"""Which rules a set of metrics was measured by. Metrics of two protocols must not stand in one column."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mimic.metrics.features import Resize


@dataclass(frozen=True)
class Protocol:
    """The rules of a published comparison, as far as they are known."""

    name: str
    title: str
    about: str
    """What is known of it, and what its authors do not say."""
    size: tuple[int, int] | None
    """Height and width that all frames are brought to (covered, middle cut out); None: the truth's own."""
    picture_metrics: tuple[str, ...]
    """Of `mimic.metrics.evaluate.PICTURE_METRICS`."""
    fid_resize: Resize
    """How pictures come to Inception's size."""
    clip_stride: int
    """Frames from the start of one 16-frame clip to that of the next, for FID-VID and FVD."""
    is_lpips_range_halved: bool = False
    """LPIPS' network is given pixels in [0, 1] in place of [-1, 1]."""
    sequences: tuple[str, ...] = ()
    """The test set: what the names of its clips contain."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def departures(self, names: list[str]) -> list[str]:
        """What keeps clips of these names from being the protocol's test set."""
        if not self.sequences:
            return []
        absent = [number for number in self.sequences if not any(number in name for name in names)]
        others = [name for name in names if not any(number in name for number in self.sequences)]
        found = []
        if absent:
            found.append(f"sequences {', '.join(absent)} of the protocol's test set are not among the clips")
        if others:
            are = "is" if len(others) == 1 else "are"
            found.append(f"{len(others)} of {len(names)} clips {are} not of the protocol's test set")
        return found


_TIKTOK = ("335", "336", "337", "338", "339", "340")

PROTOCOLS = {
    "A": Protocol(
        name="A",
        title="MimicMotion's",
        about=(
            "Sequences 335 to 340 of the TikTok dataset, frames at their own size; FID-VID, FVD, SSIM and "
            "PSNR (correct). The paper does not state networks and clip sampling: here FID-VID by 3D "
            "ResNet-50 and FVD by I3D on every 16 frames in a row, SSIM on greyscale, as in DisCo's script."
        ),
        size=None,
        picture_metrics=("l1", "psnr", "ssim", "lpips"),
        fid_resize="bilinear",
        clip_stride=1,
        sequences=_TIKTOK,
    ),
    "B": Protocol(
        name="B",
        title="DisCo's lineage",
        about=(
            "Frames at 256 x 256. L1 is divided by height times width once more, PSNR* is computed in bytes "
            "that overflow, LPIPS (VGG) is given pixels in [0, 1], SSIM is on greyscale, FID by Inception-v3 "
            "on bilinearly resized frames, FID-VID and FVD on every 16 frames in a row. The script writes "
            "those 16 frames as GIFs of 256 colours first; that loss is not repeated here."
        ),
        size=(256, 256),
        picture_metrics=("l1_disco_divided_by_area", "psnr_disco_uint8_overflow", "psnr", "ssim", "lpips"),
        fid_resize="bilinear",
        clip_stride=1,
        is_lpips_range_halved=True,
    ),
    "none": Protocol(
        name="none",
        title="no published protocol",
        about="Frames at the truth's size, every metric by its definition. Compare with no published table.",
        size=None,
        picture_metrics=("l1", "psnr", "ssim", "lpips"),
        fid_resize="antialiased",
        clip_stride=8,
    ),
}
