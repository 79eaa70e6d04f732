"""Turn a folder of videos into clips with the poses of one person each: `mimic prepare`.

Each video is first searched for cuts, then the poses of each part are estimated. Finished work is recorded
next to the results; rerun the command to resume an interrupted run.
"""

from mimic.data.prepare.result import Prepared
from mimic.data.prepare.run import prepare
from mimic.data.prepare.settings import PrepareSettings

__all__ = ["PrepareSettings", "Prepared", "prepare"]
