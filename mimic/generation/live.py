"""Animate a character while somebody moves: pose → map → one step → picture, frame by frame.

Legend: F frames, C channels, H height, W width; h, w of latents. Pictures and maps are RGB uint8.
"""

from __future__ import annotations

import copy
import itertools
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mimic.config import CaseSettings
from mimic.config.loading import build
from mimic.data.transforms import frames_to_uint8
from mimic.families.base import AnimationPipeline
from mimic.families.inputs import Inputs
from mimic.families.steps import AfterStep, StepReport
from mimic.generation.animate import case_plan
from mimic.generation.drivers import DriverTools, load_driver
from mimic.generation.live_poses import FitStream, PoseStream
from mimic.generation.reference import see_reference
from mimic.models.temporal_convolution import use_fast_temporal_convolutions
from mimic.sampling.denoise import denoise
from mimic.video import PictureSource
from pose import load_estimator
from pose.draw import RELEASED_CANVAS_SHORT_SIDE, PosePainter
from pose.estimators import Estimator

Picture = NDArray[np.uint8]

WINDOW = 3
"""Frames that the model sees together: the reference, the frame before and the current one."""
HOLD_SECONDS = 0.3
"""For how long the last pose is kept where the person is not seen."""
DEFAULTS: Mapping[str, Any] = {"align": "limbs", "num_inference_steps": 1, "noise": "shared"}


@dataclass(frozen=True)
class Pose:
    """The map of a driving frame."""

    drawn: Picture
    """``H x W x 3``; black if nobody is seen."""
    is_seen: bool
    """Whether the person is seen in this frame."""


