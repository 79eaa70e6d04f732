"""Training: from a YAML to weights."""
