"""Settings are resolved once: which value counts, which windows follow, what is refused before any work."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import pytest
import torch

from mimic.families.base import AnimationPipeline
from mimic.families.registry import FAMILIES
from mimic.sampling.windows import lay_windows
from tests.robustness.messages import ODD, fault_of
from tests.tiny import random_image, random_poses

HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module", params=list(FAMILIES))
def pipe(request: pytest.FixtureRequest) -> AnimationPipeline[Any, Any]:
    return FAMILIES[request.param].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)


def plan(pipe: AnimationPipeline[Any, Any], num_frames: int = 20, **settings: Any) -> Any:
    return pipe.plan(num_frames=num_frames, height=HEIGHT, width=WIDTH, **settings)


def test_a_setting_is_that_of_the_call_else_of_the_weights_else_the_released_one(
    pipe: AnimationPipeline[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "generation_defaults", {"num_inference_steps": 3, "warning": "no setting"})
    assert plan(pipe, num_inference_steps=1).num_inference_steps == 1
    assert plan(pipe).num_inference_steps == 3
    assert plan(pipe, num_inference_steps=None).num_inference_steps == 3
    assert plan(pipe).decode_chunk_size == pipe.released["decode_chunk_size"]


def test_an_overlap_that_is_left_out_fits_the_window_and_one_that_is_given_is_checked(
    pipe: AnimationPipeline[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "generation_defaults", {"tile_overlap": 6})
    assert plan(pipe, tile_size=6).tile_overlap == 5
    assert plan(pipe, tile_size=1).tile_overlap == 0
    with pytest.raises(ValueError, match="overlap is 6"):
        plan(pipe, tile_size=6, tile_overlap=6)


def test_context_of_chunks_is_none_unless_asked_for_and_fits_the_chunk(
    pipe: AnimationPipeline[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plan(pipe).decode_overlap == 0
    assert plan(pipe, decode_overlap=3).as_settings()["decode_overlap"] == 3
    monkeypatch.setattr(pipe, "generation_defaults", {"decode_overlap": 2})
    assert [plan(pipe, decode_chunk_size=size).decode_overlap for size in (1, 2, 4, 5, 8)] == [0, 0, 1, 2, 2]
    with pytest.raises(ValueError, match=r"decode_overlap is 4, at both ends of a chunk of 8 frames"):
        plan(pipe, decode_overlap=4)


def test_windows_are_those_of_the_layout_that_is_written_down(pipe: AnimationPipeline[Any, Any]) -> None:
    for layout in pipe.layouts:
        made = plan(pipe, tile_size=8, tile_overlap=3, windows=layout)
        assert made.windows == lay_windows(20, 8, 3, layout)
        assert made.as_settings()["windows"] == layout
    absent = {"reference", "closed", "sliding"} - set(pipe.layouts)
    for layout in absent:
        with pytest.raises(ValueError, match=f"windows '{layout}' is not known"):
            plan(pipe, windows=layout)


@pytest.mark.parametrize("fusion", ["progressive", "none"])
def test_fusions_that_go_by_the_order_of_windows_never_get_closed_ones(fusion: str) -> None:
    for name in ("animate_anyone", "magic_animate"):
        pipe = FAMILIES[name].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
        assert plan(pipe).layout == "closed"
        assert plan(pipe, fusion=fusion).as_settings()["windows"] == "sliding"
        pipe.generation_defaults = {"fusion": fusion}
        assert plan(pipe).layout == "sliding"
        with pytest.raises(ValueError, match=f"'{fusion}'.*closed"):
            plan(pipe, fusion=fusion, windows="closed")


def test_one_guidance_scale_stands_for_both_ends(pipe: AnimationPipeline[Any, Any]) -> None:
    for given in ({"guidance_scale": 3.0}, {"min_guidance_scale": 3.0}, {"max_guidance_scale": 3.0}):
        assert torch.equal(plan(pipe, 4, **given).guidance_scales, torch.full((4,), 3.0))
    ramp = plan(pipe, 3, min_guidance_scale=1.0, max_guidance_scale=3.0).guidance_scales
    assert ramp.tolist() == [1, 2, 3]


def test_the_call_spells_out_its_settings_and_refuses_others(pipe: AnimationPipeline[Any, Any]) -> None:
    parameters = inspect.signature(type(pipe).__call__).parameters
    others = {ours: name for name, ours in getattr(pipe.Settings, "OTHER_NAMES", {}).items()}
    assert {others.get(name, name) for name in pipe.Settings.model_fields} <= set(parameters)
    assert all(name in (type(pipe).__call__.__doc__ or "") for name in parameters if name != "self")
    with pytest.raises(TypeError, match="takes no argument 'tile_sise'; did you mean 'tile_size'"):
        pipe(None, tile_sise=4)
    with pytest.raises(ValueError, match=r"has no setting tile_sise; did you mean tile_size\?"):
        plan(pipe, tile_sise=4)


def test_the_frame_rate_passed_to_the_model_has_its_released_name_in_the_call() -> None:
    pipe = FAMILIES["mimicmotion"].tiny_pipeline(height=HEIGHT, width=WIDTH, seed=0)
    assert plan(pipe, fps=9).settings.conditioning_fps == 9
    pipe.generation_defaults = {"fps": 8}
    assert plan(pipe).settings.conditioning_fps == 8


@pytest.mark.parametrize("place", ["stored", "given"])
def test_values_of_any_kind_are_taken_or_told_in_a_sentence(
    pipe: AnimationPipeline[Any, Any], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    values = [ODD, "7", "9" * 5000, "fast", "closed", [], [[1]], {"a": 1}, True, -1, 1e30, math.nan, math.inf]
    odd = [*values, -math.inf, 10**400, b"1", torch.zeros(2)]
    for name, value in itertools.product(plan(pipe).as_settings(), odd):
        stored = {"num_inference_steps": 2, "tile_size": 6, "tile_overlap": 2}
        given = {"num_frames": 20, "height": HEIGHT, "width": WIDTH}
        (stored if place == "stored" else given)[name] = value
        monkeypatch.setattr(pipe, "generation_defaults", stored)
        if place == "stored" and name in ("height", "width"):
            del given[name]
        said = ""
        try:
            pipe.plan(**given)
        except ValueError as error:
            said = str(error)
        assert fault_of(said or "taken") is None, f"{name}: {said}"


def test_settings_by_position_are_those_by_name(pipe: AnimationPipeline[Any, Any]) -> None:
    image, poses = random_image(HEIGHT, WIDTH), random_poses(4, HEIGHT, WIDTH)
    rest = {"guidance_scale": 1.0, "output_type": "latent", "return_dict": False}
    by_position = pipe(
        image, poses, HEIGHT, WIDTH, 4, 3, 1, 1, generator=torch.Generator().manual_seed(0), **rest
    )
    by_name = pipe(
        image, poses, HEIGHT, WIDTH, 4, tile_size=3, tile_overlap=1, num_inference_steps=1,
        generator=torch.Generator().manual_seed(0), **rest,
    )  # fmt: skip
    assert torch.equal(by_position, by_name)
    with pytest.raises(TypeError, match="two values for 'tile_size'"):
        pipe(image, poses, HEIGHT, WIDTH, 4, 3, tile_size=3)
    with pytest.raises(TypeError, match="by position"):
        pipe(image, *[None] * 40)
