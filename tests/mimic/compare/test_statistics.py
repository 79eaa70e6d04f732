"""The table: intervals over clips, and a best one only where it is sure."""

import numpy as np
import pytest

from mimic.compare.statistics import differing_settings, metric_lines, verdict


def rows(values: dict[str, list[list[float]]], metric: str = "psnr", **settings) -> list[dict]:
    """Cells of variants: for each clip the values of its seeds."""
    return [
        {
            "variant": variant,
            "clip": f"clip_{clip}",
            "seed": seed,
            "metrics": {metric: value},
            "settings": {"seed": seed, "fusion": settings.get(variant, "same"), "steps": 25},
        }
        for variant, clips in values.items()
        for clip, seeds in enumerate(clips)
        for seed, value in enumerate(seeds)
    ]


HARDNESS = np.random.default_rng(0).normal(20, 4, 8)


def test_a_small_difference_on_every_clip_makes_a_winner():
    found = rows({"a": [[h, h + 0.1] for h in HARDNESS], "b": [[h + 0.5, h + 0.5] for h in HARDNESS]})
    (line,) = metric_lines(found, ["a", "b"])
    assert line.winner == "b"
    assert line.intervals["a"].mean == pytest.approx(HARDNESS.mean() + 0.05)
    assert line.intervals["a"].num == 8


def test_lower_is_better_where_it_is():
    found = rows({"a": [[h] for h in HARDNESS], "b": [[h + 0.5] for h in HARDNESS]}, "lpips")
    assert metric_lines(found, ["a", "b"])[0].winner == "a"


def test_differences_that_change_their_sign_make_no_winner():
    noise = np.random.default_rng(1).normal(0.05, 2, 8)
    found = rows({"a": [[h] for h in HARDNESS], "b": [[h + n] for h, n in zip(HARDNESS, noise)]})
    assert metric_lines(found, ["a", "b"])[0].winner is None


def test_the_best_must_be_sure_against_each_other_one():
    near = HARDNESS + np.where(np.arange(8) % 2, 0.5, -0.4)
    found = rows({"a": [[h] for h in HARDNESS], "b": [[n] for n in near], "c": [[h - 3] for h in HARDNESS]})
    assert metric_lines(found, ["a", "b", "c"])[0].winner is None


def test_a_handful_of_clips_or_one_variant_has_no_winner():
    few = rows({"a": [[h] for h in HARDNESS[:5]], "b": [[h + 0.5] for h in HARDNESS[:5]]})
    assert metric_lines(few, ["a", "b"])[0].winner is None
    assert metric_lines(rows({"a": [[1.0]], "b": [[2.0]]}), ["a", "b"])[0].winner is None
    assert metric_lines(rows({"a": [[h] for h in HARDNESS]}), ["a"])[0].winner is None


def test_settings_that_differ_are_listed_without_the_seed():
    found = rows({"a": [[1.0, 2.0]], "b": [[1.0, 2.0]]}, a="average", b="none")
    assert differing_settings(found, ["a", "b"]) == {"fusion": {"a": "average", "b": "none"}}


def test_the_verdict_names_what_is_sure_and_what_is_not():
    better = {"a": [[h] for h in HARDNESS], "b": [[h + 0.5] for h in HARDNESS]}
    noise = np.random.default_rng(1).normal(0.05, 2, 8)
    equal = {"a": [[h] for h in HARDNESS], "b": [[h + n] for h, n in zip(HARDNESS, noise)]}
    found = rows(better) + rows(equal, "ssim")
    merged = [
        one | {"metrics": one["metrics"] | other["metrics"]}
        for one, other in zip(rows(better), rows(equal, "ssim"))
    ]
    sure, unsure = verdict(metric_lines(merged, ["a", "b"]), ["a", "b"])
    mean = HARDNESS.mean()
    assert sure == [f"b has the best PSNR: {mean + 0.5:.4g} dB; next is a with {mean:.4g} (8 clips)."]
    assert unsure == ["By SSIM no variant is surely the best: differences may be chance."]
    assert verdict(metric_lines(found, ["a"]), ["a"])[0] == []


@pytest.mark.parametrize(("num_clips", "told"), [(1, "1 clip is"), (5, "5 clips are")])
def test_the_verdict_says_that_few_clips_prove_nothing(num_clips, told):
    hardness = HARDNESS[:num_clips]
    few = rows({"a": [[h] for h in hardness], "b": [[h + 0.5] for h in hardness]})
    sure, unsure = verdict(metric_lines(few, ["a", "b"]), ["a", "b"])
    assert sure == []
    assert unsure == [f"{told} too few to call any variant the best; at least 6 are needed."]
