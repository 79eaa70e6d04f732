"""Make the videos of docs/gallery.md with the bundled miniatures: `python docs/draw_gallery.py` (minutes)."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from mimic import generate, load_pipeline
from mimic.dancers.write import synth
from mimic.video import probe, read_frames
from mimic.video.folder import open_writer

GALLERY = Path(__file__).parent / "images" / "gallery"
SECONDS, PANEL = 2.4, 240
UNSEEN_SEED = 2_000_000
"""Seed of dancers that no training of the miniatures has seen."""


@dataclass(frozen=True)
class Piece:
    """One video of the gallery."""

    name: str
    model: str = "bundled:mini"
    reference: str = "bundled:demo/reference.png"
    driving: str = "bundled:demo/driving.mp4"
    settings: dict[str, Any] = field(default_factory=dict)


def pieces(dancers: Path) -> list[Piece]:
    """Return what is shown; `dancers` holds two rendered clips."""
    other = str(dancers / "reference.png")
    return [
        Piece("mimicmotion"),
        Piece("animate-anyone", "bundled:mini_animate_anyone"),
        Piece("magic-animate", "bundled:mini_magic_animate", driving="bundled:demo/driving.densepose.mp4"),
        Piece("another-character", reference=other),
        Piece("another-dance", driving=str(dancers / "clip_0001.mp4")),
        Piece("own-background", reference=other, settings={"background": "reference"}),
    ]


def main() -> None:
    """Write a video and a picture of its middle for each piece."""
    GALLERY.mkdir(parents=True, exist_ok=True)
    pipes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        synth(folder, num_clips=2, seconds=SECONDS, fps=10, seed=UNSEEN_SEED)
        Image.fromarray(next(iter(read_frames(folder / "clip_0000.mp4")))).save(folder / "reference.png")
        for piece in pieces(folder):
            pipe = pipes.setdefault(piece.model, load_pipeline(piece.model))
            made = generate(
                piece.reference,
                piece.driving,
                pipeline=pipe,
                output=folder / f"{piece.name}.mp4",
                end=SECONDS,
                sample_stride=1,
                seed=42,
                side_by_side=True,
                **({} if "magic" in piece.name else {"smooth": 5}),
                **piece.settings,
            )
            assert made.side_by_side is not None
            shrink(made.side_by_side, GALLERY / piece.name)


def shrink(video: Path, target: Path) -> None:
    """Write a smaller copy, and a picture of its middle."""
    info = probe(video)
    size = (2 * round(info.width * PANEL / info.height / 2), PANEL)
    frames = [
        np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
        for frame in read_frames(video)
    ]
    with open_writer(
        target.with_suffix(".mp4"), height=size[1], width=size[0], fps=info.fps, crf=26
    ) as writer:
        for frame in frames:
            writer.write(frame)
    Image.fromarray(frames[len(frames) // 2]).save(target.with_suffix(".jpg"), quality=80)


if __name__ == "__main__":
    main()
