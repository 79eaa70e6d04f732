"""Drivers, which turn a driving clip into conditions for the model: skeletons or maps of body parts."""

from __future__ import annotations

from mimic.generation.drivers.base import Driver, DriverTools, Driving, DrivingMaps
from mimic.generation.drivers.body_parts import BodyPartDriver
from mimic.generation.drivers.skeleton import SkeletonDriver

__all__ = ["DRIVERS", "Driver", "DriverTools", "Driving", "DrivingMaps", "load_driver"]

DRIVERS: dict[str, type[Driver]] = {"skeleton": SkeletonDriver, "densepose": BodyPartDriver}
"""Drivers by name, as in a pipeline's `driven_by`."""


def load_driver(name: str, tools: DriverTools) -> Driver:
    """Create a driver by name.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in DRIVERS:
        raise ValueError(f"the model is driven by '{name}'; known drivers are {', '.join(DRIVERS)}.")
    return DRIVERS[name](tools)
