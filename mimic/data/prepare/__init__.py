"""From a folder of videos to clips with the poses of one person each: `mimic prepare`.

Each video is searched for cuts once, then the poses of each part are estimated. Finished work is noted beside
the results; rerun the command to resume a run that was killed.
"""

from mimic.data.prepare.result import Prepared
from mimic.data.prepare.run import prepare
from mimic.data.prepare.settings import PrepareSettings

__all__ = ["PrepareSettings", "Prepared", "prepare"]
