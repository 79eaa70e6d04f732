"""Pictures come in upright, opaque, RGB, eight bits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mimic.video import PictureError, read_image, write_image
from tests.media import numbered_frame

UPRIGHT = numbered_frame(5, 40, 60)
# EXIF orientation -> what must be done to an upright picture to store it so.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](UPRIGHT)))
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), UPRIGHT)


def test_transparency_becomes_white_paper(tmp_path: Path) -> None:
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[:, :4] = (10, 20, 30, 255)
    rgba[:, 4:6] = (100, 0, 0, 128)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.shape == (8, 8, 3)
    assert image[0, 0].tolist() == [10, 20, 30]
    assert image[0, 7].tolist() == [255, 255, 255]
    assert image[0, 5].tolist() == [177, 127, 127]


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.tile(np.linspace(0, 255, 16, dtype=np.uint8), (16, 1))
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
    else:
        suffix = "tif" if mode == "CMYK" else "png"
        Image.fromarray(grey).convert(mode).save(tmp_path / f"a.{suffix}")
    image = read_image(next(tmp_path.iterdir()))
    assert image.shape == (16, 16, 3)
    assert image.dtype == np.uint8
    assert image[:, 0].max() < 5
    assert image[:, -1].min() > 250


def test_what_is_no_picture_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no picture"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(PictureError, match="is not a picture"):
        read_image(tmp_path / "text.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(
        tmp_path / "whole.jpg"
    )
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(PictureError, match="cannot be read"):
        read_image(tmp_path / "half.jpg")


def test_written_pictures_round_trip_and_leave_nothing_beside(tmp_path: Path) -> None:
    write_image(tmp_path / "new" / "a.png", UPRIGHT)
    assert np.array_equal(read_image(tmp_path / "new" / "a.png"), UPRIGHT)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    with pytest.raises(PictureError, match="suffix"):
        write_image(tmp_path / "a.txt", UPRIGHT)
