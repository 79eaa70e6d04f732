"""Work at which processes die, told to worker processes by the job that they are sent."""

import os
from dataclasses import fields

from mimic.data.prepare import work

_SURVEY = work.Worker.survey


class DeadlyJob(work.Job):
    """A job at whose video ``crash.mp4`` a worker process dies, as by a crash in a decoder, and for whose
    ``large.mp4`` memory does not suffice at the first try. Patches the process in which it is unpickled."""

    def __reduce__(self):
        return _patched, tuple(getattr(self, field.name) for field in fields(self))


def _patched(*arguments):
    work.Worker.survey = dying_survey
    return work.Job(*arguments)


def dying_survey(self, source):
    """Survey a video, or die."""
    if source.video == "crash.mp4":
        os._exit(11)
    tries = self.job.data / "tries"
    if source.video == "large.mp4" and not tries.exists():
        tries.touch()
        raise MemoryError
    _SURVEY(self, source)
