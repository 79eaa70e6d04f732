"""One folder for each published system; what they share is in `base`, their names in `registry`."""
