"""From a folder of videos to clips with the poses of one person each: `mimic prepare`.

Every video is looked through once for cuts, then the poses of each part are estimated; what is finished is
noted beside the results, so that a run that was killed goes on where it was.
"""

from mimic.data.prepare.result import Prepared
from mimic.data.prepare.run import prepare
from mimic.data.prepare.settings import PrepareSettings

__all__ = ["PrepareSettings", "Prepared", "prepare"]
