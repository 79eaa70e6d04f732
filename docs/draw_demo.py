"""Make README's picture and animation from the bundled example: `python docs/draw_demo.py`.

Runs `mimic demo` and writes docs/images/demo.png, moments of its side-by-side video, and
docs/images/demo.webp, the video itself, smaller.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mimic.cli.main import main as mimic
from mimic.generation.sheet import draw_sheet
from mimic.video import probe, read_frames

IMAGES = Path(__file__).parent / "images"
PANEL = 192  # height of the animation


def main() -> None:
    """Write both files."""
    with tempfile.TemporaryDirectory() as folder:
        if mimic(["demo", "--output-dir", folder]):
            raise SystemExit("mimic demo failed")
        video = Path(folder) / "demo_side_by_side.mp4"
        sheet = Image.fromarray(draw_sheet(video))
        sheet.quantize(256, method=Image.Quantize.MEDIANCUT).save(IMAGES / "demo.png", optimize=True)
        first, *others = [_small(frame) for frame in read_frames(video)]
        duration_ms = round(1000 / float(probe(video).fps))
        first.save(
            IMAGES / "demo.webp",
            save_all=True,
            append_images=others,
            duration=duration_ms,
            loop=0,
            quality=70,
        )


def _small(frame: np.ndarray) -> Image.Image:
    height, width = frame.shape[:2]
    size = (round(width * PANEL / height), PANEL)
    return Image.fromarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))


if __name__ == "__main__":
    main()
