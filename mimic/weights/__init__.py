"""Weights: find and download them, check that files are complete, and load every key strictly."""
