"""Networks that extend those of Stable Video Diffusion and Stable Diffusion."""
