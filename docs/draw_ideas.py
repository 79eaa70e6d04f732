"""Draw the three ideas of docs/how-it-works.md: confidence in pose maps, weights of hands, fused windows.

python docs/draw_ideas.py
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from mimic.data.masks import region_masks
from mimic.files import ASSETS
from mimic.sampling.fusion import fusion_weights
from mimic.sampling.windows import sliding_windows
from mimic.video import read_frames, write_image
from pose import draw_pose, load_estimator

IMAGES = Path(__file__).parent / "images"
SIDE, STRIP = 288, 26
SHARP, BLURRED = 12, slice(9, 16)
HANDS = 92  # number of the first point of the hands, 21 each
Picture = NDArray[np.uint8]


def confidence() -> Picture:
    """Draw a sharp and a blurred frame, each with its pose map: unsure points are dark or missing."""
    frames = list(read_frames(ASSETS / "demo" / "driving.mp4"))
    blurred = np.mean(frames[BLURRED], axis=0).astype(np.uint8)
    estimator = load_estimator("blazepose")
    panels = []
    for label, frame in (("sharp", frames[SHARP]), ("blurred", blurred)):
        pose = estimator.image(cv2.resize(frame, (768, 768), interpolation=cv2.INTER_CUBIC))
        drawn = draw_pose(pose, SIDE, SIDE, canvas_short_side=480)[0]
        panels += [_panel(f"{label} frame", frame), _panel("its map", drawn)]
    return np.concatenate(panels, axis=1)


def hands() -> Picture:
    """Draw a frame, its map, and where the loss is multiplied: at hands with sure points only."""
    frame = list(read_frames(ASSETS / "demo" / "driving.mp4"))[SHARP]
    pose = load_estimator("blazepose").image(cv2.resize(frame, (768, 768), interpolation=cv2.INTER_CUBIC))
    sure = replace(pose, scores=pose.scores.copy())
    sure.scores[..., HANDS:] = 0.95
    unsure = replace(sure, scores=sure.scores.copy())
    unsure.scores[..., HANDS + 21 :] = 0.5
    shown = np.asarray(cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
    panels = [_panel("frame", shown)]
    for label, each in (("both hands are sure", sure), ("one hand is unsure", unsure)):
        mask = region_masks(each, ["hands"], SIDE, SIDE, thresholds={"hands": 0.8}, margin=0.1)["hands"][0, 0]
        inside = np.asarray(mask > 0.5)
        edge = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~inside
        lit = np.where(inside[..., None], shown, shown * 0.4)
        lit[edge] = (255, 170, 0)
        panels.append(_panel(label, lit.astype(np.uint8)))
    return np.concatenate(panels, axis=1)


def fusion(num_frames: int = 34, size: int = 16, overlap: int = 7) -> str:
    """Draw the weights of three windows over the frames of a clip, as SVG."""
    windows = sliding_windows(num_frames, size, overlap)
    names = {
        "none": "none: each frame from one window, with hard cuts",
        "average": "average",
        "progressive": "progressive: weights fall towards the ends",
    }
    step, height, gap, left = 18, 64, 44, 16
    colours = ("#0b57d0", "#b3261e", "#146c2e", "#7d5700")
    width = 2 * left + num_frames * step
    parts = []
    for row, (mode, name) in enumerate(names.items()):
        base = gap + row * (height + gap) + height - 8
        parts.append(f'<text x="{left}" y="{base - height - 6}">{name}</text>')
        parts.append(f'<line x1="{left}" y1="{base}" x2="{width - left}" y2="{base}"/>')
        for number, (window, weights) in enumerate(zip(windows, fusion_weights(windows, mode))):
            places = [  # of each frame its left and its right end
                f"{left + end * step},{base - float(weight) * height:.1f}"
                for frame, weight in zip(window, weights)
                if weight > 0
                for end in (frame, frame + 1)
            ]
            colour = colours[number % len(colours)]
            ends = [f"{places[0].split(',')[0]},{base}", *places, f"{places[-1].split(',')[0]},{base}"]
            parts.append(
                f'<polyline points="{" ".join(ends)}" fill="{colour}" fill-opacity=".18" stroke="{colour}" '
                'stroke-width="2"/>'
            )
    total = gap + len(names) * (height + gap)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" width="{width}" '
        f'height="{total}" font-family="system-ui, sans-serif" font-size="15">'
        "<style>rect { fill: #fff; } text { fill: #1f2328; } line { stroke: #888; } "
        "@media (prefers-color-scheme: dark) { rect { fill: #1e2129; } text { fill: #e6e8ee; } }</style>"
        f'<rect width="100%" height="100%"/>{"".join(parts)}'
        f'<text x="{left}" y="{total - 14}">frames of the clip →</text></svg>\n'
    )


def _panel(label: str, picture: Picture) -> Picture:
    panel = np.full((STRIP + SIDE, SIDE + 4, 3), 255, np.uint8)
    panel[:STRIP, :SIDE] = 40
    cv2.putText(panel, label, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    how = cv2.INTER_AREA if picture.shape[0] > SIDE else cv2.INTER_NEAREST
    panel[STRIP:, :SIDE] = cv2.resize(picture, (SIDE, SIDE), interpolation=how)
    return panel


def main() -> None:
    """Write the pictures."""
    write_image(IMAGES / "confidence.png", confidence())
    write_image(IMAGES / "hands.png", hands())
    (IMAGES / "fusion.svg").write_text(fusion(), encoding="utf-8")


if __name__ == "__main__":
    main()
