"""Animate Anyone (arXiv 2311.17117): a reference network, a pose guider, motion modules."""

from mimic.families.family import Family

_FILES = ("denoising_unet.pth", "denoising_unet.safetensors")

FAMILY = Family(
    name="animate_anyone",
    pipeline="mimic.families.animate_anyone.pipeline:AnimateAnyonePipeline",
    task="mimic.families.animate_anyone.training:AnimateAnyoneTask",
    tiny="mimic.families.animate_anyone.tiny:tiny_pipeline",
    recognises=lambda path: any((path / name).exists() for name in _FILES),
    checkpoint_files=_FILES[:1],
    miniature="bundled:mini_animate_anyone",
)
