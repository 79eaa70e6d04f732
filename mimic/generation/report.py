"""Former name of `mimic.provenance`."""

from mimic.renamed import names_of

__getattr__ = names_of("mimic.provenance", old=__name__)
