"""From the measurements to `docs/ablation.md`: its numbers come from the JSON files alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.ablation.failing import FAILURES
from benchmarks.ablation.fusion import SAMPLINGS, WAYS
from benchmarks.ablation.prose import AFTER_CONFIDENCE, AFTER_FUSION, BEFORE, EARLIER, PICTURES
from benchmarks.ablation.settings import ARMS, NAMES, AblationSettings
from benchmarks.ablation.statistics import (
    Array,
    Gain,
    Measurements,
    by_clip,
    gain,
    mean_interval,
    psnr_of,
    read,
)
from mimic.files import whole_file

AIM = 0.15
AIM_OF_SEAMS = 1.1
_COLUMNS: dict[str, tuple[str, Callable[[Array], Array], str]] = {
    "hands PSNR, dB": ("hands_mse", psnr_of, ".2f"),
    "hands SSIM": ("hands_ssim", np.asarray, ".3f"),
    "frame PSNR, dB": ("frame_mse", psnr_of, ".2f"),
    "figure PSNR, dB": ("figure_mse", psnr_of, ".2f"),
    "hand offset, px": ("hand_offset", np.asarray, ".2f"),
    "silhouette error": ("silhouette_error", np.asarray, ".3f"),
    "temporal error": ("temporal_error", np.asarray, ".2f"),
}
_ERRORS = {
    "hands_mse": "hand region",
    "rest_mse": "rest of the figure",
    "frame_mse": "whole frame",
}


def write(settings: AblationSettings) -> Path:
    """Put the page together; returns its path."""
    measured = read(settings)
    clips = json.loads((settings.results / "clips.json").read_text())
    seams = settings.results / "fusion.json"
    first = clips["settings"]
    parts = [
        BEFORE.format(
            **first, num_seeds=len(first["seeds"]), summary=_summary(measured, settings, seams=seams)
        ),
        *(
            f"### {title}\n\n{_arms_table(measured, condition)}"
            for condition, title in (("clean", "Exact poses"), ("failing", "Poses that fail"))
        ),
        f"## Hand loss\n\n{_hand_loss(measured, settings)}",
        f"## Confidence-aware maps\n\n{_confidence(measured, clips, settings)}",
        AFTER_CONFIDENCE,
        _earlier(settings),
        f"## Seams of long videos\n\n{_fusion(json.loads(seams.read_text()), settings)}"
        if seams.exists()
        else "## Seams of long videos\n\nNot measured yet (`--stage fusion`).",
        AFTER_FUSION,
        _pictures(settings),
    ]
    with whole_file(settings.page) as beside:
        beside.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")
    return settings.page


def _summary(measured: Measurements, settings: AblationSettings, *, seams: Path) -> str:
    """The page in a few plain sentences."""

    def lowered(pairs: tuple[tuple[str, str], ...], condition: str, quantity: str) -> str:
        gains = [compare(measured, *pair, condition, quantity, settings) for pair in pairs]
        sure = all(gained.low > 0 for gained in gains) or all(gained.high < 0 for gained in gains)
        shares = " and ".join(f"{100 * gained.share:+.1f} %" for gained in gains)
        return f"{shares} ({'sure' if sure else 'may be chance'})"

    hands, confidence = (("a", "c"), ("b", "d")), (("a", "b"), ("c", "d"))
    text = (
        "**In short.** Each number is how much of the squared error the idea removes in two comparisons; a "
        "negative one means that it adds error. A larger weight of hands in the loss: "
        f"{lowered(hands, 'clean', 'hands_mse')} in the hands, {lowered(hands, 'clean', 'rest_mse')} in the "
        "rest of the figure, which pays for it. Pose maps that show confidence, with poses that fail: "
        f"{lowered(confidence, 'failing', 'frame_mse')} in the whole frame."
    )
    if seams.exists():
        clips = json.loads(seams.read_text())["clips"]
        jumps = [
            np.nanmean([clip[sampling]["progressive"]["jump"] for clip in clips]) for sampling in SAMPLINGS
        ]
        shown = " and ".join(f"{jump:.2f}" for jump in jumps)
        text += (
            f" Progressive fusion: the jump at seams is {shown} times that elsewhere, where 1 is seamless."
        )
    return f"{text} All of this is measured with small models on rendered dancers."


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """RGB to a PNG file."""
    with whole_file(path) as beside:
        cv2.imwrite(str(beside), picture[..., ::-1])


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _arms_table(measured: Measurements, condition: str) -> str:
    rows = []
    for arm in ARMS:
        cells = []
        for quantity, convert, form in _COLUMNS.values():
            values = convert(by_clip(measured, arm, condition, quantity))
            cells.append(f"{np.nanmean(values):{form}} ± {np.nanstd(values):{form}}")
        rows.append([f"({arm}) {NAMES[arm]}", *cells])
    return _table(["arm", *_COLUMNS], rows)


def compare(
    measured: Measurements,
    without: str,
    with_it: str,
    condition: str,
    quantity: str,
    settings: AblationSettings,
    frames: NDArray[np.bool_] | None = None,
) -> Gain:
    """The gain of one arm over another, see `gain`."""

    def values(arm: str) -> Callable[[Iterable[int] | None], Array]:
        return lambda seeds: by_clip(measured, arm, condition, quantity, seeds=seeds, frames=frames)

    return gain(values(without), values(with_it), seeds=settings.seeds, resamples=settings.resamples)


def _shown(gained: Gain) -> list[str]:
    return [
        f"**{100 * gained.share:+.1f} %**",
        f"{100 * gained.low:+.1f} … {100 * gained.high:+.1f} %",
        ", ".join(f"{100 * share:+.1f} %" for share in gained.of_seeds),
    ]


_HEAD = ["arms", "poses", "error in", "lowered by", "95 % interval", "each seed"]


def _gains_table(
    measured: Measurements, pairs: tuple[tuple[str, str], ...], settings: AblationSettings
) -> str:
    rows = [
        [
            f"({with_it}) against ({without})",
            condition,
            name,
            *_shown(compare(measured, without, with_it, condition, quantity, settings)),
        ]
        for condition in ("clean", "failing")
        for without, with_it in pairs
        for quantity, name in _ERRORS.items()
    ]
    return _table(_HEAD, rows)


def _verdict(what: str, gains: list[Gain]) -> str:
    shares = " and ".join(f"{100 * gained.share:+.1f} %" for gained in gains)
    if all(gained.share >= AIM for gained in gains):
        word = "The aim is reached"
    elif any(gained.share >= AIM for gained in gains):
        word = "The aim is reached in one of the two comparisons"
    else:
        word = "The aim is not reached"
    certain = all(gained.low > 0 for gained in gains)
    harmful = all(gained.high < 0 for gained in gains)
    sure = (
        "both intervals lie above zero"
        if certain
        else "both intervals lie below zero: it does harm"
        if harmful
        else "not both intervals lie on one side of zero"
    )
    return f"**{word}** ({what}, at least {100 * AIM:.0f} % less): {shares}; {sure}."


def _hand_loss(measured: Measurements, settings: AblationSettings) -> str:
    pairs = (("a", "c"), ("b", "d"))
    gains = [compare(measured, *pair, "clean", "hands_mse", settings) for pair in pairs]
    verdict = _verdict("squared error in the hand region, exact poses", gains)
    rest = [compare(measured, *pair, "clean", "rest_mse", settings) for pair in pairs]
    is_paid = all(gained.high < 0 for gained in rest)
    shares = " and ".join(
        f"{-100 * gained.share if is_paid else 100 * gained.share:.1f} %" for gained in rest
    )
    price = (
        f"In the rest of the figure the squared error grows by {shares}: hands are paid for elsewhere."
        if is_paid
        else f"In the rest of the figure the squared error is lowered by {shares}."
    )
    return f"{verdict} {price}\n\n{_gains_table(measured, pairs, settings)}"


def _confidence(measured: Measurements, clips: dict[str, Any], settings: AblationSettings) -> str:
    pairs = (("a", "b"), ("c", "d"))
    kinds, limits = np.array(clips["kinds"]), np.array(clips["limits"])
    verdicts = [
        _verdict(
            f"squared error of the {name}, failing poses",
            [compare(measured, *pair, "failing", quantity, settings) for pair in pairs],
        )
        for quantity, name in (("frame_mse", "whole frame"), ("hands_mse", "hand region"))
    ]
    groups = {
        "score above 0.3": limits > 0.3,
        "score up to 0.3": limits <= 0.3,
        **{kind: kinds == number for number, kind in enumerate(FAILURES)},
        **{
            f"{kind}, score above 0.3": (kinds == number) & (limits > 0.3)
            for number, kind in enumerate(FAILURES)
        },
    }
    rows = [
        [
            f"({with_it}) against ({without})",
            name,
            f"{frames.mean():.0%}",
            *(
                " ".join(
                    _shown(compare(measured, without, with_it, "failing", quantity, settings, frames))[:2]
                )
                for quantity in ("frame_mse", "hands_mse")
            ),
        ]
        for name, frames in groups.items()
        for without, with_it in pairs
    ]
    by_kind = _table(["arms", "frames with", "share", "whole frame", "hand region"], rows)
    return (
        "\n\n".join(verdicts)
        + f"\n\n{_gains_table(measured, pairs, settings)}"
        + f"\n\nBy failure (lowered by, 95 % interval):\n\n{by_kind}"
    )


def _earlier(settings: AblationSettings) -> str:
    """The main comparisons at earlier points of the same trainings, from folders `after_<steps>`."""
    found = {int(folder.name.split("_")[1]): folder for folder in settings.results.glob("after_*")}
    if not found:
        return ""
    states = {
        **{
            f"{steps}": read(settings.model_copy(update={"results": found[steps]})) for steps in sorted(found)
        },
        f"{settings.steps}": read(settings),
    }
    comparisons = [
        *((pair, "clean", "hands_mse") for pair in (("a", "c"), ("b", "d"))),
        *((pair, "clean", "rest_mse") for pair in (("a", "c"), ("b", "d"))),
        *(
            (pair, "failing", name)
            for name in ("frame_mse", "hands_mse")
            for pair in (("a", "b"), ("c", "d"))
        ),
    ]
    rows = [
        [
            f"({pair[1]}) against ({pair[0]})",
            condition,
            _ERRORS[quantity],
            *(
                " ".join(_shown(compare(measured, *pair, condition, quantity, settings))[:2])
                for measured in states.values()
            ),
        ]
        for pair, condition, quantity in comparisons
    ]
    levels = [
        [
            "(a), mean",
            condition,
            _ERRORS[quantity],
            *(
                f"{psnr_of(by_clip(state, 'a', condition, quantity)).mean():.2f} dB"
                for state in states.values()
            ),
        ]
        for condition in ("clean", "failing")
        for quantity in ("frame_mse",)
    ]
    head = [*_HEAD[:3], *(f"after {steps} steps" for steps in states)]
    return f"## As the training goes on\n\n{EARLIER.strip()}\n\n{_table(head, [*rows, *levels])}"


def _fusion(seams: dict[str, Any], settings: AblationSettings) -> str:
    def cell(rows: list[dict[str, float]], name: str) -> str:
        mean, low, high = mean_interval(
            np.array([row[name] for row in rows], float), resamples=settings.resamples
        )
        return f"{mean:.3f} ({low:.3f} … {high:.3f})"

    clips = seams["clips"]
    tables, progressive = [], []
    for sampling in SAMPLINGS:
        rows = []
        for way in WAYS:
            found = [clip[sampling][way] for clip in clips]
            rows.append(
                [
                    way,
                    cell(found, "jump"),
                    cell(found, "jump_beyond_truth"),
                    f"{np.mean([row['change_beyond_truth'] for row in found]):.2f}",
                    f"{np.mean([row['psnr'] for row in found]):.2f}",
                ]
            )
        jumps = np.array([clip[sampling]["progressive"]["jump"] for clip in clips], float)
        progressive.append(float(np.nanmean(jumps)))
        head = [sampling, "jump", "jump beyond the truth's", "change beyond the truth's", "PSNR, dB"]
        tables.append(_table(head, rows))
    harder = [
        mean_interval(
            np.array(
                [
                    clip[sampling]["none"]["jump_beyond_truth"]
                    - clip[sampling]["progressive"]["jump_beyond_truth"]
                    for clip in clips
                    if clip[sampling]["none"]["jump_beyond_truth"] is not None
                ],
                float,
            ),
            resamples=settings.resamples,
        )
        for sampling in SAMPLINGS
    ]
    word = "reached" if max(progressive) <= AIM_OF_SEAMS else "not reached everywhere"
    truth = cell(clips, "truth")
    return (
        f"**The aim is {word}** (progressive fusion's jump at most {AIM_OF_SEAMS}): "
        + " and ".join(f"{value:.3f}" for value in progressive)
        + f" in the ways of sampling below. The truth itself has {truth} at the same steps. "
        + "Without fusion the jump beyond the truth's is larger than with the progressive one by "
        + " and ".join(f"{mean:.3f} ({low:.3f} … {high:.3f})" for mean, low, high in harder)
        + " in the same clips.\n\n"
        + f"{len(clips)} clips of {seams['frames']} frames at {seams['fps']:g} frames/s by "
        + f"`{seams['model']}`, windows of {seams['tile_size']} frames that share {seams['tile_overlap']} "
        + "(the reference's among them). In brackets the 95 % interval over clips.\n\n"
        + "\n\n".join(tables)
    )


def _pictures(settings: AblationSettings) -> str:
    beside = os.path.relpath(settings.results, settings.page.parent)
    sheets = "\n\n".join(f"({arm}) {name}:\n\n![{name}]({beside}/{arm}.png)" for arm, name in NAMES.items())
    return f"{PICTURES.strip()}\n\n{sheets}"
