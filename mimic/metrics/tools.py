"""Networks and models that metrics beyond pixels need, and the settings that name them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mimic.config.loading import Config
from mimic.files import local_path
from mimic.metrics.features import FeatureNetwork, PerceptualDistance
from mimic.metrics.identity import FaceModel
from mimic.metrics.protocols import Protocol
from pose.estimators import Estimator

SET_METRICS = ("fid", "fid_vid", "fvd")
"""Metrics of a set of clips, which a single clip does not have."""


class MetricSettings(Config):
    """Metrics beyond pixels; without its network a metric is not measured."""

    lpips_network: str | None = None
    """File or hub id; see `mimic evaluate`."""

    fid_network: str | None = None
    """Inception-v3."""

    fid_vid_network: str | None = None
    """3D ResNet-50."""

    fvd_network: str | None = None
    """I3D."""

    pose: bool = False
    """Estimate poses anew in the generated clips."""

    face_model: str | None = None
    """ONNX face model for identity."""

    @property
    def needs_estimator(self) -> bool:
        """Whether poses are estimated: for themselves, or to find the faces."""
        return self.pose or self.face_model is not None


@dataclass(frozen=True)
class Tools:
    """Networks and models by metric; a metric whose tool is None is not measured."""

    lpips: PerceptualDistance | None = None
    fid: FeatureNetwork | None = None
    fid_vid: FeatureNetwork | None = None
    fvd: FeatureNetwork | None = None
    estimator: Estimator | None = None
    face_model: FaceModel | None = None

    def facts(self) -> dict[str, Any]:
        """File and hash of each network, for reports."""
        networks = {name: getattr(self, name) for name in ("lpips", *SET_METRICS, "face_model")}
        found = {name: network.facts if network is not None else None for name, network in networks.items()}
        return found | {"pose_estimator": self.estimator.name if self.estimator is not None else None}


NO_TOOLS = Tools()


def load_tools(
    settings: MetricSettings,
    protocol: Protocol,
    *,
    device: torch.device,
    estimator: Callable[[], Estimator],
) -> Tools:
    """Load what the settings name, prepared as the protocol says.

    Args:
        device: where networks compute.
        estimator: called if poses are to be estimated.

    Raises:
        SourceError, WeightsError, FileNotFoundError, PoseError: a file is missing or does not fit.
    """
    given: dict[str, Any] = {}
    for name in SET_METRICS:
        source = getattr(settings, f"{name}_network")
        if source is not None:
            given[name] = FeatureNetwork(name, source, resize=protocol.fid_resize, device=device)
    if settings.lpips_network is not None:
        given["lpips"] = PerceptualDistance(
            settings.lpips_network, is_range_halved=protocol.is_lpips_range_halved, device=device
        )
    if settings.face_model is not None:
        given["face_model"] = FaceModel(local_path(settings.face_model))
    if settings.needs_estimator:
        given["estimator"] = estimator()
    return Tools(**given)
