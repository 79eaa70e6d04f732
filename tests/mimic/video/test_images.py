"""Pictures come in upright, opaque, RGB, eight bits."""

import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms

from mimic.video import PictureError, picture_from, read_image, write_image
from mimic.video.images import MAX_ASPECT
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


def profile(primaries: list[tuple[float, float]], gamma: float, white: tuple[float, float]) -> bytes:
    """A matrix profile (ICC.1:2001-04) of three primaries, a gamma and a white point, as chromaticities."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1, (1 - x - y) / y])

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    columns = np.array([xyz(*primary) for primary in primaries]).T
    matrix = columns * np.linalg.solve(columns, xyz(*white))
    # Bradford cone response
    cone = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1, 0.8249])
    adapted = np.linalg.inv(cone) @ np.diag((cone @ d50) / (cone @ xyz(*white))) @ cone @ matrix
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
    }
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + b"".join(map(number, d50))
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), adapted.T):
        tags[name] = b"XYZ \0\0\0\0" + b"".join(map(number, column))
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data = b"", b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">I", 128 + len(body)) + bytes(4) + b"\x02\x40\0\0mntrRGB XYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(map(number, d50))
    return head.ljust(128, b"\0") + body


D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
PROFILES = {
    "display p3": ([(0.680, 0.320), (0.265, 0.690), (0.150, 0.060)], 2.2, D65),
    "adobe rgb": ([(0.64, 0.33), (0.21, 0.71), (0.15, 0.06)], 563 / 256, D65),
    "prophoto": ([(0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001)], 1.8, D50),
}


def muted() -> Image.Image:
    """Colours well inside sRGB, smooth, so that eight bits and JPEG cost little."""
    rows, columns = np.mgrid[0:48, 0:64]
    channels = 90 + 1.5 * rows, 80 + 1.2 * columns, 200 - rows - columns
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_colours_are_those_that_a_viewer_of_profiles_shows(tmp_path: Path, name: str, suffix: str) -> None:
    content = profile(*PROFILES[name])
    srgb = ImageCms.createProfile("sRGB")
    stored = ImageCms.profileToProfile(muted(), srgb, ImageCms.ImageCmsProfile(io.BytesIO(content)))
    more = {"quality": 98} if suffix in ("jpg", "webp") else {}
    stored.save(tmp_path / f"a.{suffix}", icc_profile=content, **more)
    shown = read_image(tmp_path / f"a.{suffix}").astype(int)
    assert np.abs(shown - np.asarray(muted()).astype(int)).mean() < 2
    with Image.open(tmp_path / f"a.{suffix}") as image:
        np.testing.assert_array_equal(picture_from(image), shown)


def test_a_profile_counts_for_transparent_pictures_too(tmp_path: Path) -> None:
    content = profile(*PROFILES["prophoto"])
    srgb = ImageCms.createProfile("sRGB")
    stored = ImageCms.profileToProfile(muted(), srgb, ImageCms.ImageCmsProfile(io.BytesIO(content)))
    stored.putalpha(255)
    stored.save(tmp_path / "a.png", icc_profile=content)
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - np.asarray(muted())).mean() < 2


def test_the_profile_of_srgb_itself_and_a_broken_one_change_no_pixel(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for number, content in enumerate((srgb, b"not a profile", srgb[:200])):
        Image.fromarray(UPRIGHT).save(tmp_path / f"{number}.png", icc_profile=content)
        assert np.array_equal(read_image(tmp_path / f"{number}.png"), UPRIGHT)


def pictures() -> dict[str, tuple[Image.Image, str]]:
    grey = np.tile(np.linspace(0, 255, 64), (48, 1))
    rgba = np.dstack([UPRIGHT, np.full(UPRIGHT.shape[:2], 255, np.uint8)])
    rgba[:, :20] = (0, 255, 0, 0)
    palette = Image.fromarray(UPRIGHT).quantize(16)
    palette.info["transparency"] = 3
    return {
        "rgb": (Image.fromarray(UPRIGHT), "png"),
        "hidden colour": (Image.fromarray(rgba), "png"),
        "palette": (palette, "png"),
        "grey": (Image.fromarray(grey.astype(np.uint8)), "png"),
        "grey with alpha": (Image.fromarray(rgba).convert("LA"), "png"),
        "one bit": (Image.fromarray(UPRIGHT).convert("1"), "png"),
        "16 bit": (Image.fromarray((grey * 257).astype(np.uint16)), "png"),
        "16 bit tiff": (Image.fromarray((grey * 257).astype(np.uint16)), "tif"),
        "32 bit": (Image.fromarray((grey * 257).astype(np.int32)), "tif"),
        "float": (Image.fromarray((grey / 255).astype(np.float32)), "tif"),
        "float of 255": (Image.fromarray(grey.astype(np.float32)), "tif"),
        "cmyk": (Image.fromarray(UPRIGHT).convert("CMYK"), "tif"),
        "ycbcr": (Image.fromarray(UPRIGHT).convert("YCbCr"), "tif"),
        "lab": (
            ImageCms.profileToProfile(
                muted(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
            ),
            "tif",
        ),
    }


@pytest.mark.parametrize("name", pictures())
def test_a_picture_is_the_same_by_path_and_in_memory(tmp_path: Path, name: str) -> None:
    if name == "ycbcr" and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip("Pillow 12 cannot read the YCbCr TIFFs that it writes")
    image, suffix = pictures()[name]
    image.save(tmp_path / f"a.{suffix}")
    by_path = read_image(tmp_path / f"a.{suffix}")
    assert by_path.dtype == np.uint8
    assert by_path.shape == (image.height, image.width, 3)
    np.testing.assert_array_equal(picture_from(image), by_path)
    np.testing.assert_array_equal(picture_from(str(tmp_path / f"a.{suffix}")), by_path)
    if "bit" in name or "float" in name or name == "grey":
        assert by_path[:, 0].max() < 5 or name == "one bit"
        assert by_path[:, -1].min() > 250 or name == "one bit"
    if name in ("hidden colour", "grey with alpha"):
        assert (by_path[:, :20] == 255).all()
    if name == "lab":
        assert np.abs(by_path.astype(int) - np.asarray(muted())).mean() < 2


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_opened_photo_is_upright_in_memory(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](UPRIGHT)))
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(picture_from(Image.open(tmp_path / "a.png")), UPRIGHT)


def test_arrays_of_every_usual_kind_are_pictures() -> None:
    assert picture_from(UPRIGHT) is not None
    np.testing.assert_array_equal(picture_from(UPRIGHT), UPRIGHT)
    np.testing.assert_array_equal(picture_from(UPRIGHT / 255), UPRIGHT)
    np.testing.assert_array_equal(picture_from((UPRIGHT / 255).astype(np.float32)), UPRIGHT)
    np.testing.assert_array_equal(picture_from(UPRIGHT.astype(np.uint16) * 257), UPRIGHT)
    above_white = UPRIGHT / 255
    above_white[0, 0] = 1.05  # as filters that sharpen leave it
    np.testing.assert_array_equal(picture_from(above_white)[1:], UPRIGHT[1:])
    assert (picture_from(above_white)[0, 0] == 255).all()
    grey = UPRIGHT[..., 0]
    for array in (grey, grey[..., None]):
        np.testing.assert_array_equal(picture_from(array), grey[..., None].repeat(3, axis=2))
    hidden = np.dstack([UPRIGHT, np.zeros_like(grey)])
    assert (picture_from(hidden) == 255).all()
    assert set(np.unique(picture_from(grey > 100))) == {0, 255}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (np.zeros((3, 20, 20), np.uint8), "shape"),
        (np.zeros((20, 20, 2), np.uint8), "shape"),
        (np.zeros(20, np.uint8), "shape"),
        (np.full((20, 20, 3), np.nan), "finite"),
        (np.full((20, 20, 3), -0.5), "floats from -0.5"),
        (np.zeros((20, 20, 3), np.int64), "int64"),
        (np.zeros((0, 20, 3), np.uint8), "20x0 pixels"),
        (np.zeros((4, 2000, 3), np.uint8), "2000x4 pixels"),
        (Image.new("L", (2000, 4)), "2000x4 pixels"),
        ([1, 2, 3], "is a list"),
    ],
)
def test_what_cannot_be_a_picture_in_memory_is_said(source: object, said: str) -> None:
    with pytest.raises(PictureError, match=said):
        picture_from(source, name="the reference picture")  # type: ignore[arg-type]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, and little else."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(9)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height"), [(30_000, 1), (1, 30_000), (2000, 4), (19_000, 19_000), (2**31 - 1, 2**31 - 1)]
)
def test_sizes_that_no_result_can_have_are_refused_before_decoding(
    tmp_path: Path, width: int, height: int
) -> None:
    (tmp_path / "a.png").write_bytes(png_of_size(width, height))
    with pytest.raises(PictureError, match="pixels"):
        read_image(tmp_path / "a.png")


def test_a_wide_picture_within_the_limits_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (16 * MAX_ASPECT, 16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").shape == (16, 16 * MAX_ASPECT, 3)


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes are files on POSIX only")
def test_a_pipe_or_device_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(PictureError, match="is a named pipe; expected a picture file"):
        read_image(tmp_path / "a.png")
    with pytest.raises(PictureError, match="is a device"):
        read_image("/dev/null")
    with pytest.raises(PictureError, match="is a folder"):
        read_image(tmp_path)


def test_heic_is_read_or_the_extra_is_named(tmp_path: Path) -> None:
    try:
        import pillow_heif
    except ImportError:
        (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
        with pytest.raises(PictureError, match=r"which needs pillow-heif: pip install '.*\[heif\]'"):
            read_image(tmp_path / "a.jpg")
        return
    pillow_heif.from_pillow(muted()).save(tmp_path / "a.heic", quality=95)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - np.asarray(muted())).mean() < 3


# OpenCV before 5 writes three channels of floats in LogLuv else, which loses digits.
UNCOMPRESSED = [cv2.IMWRITE_TIFF_COMPRESSION, 1]


@pytest.mark.parametrize("num_channels", [3, 4])
def test_float_tiffs_of_several_channels_are_read(
    tmp_path: Path, num_channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = np.dstack([UPRIGHT, np.full(UPRIGHT.shape[:2], 255, np.uint8)])[..., :num_channels]
    stored = np.ascontiguousarray(colours[..., [2, 1, 0, 3][:num_channels]].astype(np.float32) / 255)
    assert cv2.imwrite(str(tmp_path / "a.tif"), stored, UNCOMPRESSED)
    path = (tmp_path / "a.tif").rename(tmp_path / "舞蹈.tif")
    monkeypatch.setattr(cv2, "imread", lambda *given: None)  # as on Windows, for letters outside ASCII
    assert np.array_equal(read_image(path), UPRIGHT)


def test_a_float_tiff_of_absurd_size_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*given: object) -> None:
        raise AssertionError("decoded")

    assert cv2.imwrite(str(tmp_path / "a.tif"), np.zeros((8, 8, 3), np.float32), UNCOMPRESSED)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    for tag, value in ((256, 30_000), (257, 30_000)):
        place = content.index(struct.pack("<HHI", tag, 3, 1))  # a short number
        content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, value)
    (tmp_path / "a.tif").write_bytes(content)
    monkeypatch.setattr(cv2, "imdecode", decoded)
    with pytest.raises(PictureError, match="30000x30000 pixels"):
        read_image(tmp_path / "a.tif")


def test_an_icon_is_as_large_as_the_picture_inside(tmp_path: Path) -> None:
    packed = io.BytesIO()
    Image.new("RGB", (30_000, 1)).save(packed, "png")
    entry = struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, len(packed.getvalue()), 22)
    (tmp_path / "a.ico").write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + packed.getvalue())
    with warnings.catch_warnings(), pytest.raises(PictureError, match="30000x1 pixels"):
        warnings.simplefilter("ignore")  # Pillow says that the size is another one
        read_image(tmp_path / "a.ico")
