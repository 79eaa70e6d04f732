"""Make the picture and the animation of README from the bundled example: `python docs/draw_demo.py`.

Runs `mimic demo` and writes docs/images/demo.png, moments of its side-by-side video, and
docs/images/demo.webp, the whole of it without sound.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

from mimic.cli.main import main as mimic
from mimic.generation.sheet import draw_sheet
from mimic.video import probe, read_frames

ANIMATION_WIDTH = 1024  # pixels
IMAGES = Path(__file__).parent / "images"


def main() -> None:
    """Write both."""
    with tempfile.TemporaryDirectory() as folder:
        if mimic(["demo", "--output-dir", folder]):
            raise SystemExit("mimic demo failed")
        video = Path(folder) / "demo_side_by_side.mp4"
        sheet = Image.fromarray(draw_sheet(video, Path(folder) / "demo.mp4"))
        sheet.quantize(256, method=Image.Quantize.MEDIANCUT).save(IMAGES / "demo.png", optimize=True)
        write_animation(video, IMAGES / "demo.webp")


def write_animation(video: Path, path: Path) -> None:
    """Write a video as an animated picture that a web page plays by itself, again and again."""
    clip = probe(video)
    size = (ANIMATION_WIDTH, round(ANIMATION_WIDTH * clip.height / clip.width))
    first, *others = (
        Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in read_frames(video)
    )
    duration_ms = round(1000 / clip.fps)
    first.save(path, save_all=True, append_images=others, duration=duration_ms, loop=0, quality=70, method=4)


if __name__ == "__main__":
    main()
