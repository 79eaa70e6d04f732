"""Whole-body poses: find, follow, align, draw. Knows nothing of diffusion."""
