"""The model of a studio: named as on the command line, found at the start, loaded when it is first used."""

from __future__ import annotations

import logging
import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from mimic.config import InferenceConfig
from mimic.config.loading import build
from mimic.config.one_line import named_model
from mimic.devices import chosen_device
from mimic.families.base import AnimationPipeline
from mimic.families.registry import find_sources
from mimic.files import local_path
from mimic.generation.drivers import DRIVERS, Driver, load_driver
from mimic.generation.ready import Parts, driver_tools, family_of
from mimic.ui.errors import StudioError
from pose.text import one_line

log = logging.getLogger("mimic")

_SAID_ELSEWHERE = frozenset(
    {
        "start", "end", "person", "pairs", "align", "anchor", "adjust", "background", "seed", "format",
        "side_by_side", "preview",
    }
)  # fmt: skip
"""Settings of a model's YAML that do not count, because the page or the studio decides them."""
_PLACES = ("base_model_path", "ckpt_path", "vae_path", "estimator_weights", "densepose_model")
"""Settings of a run that may be paths."""


class StudioModel:
    """Model and drivers of a studio, each loaded on first use.

    Args:
        name: as `mimic animate --model` takes it.
        device: as `device` of a YAML; ``auto`` is what the model's YAML says, if it is one and says it.

    Raises:
        ConfigError: the YAML is missing or invalid (a `ValueError`).
    """

    def __init__(self, name: str, device: str = "auto") -> None:
        self.name = name
        run, stored = named_model(name)
        run = {key: _from_anywhere(value) if key in _PLACES else value for key, value in run.items()}
        self.run: dict[str, Any] = {
            "device": "auto",
            **run,
            **({} if device == "auto" else {"device": device}),
        }
        """Settings of `mimic.config.InferenceConfig`, by name, that are not those of cases."""
        self.settings = {key: value for key, value in stored.items() if key not in _SAID_ELSEWHERE}
        """Settings of every case, by name, to which the page's are added."""
        case = {**self.settings, "ref_image_path": "picture", "ref_video_path": "clip"}
        self.config = build(InferenceConfig, {**self.run, "test_case": [case]}, "settings")
        """The run; its case stands for those to come."""
        self._finding, self._loading = threading.Lock(), threading.Lock()

    def check(self) -> None:
        """Find the model, download it if it is on the hub, and refuse what the studio cannot use. No weights
        are read.

        Raises:
            SourceError: the model is not found (an `OSError`).
            InputError, ConfigError: it belongs to no family, or there is no such device (`ValueError`).
            StudioError: it is not driven by skeletons.
        """
        self._parts()

    @property
    def pipeline(self) -> AnimationPipeline[Any, Any]:
        """The pipeline.

        Raises:
            As `check`; WeightsError: the weights do not fit (a `ValueError`).
        """
        parts = self._parts()
        with self._loading:
            is_new = "pipeline" not in vars(parts)
            pipeline = parts.pipeline
            if is_new and "warning" in pipeline.generation_defaults:
                log.info("note: %s", one_line(pipeline.generation_defaults["warning"]))
            return pipeline

    @property
    def description(self) -> dict[str, Any]:
        """Description of the model, for the reports of results."""
        parts = self._parts()
        with self._loading:
            return parts.model

    @property
    def driver(self) -> Driver:
        """What drives the model while a video is made."""
        return self._parts().driver

    @property
    def looking(self) -> Driver:
        """A driver with an estimator of its own, for fits while a video is made. The two share the cache of
        poses."""
        self._parts()
        return self._own_driver

    @property
    def note(self) -> str:
        """What the model's folder warns of, as a sentence; empty if of nothing."""
        warning = str(self.pipeline.generation_defaults.get("warning", ""))
        return f"Note: {warning}" if warning else ""

    def _parts(self) -> Parts:
        with self._finding:
            return self._found

    @cached_property
    def _found(self) -> Parts:
        device = chosen_device(self.config.device)
        base, checkpoint = find_sources(self.config.base_model_path, self.config.ckpt_path)
        driven_by = family_of(base, checkpoint).pipeline_class().driven_by
        if driven_by in DRIVERS and not DRIVERS[driven_by].takes_poses:
            raise StudioError(f"{self.name} is driven by {driven_by}; the studio fits skeletons")
        self._own_driver = load_driver(driven_by, driver_tools(self.config, device))
        return Parts(self.config, base, checkpoint, device)


def _from_anywhere(place: str | None) -> str | None:
    """A path that is one here, as an absolute one, so that recipes run from other folders; else the same."""
    if place is None or place.startswith(("bundled:", "hf:")) or not local_path(place).exists():
        return place
    return str(Path(local_path(place)).absolute())
