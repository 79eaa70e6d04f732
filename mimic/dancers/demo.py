"""Render picture and clip of the demonstration: `python -m mimic.dancers.demo mimic/assets/demo`."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimic.dancers.body_parts import draw_densepose
from mimic.dancers.character import sample_character
from mimic.dancers.clip import RenderedClip
from mimic.dancers.motion import Motion, arms_through, fingers_through, sample_motion
from mimic.dancers.render import render
from mimic.dancers.world import World
from mimic.video import VideoWriter
from mimic.video.audio import SAMPLE_RATE, AudioTrack

REFERENCE_SEED = 1_000_000
DRIVING_SEED = 1_000_006
SIZE = 384
SECONDS, FPS = 8.0, 10.0
BEAT_S = 0.5

# Second, gestures of the left and the right arm, shapes of the left and the right hand.
DANCE = (
    (0.0, "rest", "rest", "relaxed", "relaxed"),
    (1.0, "wave", "hip", "open", "fist"),
    (2.0, "wave", "hip", "open", "fist"),
    (2.6, "out", "out", "flat", "flat"),
    (3.3, "crossed", "crossed", "flat", "flat"),
    (4.3, "crossed", "crossed", "flat", "flat"),
    (5.0, "high", "high", "open", "open"),
    (5.6, "goal", "scarecrow", "fist", "fist"),
    (6.2, "scarecrow", "goal", "fist", "fist"),
    (6.8, "hip", "wave", "fist", "open"),
    (7.6, "hip", "wave", "fist", "open"),
    (8.2, "rest", "rest", "relaxed", "relaxed"),
)
# Second and turn of the body in degrees, positive to the viewer's right.
TURNS = (
    (0.0, 0.0),
    (1.0, -30.0),
    (2.2, -30.0),
    (3.0, 0.0),
    (4.3, 0.0),
    (5.0, 35.0),
    (6.4, -35.0),
    (7.0, 0.0),
    (8.2, 0.0),
)


def make_demo(folder: Path) -> None:
    """Write `reference.png`; `driving.mp4` of a dancer with another appearance and other proportions, with
    sound; and `driving.densepose.mp4`, the body parts of that dancer."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(REFERENCE_SEED)
    world = World.plain()
    character = sample_character(rng, world)
    motion = sample_motion(rng, world, duration_s=8.0)
    picture = render(character, motion, [0.2], SIZE, SIZE, supersample=3)
    Image.fromarray(picture.frames[0]).save(folder / "reference.png", optimize=True)

    rng = np.random.default_rng(DRIVING_SEED)
    other_world = replace(world, proportion_variation=0.15, zoom=(0.88, 0.88))
    other = sample_character(rng, other_world)
    times = np.arange(round(SECONDS * FPS)) / FPS
    clip = render(other, dance(rng, other_world), times, SIZE, SIZE, supersample=3)
    _write_with_sound(clip, folder / "driving.mp4")
    with VideoWriter(folder / "driving.densepose.mp4", height=SIZE, width=SIZE, fps=FPS) as writer:
        for frame in draw_densepose(clip, SIZE, SIZE):
            writer.write(frame)


def dance(rng: np.random.Generator, world: World) -> Motion:
    """Compose the arms, hands and turns of `DANCE` and `TURNS` with the steps of a random motion."""
    motion = sample_motion(rng, replace(world, beat_s=(BEAT_S, BEAT_S), travel=0.03), duration_s=SECONDS)
    times = np.array([row[0] for row in DANCE])
    turns = np.radians(np.interp(motion.root.times, np.array(TURNS)[:, 0], np.array(TURNS)[:, 1]))
    root = replace(motion.root, values=np.column_stack([motion.root.values[:, :2], turns]))
    return replace(
        motion,
        root=root,
        arms=(arms_through(times, [row[1] for row in DANCE]), arms_through(times, [row[2] for row in DANCE])),
        fingers=(
            fingers_through(times, [row[3] for row in DANCE]),
            fingers_through(times, [row[4] for row in DANCE]),
        ),
    )


def sound() -> NDArray[np.int16]:
    """Compose the sound: a drum on each beat, a hiss between them, four chords; mono samples."""
    t = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    beat, rng = t % BEAT_S, np.random.default_rng(0)
    drum = np.sin(2 * np.pi * (45 * beat - 6 * np.exp(-beat * 30))) * np.exp(-beat * 14)
    off = (t + BEAT_S / 2) % BEAT_S
    hiss = rng.standard_normal(len(t)) * np.exp(-off * 60)
    chords = ((220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (261.6, 329.6, 392.0), (196.0, 246.9, 293.7))
    bar = (t // (SECONDS / 4)).astype(int)
    notes = np.array(chords)[np.minimum(bar, 3)]
    voices = np.sin(2 * np.pi * notes * t[:, None]).sum(axis=1) * np.exp(-(t % (2 * BEAT_S)) * 3)
    mixed = 0.5 * drum + 0.06 * hiss + 0.09 * voices
    ends = np.clip(np.minimum(t, SECONDS - t) / 0.02, 0, 1)
    return (np.clip(mixed * ends, -1, 1) * 32000).astype(np.int16)


def _write_with_sound(clip: RenderedClip, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "sound.mkv"
        _record(recording)
        track = AudioTrack(recording, start_s=0.0, duration_s=SECONDS)
        with VideoWriter(path, height=SIZE, width=SIZE, fps=FPS, audio=track) as writer:
            for frame in clip.frames:
                writer.write(frame)
        if writer.missing is not None:
            raise OSError(f"{path} has no whole sound: {writer.missing}")


def _record(path: Path) -> None:
    """Write the sound to a film with small black pictures, since sound is taken from films."""
    with av.open(str(path), "w") as film:
        pictures = film.add_stream("mpeg4", rate=round(FPS))
        pictures.width = pictures.height = 16
        pictures.pix_fmt = "yuv420p"
        track = film.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        for _ in range(round(SECONDS * FPS)):
            picture = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
            film.mux(pictures.encode(picture))
        film.mux(pictures.encode())
        samples = av.AudioFrame.from_ndarray(sound()[None], format="s16", layout="mono")
        samples.sample_rate = SAMPLE_RATE
        film.mux(track.encode(samples))
        film.mux(track.encode())


if __name__ == "__main__":
    make_demo(Path(sys.argv[1] if len(sys.argv) > 1 else "mimic/assets/demo"))
