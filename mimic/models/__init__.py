"""Networks: what Stable Video Diffusion and Stable Diffusion have not got themselves."""
