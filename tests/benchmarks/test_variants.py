"""The page of the three systems says what was measured."""

from __future__ import annotations

import json

import pytest

from benchmarks.variants import (
    KEPT,
    MINI_PAGE,
    PAGE,
    ROOT,
    between_markers,
    comparison_table,
    compute_table,
    growth_table,
    quality_of_all,
    quality_table,
    size_table,
    summarise,
)


def row(variant: str, clip: int, psnr: float) -> dict[str, object]:
    return {
        "variant": variant, "clip": f"clip-{clip}", "seed": 0, "metrics": {"psnr": psnr}, "seconds": 2.0,
        "num_frames": 4, "peak_memory_mb": 100.0, "model": {"weights_sha256": f"hash of {variant}"},
    }  # fmt: skip


def test_the_winner_is_marked_only_where_it_is_sure() -> None:
    clear = summarise(
        [row(name, clip, 20 + clip + better) for name, better in (("a", 0), ("b", 5)) for clip in range(8)]
    )
    assert clear["metrics"][0]["winner"] == "b"
    line = comparison_table(clear).splitlines()[2]
    assert line.startswith("| PSNR, more is better | 23.5 (")
    assert line.count("**28.5 (") == 1
    assert "| s a frame, median | 0.5 | 0.5 |" in comparison_table(clear)
    mixed = summarise(
        [row(name, clip, 20 + (clip if name == "a" else 7 - clip)) for name in "ab" for clip in range(8)]
    )
    assert "**" not in comparison_table(mixed)


def test_content_goes_between_its_markers() -> None:
    text = "a\n<!-- one -->\nold\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\n"
    assert between_markers(text, "two", "new").endswith("b\n<!-- two -->\nnew\n<!-- end -->\n")
    assert "old" not in between_markers(text, "one", "new")
    with pytest.raises(ValueError, match="three"):
        between_markers(text, "three", "new")


def test_the_page_shows_what_the_results_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    folder = ROOT / "benchmarks" / "results"
    quality = quality_of_all()
    assert quality_table(quality) in page
    assert size_table() in page
    assert compute_table(json.loads((folder / "mini_compute.json").read_text(encoding="utf-8"))) in page
    assert comparison_table(json.loads(KEPT.read_text(encoding="utf-8"))) in page
    assert growth_table(quality_of_all("_96"), quality) in MINI_PAGE.read_text(encoding="utf-8")
