"""What cannot be found where weights are named."""

from __future__ import annotations


class SourceError(OSError):
    """Weights cannot be found or downloaded; the message says what to do."""


class OfflineError(SourceError):
    """Weights are not on this machine, and the hub cannot be reached."""


class DownloadError(OSError):
    """A download failed, through no fault of what was asked for."""


class VariantError(SourceError, ValueError):
    """A model has no weight files of the variant asked for, of which diffusers raises a `ValueError`."""
