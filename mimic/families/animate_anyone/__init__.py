"""Animate Anyone (arXiv 2311.17117): a reference network, a pose guider, motion modules."""
