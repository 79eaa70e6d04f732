import logging

import pytest
import torch

from mimic.data.transforms import picture_to_tensor
from mimic.models.image_embedding import clip_pixels, embed_images, image_processor_class, resize_antialiased
from tests.tiny import golden, golden_image, golden_pipeline


def test_antialiased_resize_is_the_recorded_one():
    recorded = golden("antialias_608x464_to_224")
    image = picture_to_tensor(golden_image("antialias_input_608x464.png")) * 2 - 1
    resized = resize_antialiased(image, 224, 224)
    torch.testing.assert_close(
        resized[..., ::2, ::2], recorded["resized_rows_cols_every_2"], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(resized[..., :24, :24], recorded["resized_corner_24"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(100, 30), (9, 90), (30, 30)])
def test_a_plain_picture_stays_plain(height, width):
    resized = resize_antialiased(torch.full((1, 3, height, width), 0.3), 16, 16)
    torch.testing.assert_close(resized, torch.full((1, 3, 16, 16), 0.3), atol=1e-5, rtol=0)


@torch.no_grad()
def test_embedding_is_the_recorded_one():
    recorded = golden("image_branch")
    pipe = golden_pipeline()
    picture = picture_to_tensor(golden_image())
    pixels = clip_pixels(picture, pipe.feature_extractor, 224)
    torch.testing.assert_close(
        pixels[..., ::2, ::2], recorded["clip_pixel_values_every_2"], atol=1e-5, rtol=0
    )
    embedding = embed_images(pipe.image_encoder, pipe.feature_extractor, picture)
    torch.testing.assert_close(embedding, recorded["image_embeddings_cfg"][1:], atol=1e-4, rtol=0)


def test_the_image_processor_comes_without_a_notice_and_the_log_level_stays(caplog):
    level = logging.getLogger("transformers").level
    with caplog.at_level(logging.WARNING):
        assert hasattr(image_processor_class(), "from_pretrained")
    assert not caplog.records
    assert logging.getLogger("transformers").level == level
