"""Keep estimated poses of clips between runs, found again by the content of clip and estimator.

Poses are in ``~/.cache/mimic/poses`` (``$XDG_CACHE_HOME/mimic/poses``), or in the folder that
``$MIMIC_POSE_CACHE`` names; ``MIMIC_POSE_CACHE=off`` disables the cache. The oldest are removed beyond 1 GB.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pose
from mimic.results import identity_of
from mimic.weights.sources import sha256
from pose import PoseError, PoseSequence

log = logging.getLogger("mimic")

FOLDER_VARIABLE = "MIMIC_POSE_CACHE"
MAX_BYTES = 2**30


class PoseCache:
    """Poses of clips, estimated once.

    Args:
        estimator: everything that decides what the estimator finds: its name, the hashes of its files, where
            it computes.
        folder: of the cache; by default as described above.
    """

    def __init__(self, estimator: Mapping[str, Any], folder: Path | None = None) -> None:
        self.folder = cache_folder() if folder is None else folder
        self._estimator = dict(estimator)

    def __call__(
        self, clip: Path, settings: Mapping[str, Any], estimate: Callable[[], PoseSequence]
    ) -> PoseSequence:
        """Return the poses of a clip: cached ones, else those that `estimate` returns, which are then cached.

        Args:
            clip: the video.
            settings: which frames and whose poses are wanted.
            estimate: called if the cache does not have them.
        """
        if self.folder is None or not clip.is_file():
            return estimate()
        content = {"clip": sha256(clip), "estimator": self._estimator, "code": _code(), **settings}
        path = self.folder / f"{identity_of(content)}.npz"
        with contextlib.suppress(PoseError, OSError):  # missing or damaged
            found = PoseSequence.load(path)
            os.utime(path)
            log.info("poses of %s: taken from an earlier run", clip)
            return found
        poses = estimate()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            poses.save(path)
            self._remove_oldest()
        except OSError as error:
            log.info("poses of %s are not cached (%s)", clip, error)
        return poses

    def _remove_oldest(self) -> None:
        assert self.folder is not None
        by_age = sorted(self.folder.glob("?" * 64 + ".npz"), key=lambda path: -path.stat().st_mtime)
        num_bytes = 0
        for path in by_age:
            num_bytes += path.stat().st_size
            if num_bytes > MAX_BYTES:
                path.unlink(missing_ok=True)


def cache_folder() -> Path | None:
    """Return the folder of cached poses; None if the cache is disabled or this user id has no home folder."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return None if named == "off" else Path(os.path.expanduser(named))
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return None if cache.startswith("~") else Path(cache) / "mimic" / "poses"


@functools.cache
def _code() -> str:
    """Hash the source of the pose package: other code may find other poses."""
    digest = hashlib.sha256()
    folder = Path(pose.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
