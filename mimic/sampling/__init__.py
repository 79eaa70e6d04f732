"""Windows, fusion, guidance, noise and the denoising loop, as functions independent of the family."""
