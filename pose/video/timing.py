"""When the frames of a clip are shown: what its packets promise, seconds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

# A frame further than this from where an even rate would show it makes the rate variable (in intervals).
RATE_TOLERANCE = 0.75
DEFAULT_RATE = Fraction(25)


@dataclass(frozen=True)
class Timing:
    """What the packets of a film tell.

    Args:
        times: time stamps of all frames, seconds, ascending.
        rate: frames a second as the container states it; None where it does not.
        is_stamped: packets carry the times at which their frames are shown.
        num_cut_off: frames of the file's index that lie beyond its end.
        num_stated: frames that the header counts; 0 where it does not.
        stated_s: seconds that the film lasts as its header says; 0 where it does not.
        num_recordings: more than 1 where time stamps begin anew.
        num_undecodable: packets before the first key frame.
        is_even: there are no time stamps, so the stated rate is all that is known.
    """

    times: NDArray[np.float64]
    rate: Fraction | None
    is_stamped: bool
    num_cut_off: int = 0
    num_stated: int = 0
    stated_s: float = 0.0
    num_recordings: int = 1
    num_undecodable: int = 0
    is_even: bool = False

    def frame_rate(self) -> Fraction:
        """The stated rate where it explains the time stamps, the measured average where it does not.

        The index of a file that is cut off states the rate of the whole; what is left has holes.
        """
        intervals, span = len(self.times) - 1, float(self.times[-1] - self.times[0])
        if intervals < 1 or span <= 0 or self.is_even or (self.num_cut_off and self.rate):
            return self.rate or DEFAULT_RATE
        if self.rate and abs(float(self.rate) * span - intervals) <= RATE_TOLERANCE:
            return self.rate
        return limited(intervals / span)


def limited(rate: float) -> Fraction:
    """A rate with a denominator of at most 1001; a slower one as one frame in whole seconds."""
    return Fraction(rate).limit_denominator(1001) or Fraction(1, round(1 / rate))
