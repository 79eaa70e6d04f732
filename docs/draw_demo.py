"""Make the picture of README from the bundled example: `python docs/draw_demo.py`.

Runs `mimic demo` and writes docs/images/demo.png, moments of its side-by-side video.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from mimic.cli.main import main as mimic
from mimic.generation.sheet import draw_sheet

IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        if mimic(["demo", "--output-dir", folder]):
            raise SystemExit("mimic demo failed")
        video = Path(folder) / "demo_side_by_side.mp4"
        sheet = Image.fromarray(draw_sheet(video, Path(folder) / "demo.mp4"))
        sheet.quantize(256, method=Image.Quantize.MEDIANCUT).save(IMAGES / "demo.png", optimize=True)


if __name__ == "__main__":
    main()
