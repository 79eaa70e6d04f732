"""Former name of `mimic.dancers`."""

from mimic.renamed import names_of

__getattr__ = names_of("mimic.dancers", old=__name__)
