"""Weights: where they come from, how they arrive whole, and that every key of them is used."""
