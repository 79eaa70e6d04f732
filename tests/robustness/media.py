"""Videos, pictures and poses, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from mimic.video import kind_of, probe, read_frames, read_image
from mimic.video.audio import check_audio
from mimic.video.seek import FrameReader
from pose import PoseSequence
from pose.adjust import Adjustment, adjust_pose
from tests.media import even_times, write_clip
from tests.pose.figures import clip
from tests.tiny import GOLDENS

ALL_GOLDENS = GOLDENS.parent


@dataclass(frozen=True)
class Parser:
    """One reader.

    Args:
        make: writes whole samples, each a folder, below an empty one.
        read: reads a sample, whole or damaged, and asserts that what it takes for success is sound.
        num: how many damaged samples the suite reads.
        refused: samples that are whole and end in an error.
    """

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    num: int = 60
    refused: frozenset[str] = frozenset()


def place(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def first(folder: Path) -> Path:
    """The one file of a sample, also where it was removed: then a name that is not there."""
    return next(iter(sorted(folder.iterdir())), folder / "missing.mp4")


def videos(folder: Path) -> None:
    times = even_times(8, 20)
    sound = {"clap_times_s": (0.2,), "sound_s": 0.4}
    write_clip(place(folder, "mp4") / "a.mp4", times, **sound)
    write_clip(place(folder, "mkv") / "a.mkv", times, **sound)
    write_clip(place(folder, "ts") / "a.ts", times, **sound)
    write_clip(
        place(folder, "webm") / "a.webm", times, codec="libvpx", sound_codec="libopus", sound_rate=48000
    )
    write_clip(place(folder, "mov") / "a.mov", times, rotation=90, options={"bf": "2"})
    write_clip(place(folder, "avi") / "a.avi", times, codec="mjpeg", pixel_format="yuvj420p")
    pictures = [Image.fromarray(np.full((24, 32, 3), 30 * n, np.uint8)) for n in range(4)]
    for kind in ("gif", "webp", "png"):
        path = place(folder, kind) / f"a.{kind}"
        pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=50)


def read_video(folder: Path) -> None:
    path = first(folder)
    info = probe(path)
    assert 0 < info.fps <= 1000
    assert info.num_frames >= 1
    num = 0
    for frame in read_frames(path, max_frames=40):
        assert (frame.dtype, frame.shape) == (np.uint8, (info.height, info.width, 3))
        num += 1
    assert num
    reader = FrameReader(path)
    (picture,) = reader.read([min(3, num - 1)])
    reader.close()
    assert picture.shape == (info.height, info.width, 3)
    check_audio(path, duration_s=num / float(info.fps))
    assert kind_of(path) in ("picture", "video")


def pictures(folder: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    picture, grey = Image.fromarray(rgb), Image.fromarray(rgb[..., 0].astype(np.uint16) << 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("bmp", "gif", "ico", "jp2", "jpg", "png", "ppm", "tif", "tga", "webp", "avif"):
        picture.save(place(folder, kind) / f"a.{kind}", **({"exif": exif} if kind in ("jpg", "png") else {}))
    grey.save(place(folder, "deep") / "a.png")
    picture.convert("P").save(place(folder, "palette") / "a.png", transparency=0)
    picture.convert("CMYK").save(place(folder, "cmyk") / "a.jpg")
    picture.save(place(folder, "packed") / "a.tif", compression="tiff_lzw")
    texts = PngInfo()
    texts.add_text("Title", "a picture")
    texts.add_text("Comment", "of nothing " * 9, zip=True)
    texts.add_itxt("Author", "nobody", lang="en", zip=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(place(folder, "texts") / "a.png", pnginfo=texts, icc_profile=profile, exif=exif)
    picture.save(place(folder, "profile") / "a.jpg", comment=b"a picture", icc_profile=profile)


def read_picture(folder: Path) -> None:
    image = read_image(first(folder))
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3


def poses(folder: Path) -> None:
    poses = clip(num_frames=3, jitter=1.0)
    for name, file, kind in (
        ("npz", "a.npz", "npz"),
        ("openpose", "a.json", "openpose"),
        ("coco", "b.json", "coco"),
    ):
        poses.save(place(folder, name) / file, kind)
    many = place(place(folder, "folder"), "frames.d")
    for number in range(3):
        poses[number].save(many / f"{number}.json", "openpose")


def read_poses(folder: Path) -> None:
    poses = PoseSequence.load(first(folder))
    assert np.isfinite(poses.points).all()
    assert np.isfinite(poses.scores).all()
    assert poses.height >= 1
    assert poses.width >= 1
    assert 0 < poses.fps < float("inf")
    if len(poses):
        poses.save(folder / "again.npz")
        PoseSequence.load(folder / "again.npz")


def adjustments(folder: Path) -> None:
    keyframes = [
        {"frame": 0, "points": {"left_wrist": [0.1, 0]}},
        {"seconds": 0.05, "points": {"head": [0, 0.1]}},
    ]
    content = {
        "scale": 1.1,
        "offset": [0.02, 0],
        "rotate": 3,
        "limbs": {"forearm": 1.1},
        "keyframes": keyframes,
    }
    (place(folder, "all") / "a.yaml").write_text(yaml.safe_dump({**content, "person": 0}))


def read_adjustment(folder: Path) -> None:
    try:
        content = yaml.safe_load(first(folder).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError, LookupError, AttributeError, yaml.YAMLError):
        return  # not ours to read: `adjust` is a part of settings
    adjusted = adjust_pose(clip(num_frames=2), Adjustment.from_dict(content))
    assert np.isfinite(adjusted.points).all()
