import numpy as np
import PIL.Image
import pytest
import torch

from mimic.data.transforms import (
    Compatibility,
    as_pictures,
    frames_to_uint8,
    picture_to_tensor,
    pose_maps_to_tensor,
    prepare_reference,
    target_size,
)
from tests.tiny import golden_image, golden_json

GREYS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


@pytest.mark.parametrize("name", sorted(golden_json("preprocess/preprocess")["cases"]))
def test_a_prepared_reference_is_the_recorded_one_exactly(name):
    case = golden_json("preprocess/preprocess")["cases"][name]
    prepared = prepare_reference(
        np.array(golden_image(f"preprocess/{name}_in.png")), resolution=case["resolution"]
    )
    assert list(prepared.shape[:2]) == case["out_hw"]
    assert np.array_equal(prepared, np.array(golden_image(f"preprocess/{name}_out.png")))
    height, width = case["out_hw"]
    by_size = prepare_reference(
        np.array(golden_image(f"preprocess/{name}_in.png")), height=height, width=width
    )
    assert np.array_equal(by_size, prepared)


def test_target_sizes_are_the_recorded_ones():
    for name, size in golden_json("preprocess/preprocess")["target_sizes"].items():
        image, resolution = name.split("@")
        height, width = image.split("x")
        assert list(target_size(int(height), int(width), int(resolution))) == size, name


@pytest.mark.parametrize(("dtype", "num_changed"), [(torch.float32, 63), (torch.float16, 20)])
def test_the_truncating_round_trip_is_the_recorded_one(dtype, num_changed):
    released = Compatibility.released(dtype)
    truncated = prepare_reference(GREYS, height=16, width=16, compatibility=released)[..., 0].ravel()
    assert truncated.tolist() == golden_json("reference_image_roundtrip")[str(dtype).removeprefix("torch.")]
    assert (truncated != np.arange(256)).sum() == num_changed


def test_by_default_no_grey_level_is_lost():
    assert np.array_equal(prepare_reference(GREYS, height=16, width=16), GREYS)


def test_pose_maps_in_half_precision_are_the_recorded_ones():
    maps = pose_maps_to_tensor(GREYS[None], torch.float16)
    assert maps.shape == (1, 3, 16, 16)
    expected = torch.tensor(golden_json("reference_image_roundtrip")["pose_pixel_float16"])
    assert torch.equal(maps[0, 0].flatten().float(), expected)


def test_frames_are_rounded_and_cut_off_only_to_match_the_released_code():
    frames = (
        torch.tensor([0.0, 0.5 / 255, 0.6 / 255, 1.9 / 255, 1.0, 1.2]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    )
    assert frames_to_uint8(frames)[0, 0, :, 0].tolist() == [0, 0, 1, 2, 255, 255]
    cut_off = frames_to_uint8(frames, Compatibility.released())
    assert cut_off[0, 0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (GREYS, {}, "give either resolution, or height and width"),
        (GREYS, {"resolution": 64, "height": 8, "width": 8}, "give either"),
        (GREYS, {"height": 8}, "give either"),
        (GREYS, {"resolution": 20}, "long side would be 0"),
        (GREYS[..., 0], {"resolution": 64}, r"uint8 of shape \(16, 16\)"),
        (GREYS.astype(np.float32), {"resolution": 64}, "float32 of shape"),
    ],
)
def test_what_cannot_be_prepared_is_explained(image, arguments, message):
    with pytest.raises(ValueError, match=message):
        prepare_reference(image, **arguments)


def test_pictures_of_every_form_are_the_same_picture():
    picture = golden_image()
    array = np.array(picture)
    tensor = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 255
    forms = [
        picture, [picture], array, array[None], tensor, tensor[0], picture.convert("RGBA"),
        tensor[0].permute(1, 2, 0), (tensor * 255).round().to(torch.uint8), tensor.numpy(),
        tensor[0].permute(1, 2, 0).numpy(), tensor[0].permute(1, 2, 0).numpy()[None].astype("float64"),
    ]  # fmt: skip
    for form in forms:
        (one,) = as_pictures(form)
        assert torch.equal(picture_to_tensor(one), tensor)
    assert len(as_pictures([picture, tensor.repeat(2, 1, 1, 1)])) == 3


def test_pictures_of_another_size_are_resized():
    tensor = torch.rand(1, 3, 20, 30)
    assert picture_to_tensor(PIL.Image.new("RGB", (30, 20)), (8, 12)).shape == (1, 3, 8, 12)
    (one,) = as_pictures(tensor)
    resized = picture_to_tensor(one, (8, 12))
    assert resized.shape == (1, 3, 8, 12)
    assert resized.min() >= 0
    assert resized.max() <= 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(1, 3, 4, 4) * 2 - 1, r"have to be in \[0, 1\]"),
        (torch.full((3, 4, 4), float("nan")), r"have to be in \[0, 1\]"),
        (np.full((4, 4, 3), 128.0), r"have to be in \[0, 1\]"),
        (torch.rand(1, 4, 4, 4), r"Tensor of shape \(1, 4, 4, 4\)"),
        ("picture.png", "the image is a str"),
        (np.zeros((4, 4, 3), dtype=np.int32), "int32"),
    ],
)
def test_what_is_no_picture_is_explained(image, message):
    with pytest.raises(ValueError, match=message):
        as_pictures(image)
