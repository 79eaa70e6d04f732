"""When the frames of a clip are shown: what its packets promise, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

# A frame further than this from where an even rate would show it makes the rate variable (in intervals).
RATE_TOLERANCE = 0.75
DEFAULT_RATE = Fraction(25)
# A higher one is a tick of the file's clock, as an animation of one frame states it.
HIGHEST_RATE = 1000
# A header may state a little more than there is, seconds.
_CUT_S = 0.5
# Frames that may be stored after one that is shown later.
_MAX_REORDERED = 8


@dataclass(frozen=True)
class Timing:
    """What the packets of a film tell.

    Args:
        times: time stamps of all frames, seconds, ascending.
        rate: frames a second as the container states it; None where it does not.
        is_stamped: packets carry the times at which their frames are shown.
        num_cut_off: frames of the file's index that lie beyond its end.
        missing_s: seconds by which film and sound end before the time that the header states.
        num_stated: frames that the header counts; 0 where it does not.
        stated_s: seconds that the film lasts as its header says; 0 where it does not.
        num_recordings: more than 1 where time stamps begin anew.
        num_undecodable: packets before the first key frame.
        is_stream: the format has no header that states a length, so that it can end anywhere.
        is_even: there are no time stamps, so the stated rate is all that is known.
    """

    times: NDArray[np.float64]
    rate: Fraction | None
    is_stamped: bool
    num_cut_off: int = 0
    missing_s: float = 0.0
    num_stated: int = 0
    stated_s: float = 0.0
    num_recordings: int = 1
    num_undecodable: int = 0
    is_stream: bool = False
    is_even: bool = False

    def frame_rate(self) -> Fraction:
        """The stated rate where it explains the time stamps, the measured average where it does not.

        The index of a file that is cut off states the rate of the whole; what is left has holes.
        """
        intervals, span = len(self.times) - 1, float(self.times[-1] - self.times[0])
        if intervals < 1 or span <= 0 or self.is_even or (self.is_cut_off and self.rate):
            return self.rate if self.rate and self.rate <= HIGHEST_RATE else DEFAULT_RATE
        if self.rate and abs(float(self.rate) * span - intervals) <= RATE_TOLERANCE:
            return self.rate
        if self.rate and self.is_stream and self._has_ragged_end(float(self.rate)):
            return self.rate
        return limited(intervals / span)

    @property
    def is_cut_off(self) -> bool:
        """Whether the file ends before what its header or index states."""
        return self.num_cut_off > 0 or self.missing_s > max(_CUT_S, 0.02 * float(self.times[-1]))

    def _has_ragged_end(self, rate: float) -> bool:
        """Whether a few of the last frames are missing of a constant rate: those that are stored after frames
        shown later."""
        steady = self.times[: -2 * _MAX_REORDERED]
        if len(steady) < 2:
            return False
        num_missing = rate * float(self.times[-1] - self.times[0]) - (len(self.times) - 1)
        is_steady = abs(rate * float(steady[-1] - steady[0]) - (len(steady) - 1)) <= RATE_TOLERANCE
        return is_steady and 0 < num_missing <= _MAX_REORDERED + RATE_TOLERANCE


def limited(rate: float) -> Fraction:
    """A rate with a denominator of at most 1001; a slower one as one frame in whole seconds."""
    return Fraction(rate).limit_denominator(1001) or Fraction(1, round(1 / rate))
