"""Former name of `mimic.compare`."""

from mimic.renamed import names_of

__getattr__ = names_of("mimic.compare", old=__name__)
