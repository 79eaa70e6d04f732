"""Former name of `mimic.models.memory`."""

from mimic.renamed import names_of

__getattr__ = names_of("mimic.models.memory", old=__name__)
