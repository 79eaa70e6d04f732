"""Windows, fusion, guidance, noise and the denoising loop: small and pure, for every family."""
