"""Generated clips against the truth: every metric in one pass over the frames, in constant memory.

A metric that lacks what it needs (a network's file, enough clips, a seam) is "not measured", with the reason.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimic.metrics import image
from mimic.metrics.clips import Pair
from mimic.metrics.frechet import RunningGaussian, distance_of
from mimic.metrics.identity import FaceModel
from mimic.metrics.intervals import bootstrap_mean
from mimic.metrics.pose import PoseAgreement, compare_poses, estimate_poses
from mimic.metrics.protocols import PROTOCOLS, Protocol
from mimic.metrics.seams import WindowLayout
from mimic.metrics.tools import NO_TOOLS, SET_METRICS, Tools
from mimic.metrics.video import ChangeMeter, seam_jump
from mimic.progress import Progress
from pose import PoseSequence

Frame = NDArray[np.uint8]

PICTURE_METRICS: dict[str, Callable[[Frame, Frame], float]] = {
    "l1": image.l1,
    "l1_disco_divided_by_area": image.l1_disco_divided_by_area,
    "psnr": lambda made, true: min(image.psnr(made, true), image.EQUAL_PSNR),
    "psnr_disco_uint8_overflow": image.psnr_disco_uint8_overflow,
    "ssim": image.ssim,
}

BETTER = {
    "l1": "low", "l1_disco_divided_by_area": "low", "psnr": "high", "psnr_disco_uint8_overflow": "high",
    "ssim": "high", "lpips": "low", "fid": "low", "fid_vid": "low", "fvd": "low", "flicker": "low",
    "seam_jump": "low", "keypoint_error": "low", "keypoints_missing": "low", "hand_keypoint_error": "low",
    "hand_confidence": "high", "identity": "high",
}  # fmt: skip
"""Whether high or low values are better; metrics that are not listed have no direction."""

_PICTURE_BATCH = 16
_CLIP_BATCH = 2


Sets = dict[str, tuple[RunningGaussian, RunningGaussian]]
"""Features of all generated and all true clips, by metric."""


def evaluate(
    pairs: Sequence[Pair],
    protocol: Protocol = PROTOCOLS["none"],
    tools: Tools = NO_TOOLS,
    *,
    layout: Callable[[Pair], WindowLayout | None] = lambda pair: None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure all pairs: a report ready for JSON.

    Args:
        layout: the windows that a generated clip was made in; None where they are unknown.
        progress: called with (frames done, frames in all).

    Returns:
        ``protocol``, ``networks``, ``summary``, ``notes``, ``clips`` (a row each) and ``seconds``. The
        summary has an entry for each metric: ``better``, ``value`` and ``quantity``, which says what the
        value is. For metrics of clips that is the mean over clips, with its 95 % interval ``low`` to
        ``high`` and, where frames are measured one by one, ``mean_over_frames``. Of a metric without a
        value ``not_measured`` says why.

    Raises:
        ValueError: there are no pairs; frames are too small for a metric.
        VideoError, PictureError, EvaluationError: a clip cannot be read to its end.
    """
    if not pairs:
        raise ValueError("there are no clips to compare")
    start = time.perf_counter()
    sets: Sets = {name: (RunningGaussian(), RunningGaussian()) for name in SET_METRICS}
    total, done = sum(pair.num_frames for pair in pairs), 0
    rows = []
    for pair in pairs:

        def show(num: int, before: int = done) -> None:
            if progress is not None:
                progress(before + num, total)

        metrics, reasons = _measure_clip(pair, protocol, tools, layout(pair), sets, show)
        row: dict[str, Any] = {
            "name": pair.name,
            "num_frames": pair.num_frames,
            "generated": str(pair.generated.path),
            "truth": str(pair.truth.path),
            "generated_size": [pair.generated.height, pair.generated.width],
            "truth_size": [pair.truth.height, pair.truth.width],
            "metrics": metrics,
        }
        if reasons:
            row["not_measured"] = reasons
        rows.append(row)
        done += pair.num_frames
    return {
        "protocol": protocol.as_dict(),
        "networks": tools.facts(),
        "summary": _summary(rows, protocol, tools, sets),
        "notes": _notes(pairs, protocol, sets),
        "clips": rows,
        "seconds": round(time.perf_counter() - start, 3),
    }


