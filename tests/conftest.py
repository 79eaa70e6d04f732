"""What one test leaves behind must not decide about another."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """Commands set the loggers up for a terminal; tests that read messages need them as they were."""
    loggers = [logging.getLogger(name) for name in ("mimic", "pose")]
    before = [(own.propagate, own.level, own.disabled, list(own.handlers)) for own in loggers]
    yield
    for own, (propagate, level, disabled, handlers) in zip(loggers, before):
        own.propagate, own.disabled, own.handlers = propagate, disabled, handlers
        own.setLevel(level)
