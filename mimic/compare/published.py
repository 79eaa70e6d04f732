"""Metrics that others published, as context: by protocol, never in one column with metrics measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedTable:
    """One table of one paper."""

    protocol: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    remark: str = ""


PUBLISHED = (
    PublishedTable(
        "A",
        "MimicMotion (arXiv 2406.19680), TikTok sequences 335 to 340",
        ("FID-VID ↓", "FVD ↓", "SSIM ↑", "PSNR ↑"),
        (
            ("MimicMotion", (9.3, 594, 0.795, 20.1)),
            ("Animate Anyone (re-implementation by Moore Threads)", (12.4, 728, 0.758, 18.7)),
            ("MagicPose", (13.3, 916, 0.776, 18.8)),
            ("MuseV", (14.6, 754, 0.766, 17.6)),
            ("MagicAnimate", (16.2, 848, 0.740, 17.5)),
        ),
    ),
    PublishedTable(
        "A",
        "MimicMotion's ablation (the same paper)",
        ("FID-VID ↓", "FVD ↓", "SSIM ↑", "PSNR ↑"),
        (
            ("none of its ideas", (14.6, 776, 0.760, 18.0)),
            ("+ hand loss", (15.0, 678, 0.758, 17.9)),
            ("+ confidence", (12.2, 623, 0.787, 18.4)),
            ("+ progressive fusion", (9.3, 594, 0.795, 20.1)),
        ),
    ),
    PublishedTable(
        "B",
        "MagicAnimate (arXiv 2311.16498), TikTok, DisCo's protocol; Animate Anyone as in arXiv 2311.17117",
        ("L1/HW ↓", "PSNR* ↑", "SSIM ↑", "LPIPS ↓", "FID ↓", "FID-VID ↓", "FVD ↓"),
        (
            ("MagicAnimate", (3.13e-4, 29.16, 0.714, 0.239, 32.09, 21.75, 179.07)),
            ("Animate Anyone", (None, 29.56, 0.718, 0.285, None, None, 171.9)),
            ("DisCo", (3.78e-4, 29.03, 0.668, 0.292, 30.75, 59.90, 292.80)),
            ("MRAA", (4.61e-4, 28.39, 0.646, 0.337, 85.49, 71.97, 468.66)),
            ("TPS", (6.17e-4, 28.17, 0.560, 0.449, 140.37, 142.52, 800.77)),
            ("IPA + CtrlN", (7.38e-4, 28.03, 0.459, 0.481, 69.83, 113.31, 802.44)),
            ("IPA + CtrlN-V", (6.99e-4, 28.00, 0.479, 0.461, 66.81, 86.33, 666.27)),
        ),
        "PSNR* is the number of a script that overflowed on bytes; correct values are about 10 dB lower.",
    ),
)
