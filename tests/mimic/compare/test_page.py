"""The page of a comparison: names are shown and never become markup."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mimic.compare.inputs import prepare_clips
from mimic.compare.page import write_page
from mimic.compare.settings import CompareConfig
from mimic.config.loading import build
from mimic.video import VideoWriter
from pose.blazepose import BlazePose

HOSTILE = [
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script><script>alert(1)</script>",
    "{{7*7}}&amp;",
]


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.labels: set[str] = set()
        self.sprites: list[dict] = []
        self.text = ""

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.labels |= {value for name, value in attrs if name == "aria-label"}
        self.sprites += [json.loads(value) for name, value in attrs if name == "data-sprite"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    settings = {
        "title": "t",
        "clips": {"num_clips": 1, "num_frames": 3},
        "variants": [{"name": "v", "model": "m"}],
    }
    config = build(CompareConfig, settings)
    clips = prepare_clips(config.clips, folder / "clips", size=(32, 32), estimator=BlazePose)
    with VideoWriter(folder / "v.mp4", height=32, width=32, fps=8) as writer:
        for _ in range(3):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    model = {"name": "m", "pipeline": "P", "weights_sha256": {"f": "0" * 64}, "device": "cpu"}
    row = {
        "variant": "v", "clip": clips[0].name, "seed": 0, "metrics": {"psnr": 20.0}, "seconds": 1.0,
        "num_frames": 3, "peak_memory_mb": 1.0, "peak_gpu_memory_mb": None, "settings": {"fusion": "none"},
        "model": model, "networks": {}, "versions": {}, "video": "v.mp4",
    }  # fmt: skip
    return folder, config, clips[0], row


def elements(path, parts, name: str) -> Elements:
    """The page with `name` wherever a user's words can stand."""
    _, config, clip, row = parts
    config = config.model_copy(update={"title": name})
    model = {**row["model"], "name": name, "weights_sha256": {name: name}, "device": name}
    row = row | {"clip": name, "settings": {name: name}, "model": model, "versions": {name: name}}
    other = row | {"variant": "w", "settings": {name: "other"}}
    variants = (config.variants[0], config.variants[0].model_copy(update={"name": "w"}))
    config = config.model_copy(update={"variants": variants})
    sets = {"v": {"fid": {"value": None, "not_measured": name}}}
    write_page(path, config, [replace(clip, name=name)], [row, other], sets)
    found = Elements()
    found.feed(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_becomes_markup(parts, name):
    plain = elements(parts[0] / "plain.html", parts, "plain")
    hostile = elements(parts[0] / "hostile.html", parts, name)
    assert hostile.tags == plain.tags
    assert hostile.attributes == plain.attributes
    assert f"frame of {name}" in hostile.labels
    assert hostile.sprites == plain.sprites
    assert {sprite["num_frames"] for sprite in hostile.sprites} == {1, 3}
    assert "49&amp;" not in (parts[0] / "hostile.html").read_text(encoding="utf-8")


def words(path, parts, num_clips: int, **named) -> str:
    """The text of a page of two variants on some clips."""
    _, config, clip, row = parts
    variants = [config.variants[0].model_copy(update={"name": name}) for name in ("v", "w")]
    config = config.model_copy(update={"variants": tuple(variants)})
    clips = [replace(clip, name=f"clip_{number}") for number in range(num_clips)]
    rows = [row | {"variant": v.name, "clip": clip.name} for v in variants for clip in clips]
    write_page(path, config, clips, rows, {}, **named)
    found = Elements()
    found.feed(path.read_text(encoding="utf-8"))
    return " ".join(found.text.split())


def test_an_interval_is_named_only_where_one_is_shown(parts):
    one, two = (words(parts[0] / "counts.html", parts, num_clips) for num_clips in (1, 2))
    assert "Each value is of one clip, so there are no intervals; ↑ more is better" in one
    assert "20 … 20" not in one
    assert "and below each its 95 % percentile bootstrap interval; ↑ more is better" in two
    assert "20 … 20" in two


@pytest.mark.parametrize(("missing", "said"), [(0, ""), (1, "; 1 is missing"), (2, "; 2 are missing")])
def test_the_page_counts_what_it_shows(parts, missing, said):
    text = words(parts[0] / "counts.html", parts, 1, missing=missing)
    assert f"2 variants, 1 clip, 1 seed: 2 results{said}. Same reference" in text
    assert "1 clip is too few to call any variant the best" in text


def test_settings_are_called_what_they_are_written_as(parts):
    text = words(parts[0] / "counts.html", parts, 1)
    _, _, after = text.partition("The comparison's settings, filled in, as JSON")
    content, _ = json.JSONDecoder().raw_decode(after)
    assert content["title"] == "t"
