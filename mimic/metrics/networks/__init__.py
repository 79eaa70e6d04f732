"""Feature networks that published metrics rest on, key for key as their weights are published."""
