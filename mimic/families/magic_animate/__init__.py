"""MagicAnimate (arXiv 2311.16498): an appearance encoder, a DensePose ControlNet, temporal attention."""

from mimic.families.family import Family

FAMILY = Family(
    name="magic_animate",
    pipeline="mimic.families.magic_animate.pipeline:MagicAnimatePipeline",
    task="mimic.families.magic_animate.training:MagicAnimateTask",
    tiny="mimic.families.magic_animate.tiny:tiny_pipeline",
    recognises=lambda path: (path / "densepose_controlnet").exists(),
    checkpoint_files=("densepose_controlnet/",),
    miniature="bundled:mini_magic_animate",
)
