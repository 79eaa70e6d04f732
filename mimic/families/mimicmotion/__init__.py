"""MimicMotion (arXiv 2406.19680): Stable Video Diffusion with a PoseNet after the UNet's first
convolution."""

from mimic.families.family import Family

FAMILY = Family(
    name="mimicmotion",
    pipeline="mimic.families.mimicmotion.pipeline:MimicMotionPipeline",
    task="mimic.families.mimicmotion.training:MimicMotionTask",
    tiny="mimic.families.mimicmotion.tiny:tiny_pipeline",
    recognises=lambda path: not path.is_dir(),  # one file, here or on the hub
    miniature="bundled:mini",
)
