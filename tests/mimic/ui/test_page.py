"""The page, put together but not served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.data_classes import ImageData
from PIL import Image

from mimic.ui.handlers import Handlers
from mimic.ui.page import build_page
from mimic.ui.reports import Reports
from mimic.ui.studio import Studio


@pytest.fixture
def page(tmp_path: Path) -> gr.Blocks:
    return build_page(Handlers(Studio(tmp_path)), Reports(tmp_path))


def block(page: gr.Blocks, name: str) -> Any:
    (found,) = [each for each in page.blocks.values() if getattr(each, "elem_id", None) == name]
    return found


def test_pictures_reach_our_reader_as_they_were_uploaded(page: gr.Blocks, tmp_path: Path) -> None:
    """Gradio would flatten what is transparent, and open no HEIC."""
    path = tmp_path / "cut-out.png"
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(path)
    (tmp_path / "a.heic").write_bytes(b"not for Pillow")
    picture = block(page, "picture")
    for each in (path, tmp_path / "a.heic"):
        assert picture.preprocess(ImageData(path=str(each), orig_name=each.name)) == str(each)
    assert picture.preprocess(None) is None


def test_every_correction_fits_again_however_it_is_made(page: gr.Blocks) -> None:
    """Arrow keys change a slider and release nothing."""
    refits = [each for each in page.fns.values() if getattr(each.fn, "__name__", "") == "refit"]
    targets = {target for each in refits for target in each.targets}
    for name in ("align", "anchor", "adjust-rotate", "adjust-scale", "adjust-limbs-shin"):
        assert (block(page, name)._id, "change") in targets


def test_new_inputs_make_the_fit_outdated(page: gr.Blocks) -> None:
    found = [each for each in page.fns.values() if getattr(each.fn, "__name__", "") == "outdated"]
    targets = {target for each in found for target in each.targets}
    assert targets == {
        (block(page, name)._id, "change") for name in ("picture", "clip", "start", "end", "person")
    }
