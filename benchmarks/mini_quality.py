"""How well does a miniature animate people that it has never seen? Figures, baselines and a contact sheet.

    python benchmarks/mini_quality.py --model bundled:mini
    python benchmarks/mini_quality.py --model bundled:mini_animate_anyone num_inference_steps=2

For each of the unseen dancers: a reference picture at a random moment, and a stretch of another moment of the
same dance as driving poses, so that the truth is known. Baselines: the reference picture in every frame; the
model driven by another dancer's poses; and the VAE alone (what perfect latents would give). Models that draw
larger pictures than 96x96 are also measured at 96x96, so that figures of different sizes can be compared. Of
the VAE, seams between chunks of decoded frames are measured for several overlaps. Arguments of the pipeline
may be given as key=value. A model that is driven by DensePose maps gets the rendered parts, without detector
noise.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from mimic.dancers import (
    LEFT_HAND,
    RIGHT_HAND,
    World,
    add_detector_noise,
    render,
    sample_character,
    sample_motion,
)
from mimic.dancers.background import paint_background
from mimic.dancers.clip import RenderedClip
from mimic.families.registry import load_pipeline
from mimic.metrics.image import intersection_over_union, psnr, silhouette
from mimic.metrics.video import changes, flicker, seam_jump
from mimic.models.vae import decode_frames, encode_images
from pose import PoseSequence, draw_pose
from pose.densepose import densepose_palette

RESULTS = Path(__file__).parent / "results"
FIRST_SEED = 900_000  # training numbers its dancers from ten million on
COMMON_SIDE = 96  # pixels at which models of all sizes are compared
OVERLAPS = (0, 1, 2, 3)
Frames = NDArray[np.uint8]


def make_case(
    seed: int, *, num_frames: int, fps: float, size: tuple[int, int]
) -> tuple[RenderedClip, Frames]:
    """An unseen dancer: frame 0 the reference, then the driving stretch; and the empty scene."""
    rng = np.random.default_rng(seed)
    world = World.plain()
    character = sample_character(rng, world)
    motion = sample_motion(rng, world, duration_s=8.0)
    start = rng.uniform(0, 8.0 - num_frames / fps)
    times = np.concatenate([rng.uniform(0, 8.0, 1), start + np.arange(num_frames) / fps])
    return render(character, motion, times, *size), paint_background(character.background, *size)


def driving_maps(pipe: Any, clip: RenderedClip, poses: PoseSequence) -> Frames:
    """What the model is driven by, uint8 ``F x H x W x 3``, frame 0 the reference's own."""
    height, width = clip.frames.shape[1:3]
    if pipe.driven_by == "densepose":
        return densepose_palette()[clip.densepose_ids]
    canvas = pipe.generation_defaults.get("canvas_short_side", 2160)
    return draw_pose(poses, height, width, canvas_short_side=canvas)


def animate(pipe: Any, reference: Frames, maps: Frames, *, seed: int, **arguments: Any) -> Frames:
    """Frames of the pipeline for maps whose frame 0 is the reference's; that frame is dropped."""
    height, width = reference.shape[:2]
    given = maps if pipe.shows_reference_first else maps[1:]
    output = pipe(
        reference,
        torch.from_numpy(given.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1,
        height=height,
        width=width,
        num_frames=len(given),
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        **arguments,
    )
    return (output.frames[0][1 - len(maps) :] * 255).round().clip(0, 255).astype(np.uint8)


@torch.no_grad()
def encoded(pipe: Any, frames: Frames) -> torch.Tensor:
    """Latents of frames as the sampler would leave them, the best that it could give."""
    pixels = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()).float() / 127.5 - 1
    return encode_images(pipe.vae, pixels) * pipe.vae.config.scaling_factor


@torch.no_grad()
def decoded(pipe: Any, latents: torch.Tensor, *, chunk: int, overlap: int = 0) -> Frames:
    frames = torch.cat(list(decode_frames(pipe.vae, latents, chunk, overlap=overlap)))
    return ((frames + 1) * 127.5).round().clamp(0, 255).byte().numpy().transpose(0, 2, 3, 1)


def decoding_seams(
    pipe: Any, latents: torch.Tensor, clip: RenderedClip, whole: Frames, *, chunk: int
) -> dict[str, dict[str, float]]:
    """For each overlap: the jump between chunks (1 is none), and the mean difference in grey levels from
    decoding all frames at once."""
    found = {}
    for overlap in OVERLAPS:
        if 2 * overlap >= chunk or len(latents) <= chunk:
            continue
        frames = decoded(pipe, latents, chunk=chunk, overlap=overlap)
        lengths = [len(part) for part in decode_frames(pipe.vae, latents, chunk, overlap=overlap)]
        jump = seam_jump(changes(frames, clip.frames[1:]), np.cumsum(lengths)[:-1].tolist())
        difference = float(np.abs(frames.astype(np.float32) - whole).mean())
        found[f"overlap {overlap}"] = {
            "jump": float("nan") if jump is None else jump,
            "difference": difference,
        }
    return found


def downscaled(frames: Frames, side: int = COMMON_SIDE) -> Frames:
    """Frames or masks ``F x H x W (x 3)`` at `side` x `side` pixels."""
    return np.stack([cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA) for frame in frames])