def _measure_clip(
    pair: Pair,
    protocol: Protocol,
    tools: Tools,
    layout: WindowLayout | None,
    sets: Sets,
    show: Callable[[int], None],
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics of one clip, and why others were not measured."""
    own: dict[str, list[float]] = {}
    pictures = [name for name in protocol.picture_metrics if name in PICTURE_METRICS]
    against, made_alone, true_alone = ChangeMeter(), ChangeMeter(), ChangeMeter()
    batch: list[tuple[Frame, Frame]] = []
    windows = _Windows(tools, protocol, sets)
    for number, (made, true) in enumerate(pair.frames(protocol.size), start=1):
        for name in pictures:
            _count(own, name, PICTURE_METRICS[name](made, true))
        against.add(made, true)
        made_alone.add(made)
        true_alone.add(true)
        batch.append((made, true))
        if len(batch) == _PICTURE_BATCH or number == pair.num_frames:
            _measure_batch(batch, tools, sets, own)
            batch.clear()
        windows.add(made, true)
        show(number)
    windows.finish()
    metrics = {name: value / num for name, (value, num) in own.items()}
    reasons: dict[str, str] = {}
    if against.found:
        metrics["flicker"] = float(np.mean(against.found))
        metrics["change"] = float(np.mean(made_alone.found))
        metrics["change_of_truth"] = float(np.mean(true_alone.found))
    else:
        reasons["flicker"] = "the clip has one frame"
    _measure_seams(pair, layout, np.array(against.found), metrics, reasons)
    _measure_person(pair, protocol, tools, metrics, reasons)
    return metrics, reasons


def _measure_batch(
    batch: list[tuple[Frame, Frame]], tools: Tools, sets: Sets, own: dict[str, list[float]]
) -> None:
    if tools.lpips is None and tools.fid is None:
        return
    made, true = (np.stack(frames) for frames in zip(*batch, strict=True))
    if tools.lpips is not None:
        for value in tools.lpips(made, true):
            _count(own, "lpips", float(value))
    if tools.fid is not None:
        for gaussian, frames in zip(sets["fid"], (made, true), strict=True):
            gaussian.add(tools.fid(frames))


class _Windows:
    """Collect clips of 16 consecutive frames for FID-VID and FVD, frame by frame."""

    def __init__(self, tools: Tools, protocol: Protocol, sets: Sets) -> None:
        self._networks = {n: getattr(tools, n) for n in ("fid_vid", "fvd") if getattr(tools, n) is not None}
        self._sets, self._stride = sets, protocol.clip_stride
        lengths = [network.role.num_frames for network in self._networks.values()]
        self._length = max(lengths, default=1)
        self._held: deque[tuple[Frame, Frame]] = deque(maxlen=self._length)
        self._waiting: list[tuple[Frame, Frame]] = []
        self._num = 0

    def add(self, made: Frame, true: Frame) -> None:
        if not self._networks:
            return
        self._held.append((made, true))
        self._num += 1
        if len(self._held) == self._length and (self._num - self._length) % self._stride == 0:
            clip = tuple(np.stack(frames) for frames in zip(*self._held, strict=True))
            self._waiting.append((clip[0], clip[1]))
        if len(self._waiting) == _CLIP_BATCH:
            self.finish()

    def finish(self) -> None:
        if not self._waiting:
            return
        made, true = (np.stack(clips) for clips in zip(*self._waiting, strict=True))
        for name, network in self._networks.items():
            for gaussian, clips in zip(self._sets[name], (made, true), strict=True):
                gaussian.add(network(clips))
        self._waiting.clear()


def _measure_seams(
    pair: Pair,
    layout: WindowLayout | None,
    changes: NDArray[np.float64],
    metrics: dict[str, float],
    reasons: dict[str, str],
) -> None:
    if layout is None:
        reasons["seam_jump"] = "the windows that the clip was made in are not known"
        return
    seams = layout.seams(pair.generated.num_frames)
    jump = seam_jump(changes, [seam for seam in seams if seam[-1] <= len(changes)])
    if jump is None:
        reasons["seam_jump"] = "the clip has no seam, or no stretch without one to compare with"
    else:
        metrics["seam_jump"] = jump


def _measure_person(
    pair: Pair, protocol: Protocol, tools: Tools, metrics: dict[str, float], reasons: dict[str, str]
) -> None:
    if tools.estimator is None:
        return
    found = [
        estimate_poses(
            (frames[side] for frames in pair.frames(protocol.size)),
            tools.estimator,
            fps=pair.truth.fps,
            num_frames=pair.num_frames,
        )
        for side in (0, 1)
    ]
    agreement: PoseAgreement = compare_poses(found[0], found[1])
    for name, value in agreement.as_metrics().items():
        if value is None:
            reasons[name] = "no joint is shown in both videos"
        else:
            metrics[name] = value
    if tools.face_model is not None:
        likeness = list(_likeness(pair, protocol, tools.face_model, found))
        if likeness:
            metrics["identity"] = float(np.mean(likeness))
            metrics["identity_share_of_frames"] = len(likeness) / pair.num_frames
        else:
            reasons["identity"] = "no frame shows a face in both videos"


def _likeness(
    pair: Pair, protocol: Protocol, model: FaceModel, poses: Sequence[PoseSequence]
) -> Iterator[float]:
    for number, frames in enumerate(pair.frames(protocol.size)):
        embeddings = [
            model.embed(frame, sequence.points[number, 0], sequence.scores[number, 0])
            for frame, sequence in zip(frames, poses, strict=True)
        ]
        if embeddings[0] is not None and embeddings[1] is not None:
            yield float(embeddings[0] @ embeddings[1])


def _summary(
    rows: Sequence[Mapping[str, Any]], protocol: Protocol, tools: Tools, sets: Sets
) -> dict[str, dict[str, Any]]:
    """Metric to its value over all clips, or to the reason why there is none."""
    wanted = [*protocol.picture_metrics, *SET_METRICS, "flicker", "change", "change_of_truth", "seam_jump"]
    if tools.estimator is not None:
        wanted += [name for name in PoseAgreement.__dataclass_fields__ if name != "num_frames"]
    wanted = list(dict.fromkeys([*wanted, "keypoint_error", "hand_confidence", "identity"]))
    return {
        name: {"better": BETTER.get(name)}
        | (
            _set_value(name, tools, sets)
            if name in SET_METRICS
            else _clip_value(name, rows, tools, is_of_frames=name in protocol.picture_metrics)
        )
        for name in wanted
    }


def _clip_value(
    name: str, rows: Sequence[Mapping[str, Any]], tools: Tools, *, is_of_frames: bool
) -> dict[str, Any]:
    measured = [row for row in rows if name in row["metrics"]]
    if not measured:
        return {"value": None, "not_measured": _why(name, rows, tools)}
    values = [row["metrics"][name] for row in measured]
    mean = bootstrap_mean(values)
    entry = {
        "value": mean.mean,
        "quantity": "mean over clips",
        "low": mean.low,
        "high": mean.high,
        "num_clips": mean.num,
    }
    if is_of_frames:
        weights = [row["num_frames"] for row in measured]
        entry["mean_over_frames"] = float(np.average(values, weights=weights))
    return entry


def _set_value(name: str, tools: Tools, sets: Sets) -> dict[str, Any]:
    made, true = sets[name]
    if getattr(tools, name) is None:
        option = name.replace("_", "-")
        return {"value": None, "not_measured": f"no network is named (--{option}-network FILE)"}
    if min(made.num, true.num) < 2:
        what = "pictures" if name == "fid" else "clips of 16 frames"
        return {"value": None, "not_measured": f"at least two {what} are needed; there are {made.num}"}
    return {
        "value": distance_of(made, true),
        "quantity": "distance of the sets of features",
        "num_features": made.num,
        "feature_width": len(made.mean),
    }


def _why(name: str, rows: Sequence[Mapping[str, Any]], tools: Tools) -> str:
    if name == "lpips":
        return "no network is named (--lpips-network FILE)"
    if name == "identity" and tools.face_model is None:
        return "no face model is named (--face-model FILE)"
    if tools.estimator is None and name in ("keypoint_error", "hand_confidence", "identity"):
        return "poses are not estimated anew (--pose)"
    return next((row["not_measured"][name] for row in rows if name in row.get("not_measured", {})), "unknown")


def _notes(pairs: Sequence[Pair], protocol: Protocol, sets: Sets) -> list[str]:
    notes = protocol.departures([pair.name for pair in pairs])
    for name, (made, _) in sets.items():
        if 2 <= made.num <= len(made.mean):
            notes.append(
                f"{name} is computed from {made.num} features of {len(made.mean)} values: too few for its "
                "covariance, and biased upwards; compare it only with values from as many"
            )
    sizes = {(pair.generated.height, pair.generated.width) for pair in pairs}
    targets = {protocol.size or (pair.truth.height, pair.truth.width) for pair in pairs}
    if sizes != targets:
        notes.append("generated frames were resized to the size they are compared at")
    return notes


def _count(own: dict[str, list[float]], name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} of a frame is {value}; a network may be loaded wrongly")
    entry = own.setdefault(name, [0.0, 0])
    entry[0], entry[1] = entry[0] + value, entry[1] + 1
