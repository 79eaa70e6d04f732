"""MagicAnimate (arXiv 2311.16498): an appearance encoder, a DensePose ControlNet, temporal attention."""
