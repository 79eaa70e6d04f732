"""What moves the person: skeletons, or maps of the parts of the body; one driver each, found by name."""

from __future__ import annotations

from mimic.generation.drivers.base import Driver, DriverTools, Driving, DrivingMaps
from mimic.generation.drivers.body_parts import BodyPartDriver
from mimic.generation.drivers.skeleton import SkeletonDriver

__all__ = ["DRIVERS", "Driver", "DriverTools", "Driving", "DrivingMaps", "load_driver"]

DRIVERS: dict[str, type[Driver]] = {"skeleton": SkeletonDriver, "densepose": BodyPartDriver}
"""By the name that a pipeline says in `driven_by`."""


def load_driver(name: str, tools: DriverTools) -> Driver:
    """The driver of a name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in DRIVERS:
        raise ValueError(f"the model is driven by '{name}'; known drivers are {', '.join(DRIVERS)}.")
    return DRIVERS[name](tools)
