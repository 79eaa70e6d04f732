"""Families of animation pipelines, one folder for each published system; shared code is in the modules
here."""