class LiveCharacter:
    """Animates the person of a picture by one driving frame at a time, from it and earlier frames alone.

    Call the three stages in order for each frame: `pose`, `sample`, `decode`. Each may run in a thread of its
    own (`LiveStream` does), but each stage in one thread only. The pipeline belongs to the character until
    `close`.

    Args:
        pipeline: a pipeline driven by skeletons.
        picture: the picture of the person.
        estimator: pose estimator; by default `load_estimator("auto")`.
        window: frames that the model sees together, including the reference's for models that show it first.
            More of them are steadier and slower.
        settings: settings of `mimic.config.CaseSettings`, by name, in addition to `DEFAULTS`.

    Raises:
        ValueError: the model cannot be driven live, or a setting is unknown or invalid.
        FileNotFoundError, PictureError, PoseError: the picture cannot be used.
    """

    def __init__(
        self,
        pipeline: AnimationPipeline[Any, Any],
        picture: PictureSource,
        *,
        estimator: Estimator | None = None,
        window: int = WINDOW,
        **settings: Any,
    ) -> None:
        shows_first = int(pipeline.shows_reference_first)
        if window < 1 + shows_first:
            raise ValueError(f"window is {window}; this model needs {1 + shows_first} frames or more")
        own = {**DEFAULTS, "tile_size": window, "tile_overlap": 0, **settings}
        chosen = build(CaseSettings, own, "settings")
        used = estimator or load_estimator("auto")
        driver = load_driver(pipeline.driven_by, DriverTools(lambda: used))
        if not driver.takes_poses:
            raise ValueError(
                f"this model is driven by {pipeline.driven_by} maps; a live character needs one that is "
                "driven by skeletons"
            )
        self.reference = see_reference(picture, pipeline, chosen, find_pose=driver.reference_pose)
        assert self.reference.pose is not None
        height, width = self.reference.height, self.reference.width
        self._pipeline = pipeline
        self._poses = PoseStream(used, person=chosen.person)
        self._fit = FitStream(
            self.reference.pose, align=chosen.align, anchor=chosen.anchor, adjust=chosen.adjust
        )
        canvas = pipeline.generation_defaults.get("canvas_short_side") or RELEASED_CANVAS_SHORT_SIDE
        self._painter = PosePainter(height, width, mode=chosen.draw, canvas_short_side=canvas)
        self._last: tuple[float, Pose] | None = None
        self._plan = case_plan(pipeline, chosen, window - shows_first, height, width)
        # The pose network sees one map at a time; features of earlier frames are kept here.
        self._map = self._painter.draw(self.reference.pose.points[0], self.reference.pose.scores[0])
        self._recent: deque[Tensor] = deque(maxlen=window - shows_first)
        self._open = ExitStack()
        self._begin(shows_first)

    @torch.no_grad()
    def _begin(self, shows_first: int) -> None:
        """Compute what stays the same: conditions, noise, and the features of the reference's own map."""
        pipeline, plan = self._pipeline, self._plan
        inputs = Inputs([Image.fromarray(self.reference.picture)], [self._current])
        pipeline.check(inputs, plan)
        pipeline._align_weights()
        self._open.enter_context(pipeline.on_one_device())
        self._open.enter_context(pipeline.at_speed(plan))
        use_fast_temporal_convolutions(pipeline.vae)
        self._open.callback(use_fast_temporal_convolutions, pipeline.vae, False)
        budget = getattr(pipeline, "pose_feature_budget_mb", None)
        pipeline.pose_feature_budget_mb = 0  # maps change from call to call
        try:
            self._conditions = pipeline.encode(inputs, plan)
        finally:
            pipeline.pose_feature_budget_mb = budget
        if getattr(self._conditions, "pose_features", None) is None:
            raise ValueError(f"{type(pipeline).__name__} cannot be driven live: it has no features of poses")
        self._noise = pipeline.prepare(inputs, plan)
        self._scheduler = pipeline.scheduler
        self._timesteps = list(pipeline.scheduler.timesteps)
        self._weights = pipeline.fusion_weights(plan)
        pipeline._set_guidance(plan)
        self._first = [self._features()] if shows_first else []

    def _current(self, frames: list[int]) -> Picture:
        return np.stack([self._map] * len(frames))

    def _features(self) -> Tensor:
        features: Tensor = self._conditions.pose_features([0], 0)
        return features

    def pose(self, frame: Picture) -> Pose:
        """Find the person in a driving frame, fit the pose to the reference and draw its map."""
        found, now = self._poses(frame), time.monotonic()
        if found is not None:
            fitted = self._fit(found)
            pose = Pose(self._painter.draw(fitted.points[0], fitted.scores[0]), True)
            self._last = now, pose
            return pose
        if self._last is not None and now - self._last[0] <= HOLD_SECONDS:
            return Pose(self._last[1].drawn, False)
        return Pose(np.zeros_like(self._map), False)

    @torch.no_grad()
    def sample(self, pose: Pose) -> Tensor:
        """Sample the latents of the newest frame, ``1 x 1 x C x h x w``."""
        pipeline, plan = self._pipeline, self._plan
        self._map = pose.drawn
        features = self._features()
        missing = (self._recent.maxlen or 1) - len(self._recent)
        self._recent.extend([features] * missing or [features])
        window = torch.cat([*self._first, *self._recent], dim=1)
        conditions = replace(self._conditions, pose_features=lambda frames, video=0: window[:, frames])
        pipeline.begin_steps(plan)
        run = AfterStep(pipeline, StepReport(), conditions, {})
        latents = denoise(
            pipeline.guided_prediction(plan, run),
            self._noise,
            scheduler=copy.copy(self._scheduler),  # its count of steps begins anew for each frame
            timesteps=self._timesteps,
            windows=plan.windows,
            weights=self._weights,
        )
        return latents[:, -1:].to(pipeline.denoiser.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Picture:
        """Decode the latents of one frame to a picture, ``H x W x 3``."""
        (frame,) = self._pipeline._stream(
            latents[0], 1, 0
        )  # `decode_stream` prepares all weights at each call
        return frames_to_uint8(frame)[0]

    def __call__(self, frame: Picture) -> Picture:
        """Run the three stages for a driving frame and return the picture."""
        return self.decode(self.sample(self.pose(frame)))

    def close(self) -> None:
        """Give the pipeline back as it was."""
        self._open.close()


@dataclass(frozen=True)
class Shown:
    """A finished picture."""

    picture: Picture
    number: int
    """Number of the driving frame, as `LiveStream.submit` returned it."""
    is_seen: bool
    """Whether the person was seen in the driving frame."""
    delay_s: float
    """Seconds from `submit` to the finished picture."""


@dataclass
class _Work:
    number: int
    begun: float
    is_seen: bool = False
    content: Any = None


@dataclass
class LiveFigures:
    """What a stream has done so far."""

    num_submitted: int = 0
    num_shown: int = 0
    finished: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    """Times at which the latest pictures were finished."""

    @property
    def num_dropped(self) -> int:
        """Frames that were replaced by newer ones before anything was computed (or are still under way)."""
        return self.num_submitted - self.num_shown

    def rate(self, seconds: float = 2.0) -> float:
        """Pictures a second over the last seconds."""
        since = time.monotonic() - seconds
        return sum(moment >= since for moment in self.finished) / seconds


class LiveStream:
    """Runs a character's stages in three threads: newest frame in, newest picture out.

    A frame waits in a single place, where a newer one replaces it: frames are dropped and never queued, so
    that the delay does not grow when frames come faster than pictures are made. No more frames are under way
    than can be computed at once: a frame that waits between two stages is an old one by the time it is shown.

    Args:
        character: closed together with the stream.
        idle_s: end by itself after so many seconds without a frame; None waits forever.
        at_once: frames under way, from 1 to 3 (each stage has one at most); by default one for each processor
            core, at least 2.

    Raises:
        ValueError: `at_once` is below 1.
    """

    def __init__(
        self, character: LiveCharacter, *, idle_s: float | None = None, at_once: int | None = None
    ) -> None:
        if at_once is not None and at_once < 1:
            raise ValueError(f"at_once is {at_once}; expected 1 or more")
        self.character, self.figures = character, LiveFigures()
        self._idle_s = idle_s
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._waiting: _Work | None = None
        self._shown: Shown | None = None
        self._error: Exception | None = None
        self._is_closed = False
        self._free = threading.Semaphore(at_once or max(2, min(3, os.cpu_count() or 2)))
        # One finished pose and one sampled latent at most wait for the next stage.
        self._posed: queue.Queue[_Work | None] = queue.Queue(maxsize=1)
        self._sampled: queue.Queue[_Work | None] = queue.Queue(maxsize=1)
        stages = (self._find_poses, self._sample, self._decode)
        self._threads = [threading.Thread(target=self._guarded, args=[each], daemon=True) for each in stages]
        for thread in self._threads:
            thread.start()

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def submit(self, frame: Picture) -> int:
        """Hand in a driving frame, in place of one that still waits; returns its number, counted from 1.

        Raises:
            RuntimeError: the stream is closed.
            Exception: what a stage has raised.
        """
        with self._changed:
            self._check()
            if self._is_closed:
                raise RuntimeError("the live stream is closed; start a new one")
            work = _Work(next(self._numbers), time.monotonic(), content=frame)
            self._waiting = work
            self.figures.num_submitted += 1
            self._changed.notify_all()
            return work.number

    def picture(self, *, after: int = 0, timeout: float | None = None) -> Shown | None:
        """Wait for a picture of a driving frame later than `after`; None at the timeout or after `close`.

        Raises:
            Exception: what a stage has raised.
        """

        def is_there() -> bool:
            newer = self._shown is not None and self._shown.number > after
            return newer or self._is_closed or self._error is not None

        with self._changed:
            self._changed.wait_for(is_there, timeout)
            self._check()
            return self._shown if self._shown is not None and self._shown.number > after else None

    def close(self) -> None:
        """End the threads after their current frame and give the pipeline back."""
        self._end()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self.character.close()

    def _end(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _guarded(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except Exception as error:  # raised again in the caller's thread
            with self._changed:
                self._error = self._error or error
        finally:
            self._end()

    def _find_poses(self) -> None:
        while (work := self._next_frame()) is not None:
            pose = self.character.pose(work.content)
            work.content, work.is_seen = pose, pose.is_seen
            self._put(self._posed, work)

    def _next_frame(self) -> _Work | None:
        while not self._free.acquire(timeout=_POLL_S):
            if self._is_closed:
                return None
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._waiting is not None, self._idle_s)
            work, self._waiting = self._waiting, None
            return None if self._is_closed else work  # none: nobody has sent a frame for long

    def _sample(self) -> None:
        while (work := self._get(self._posed)) is not None:
            work.content = self.character.sample(work.content)
            self._put(self._sampled, work)

    def _decode(self) -> None:
        while (work := self._get(self._sampled)) is not None:
            picture, now = self.character.decode(work.content), time.monotonic()
            with self._changed:
                self._shown = Shown(picture, work.number, work.is_seen, now - work.begun)
                self.figures.num_shown += 1
                self.figures.finished.append(now)
                self._changed.notify_all()
            self._free.release()

    def _put(self, place: queue.Queue[_Work | None], work: _Work) -> None:
        while not self._is_closed:
            try:
                return place.put(work, timeout=_POLL_S)
            except queue.Full:
                continue

    def _get(self, place: queue.Queue[_Work | None]) -> _Work | None:
        while not self._is_closed:
            try:
                return place.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        return None


_POLL_S = 0.2
"""Seconds between looks whether the stream was closed."""
