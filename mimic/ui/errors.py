"""Errors of the studio whose messages are for its page."""

from __future__ import annotations


class StudioError(ValueError):
    """What was uploaded or set cannot be used; the message is for the page."""


class CancelledError(Exception):
    """The user stopped the work."""