def measure_downscaled(frames: Frames, clip: RenderedClip) -> dict[str, float]:
    """PSNR at the common size, of all pixels and of the figure."""
    truth, mask = downscaled(clip.frames[1:]), downscaled(clip.figure_mask[1:].astype(np.uint8) * 255) > 127
    small = downscaled(frames)
    return {"psnr_96": psnr(small, truth), "figure_psnr_96": psnr(small, truth, mask)}


def measure(frames: Frames, clip: RenderedClip, background: Frames) -> dict[str, float]:
    truth, figure, parts = clip.frames[1:], clip.figure_mask[1:], clip.part_ids[1:]
    hands = np.isin(parts, (LEFT_HAND, RIGHT_HAND))
    hands = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for mask in hands])
    at_common_size = measure_downscaled(frames, clip) if frames.shape[1] > COMMON_SIDE else {}
    return {
        "psnr": psnr(frames, truth),
        "figure_psnr": psnr(frames, truth, figure),
        "hands_psnr": psnr(frames, truth, hands),
        "silhouette_iou": intersection_over_union(silhouette(frames, background), figure),
        **at_common_size,
    }


def run(
    pipe: Any, *, num_cases: int, num_frames: int, fps: float, detector_noise: float, **arguments: Any
) -> dict[str, Any]:
    size = (pipe.generation_defaults["height"], pipe.generation_defaults["width"])
    cases = [make_case(FIRST_SEED + i, num_frames=num_frames, fps=fps, size=size) for i in range(num_cases)]
    rows: dict[str, list[dict[str, float]]] = {
        "model": [],
        "copied reference": [],
        "wrong poses": [],
        "vae": [],
    }
    flickers, strips, seams, seconds = [], [], [], 0.0
    chunk = int(pipe.default("decode_chunk_size"))
    for i, (clip, background) in enumerate(tqdm(cases, desc="dancers")):
        rng = np.random.default_rng(i)
        poses = add_detector_noise(clip.poses, rng, strength=detector_noise) if detector_noise else clip.poses
        maps = driving_maps(pipe, clip, poses)
        other = cases[(i + 1) % num_cases][0]
        others = driving_maps(pipe, other, other.poses)
        reference = clip.frames[0]
        started = time.perf_counter()
        frames = animate(pipe, reference, maps, seed=i, **arguments)
        seconds += time.perf_counter() - started
        wrong = animate(pipe, reference, np.concatenate([maps[:1], others[1:]]), seed=i, **arguments)
        still = animate(pipe, reference, maps[[0, *([1] * min(8, num_frames))]], seed=i, **arguments)
        flickers.append(flicker(still))
        copied = np.broadcast_to(reference, frames.shape)
        latents = encoded(pipe, clip.frames[1:])
        ceiling = decoded(pipe, latents, chunk=num_frames)
        seams.append(decoding_seams(pipe, latents, clip, ceiling, chunk=chunk))
        for name, made in zip(rows, (frames, copied, wrong, ceiling)):
            rows[name].append(measure(made, clip, background))
        picks = np.linspace(0, num_frames - 1, 3).astype(int)
        triples = [np.concatenate([maps[1 + p], frames[p], clip.frames[1 + p]], 1) for p in picks]
        strips.append(np.concatenate([reference, *triples], 1))
    mean = {
        name: {key: float(np.mean([row[key] for row in part])) for key in part[0]}
        for name, part in rows.items()
    }
    spread = {key: float(np.std([row[key] for row in rows["model"]])) for key in rows["model"][0]}
    return {
        "figures": mean,
        "spread_over_dancers": spread,
        "flicker_on_a_still_pose_grey_levels": float(np.mean(flickers)),
        "decoding_seams": {
            name: {key: float(np.nanmean([seam[name][key] for seam in seams])) for key in seams[0][name]}
            for name in seams[0]
        },
        "seconds_a_frame": seconds / (num_cases * num_frames),
        "settings": {
            "num_cases": num_cases,
            "num_frames": num_frames,
            "fps": fps,
            "detector_noise": detector_noise,
            **arguments,
        },
        "sheet": np.concatenate(strips),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="bundled:mini")
    parser.add_argument("--output", type=Path, help="benchmarks/results/MODEL unless given")
    parser.add_argument("--cases", type=int, default=32)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--fps", type=float, default=8.0)
    parser.add_argument(
        "--noise", type=float, default=0.5, help="strength of the detector noise on the poses"
    )
    parser.add_argument("arguments", nargs="*", metavar="key=value", help="arguments of the pipeline")
    options = parser.parse_intermixed_args()
    arguments = {
        name: yaml.safe_load(value) for name, _, value in (x.partition("=") for x in options.arguments)
    }
    pipe = load_pipeline(options.model)
    pipe.set_progress_bar_config(disable=True)
    result = run(
        pipe,
        num_cases=options.cases,
        num_frames=options.frames,
        fps=options.fps,
        detector_noise=options.noise,
        **arguments,
    )
    sheet = result.pop("sheet")
    output = options.output or RESULTS / Path(options.model.removeprefix("bundled:")).name
    output.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(output / "sheet.jpg"), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    (output / "figures.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, figures in result["figures"].items():
        print(f"{name:18s} " + "  ".join(f"{key} {value:6.2f}" for key, value in figures.items()))
    print(f"flicker on a still pose {result['flicker_on_a_still_pose_grey_levels']:.2f} grey levels")
    for name, seam in result["decoding_seams"].items():
        print(f"decoding with {name}: " + "  ".join(f"{key} {value:.3f}" for key, value in seam.items()))
    print(f"contact sheet and figures in {output}")


if __name__ == "__main__":
    main()
