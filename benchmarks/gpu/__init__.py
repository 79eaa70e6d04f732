"""What a CUDA device makes of MimicMotion's inference: rates, parity, speed, training, presets."""
