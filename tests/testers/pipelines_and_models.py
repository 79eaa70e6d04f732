"""diffusers' own testers on our classes; run by `test_testers.py` in a checkout of diffusers, whose package
`tests` is imported here in place of ours.
"""

# mypy: ignore-errors
from __future__ import annotations

import unittest

import torch

from mimic.families.registry import FAMILIES
from mimic.models.svd_unet import PoseConditionedSVDUNet
from tests.models.unets import test_models_unet_spatiotemporal as of_svd
from tests.pipelines.test_pipelines_common import PipelineTesterMixin

SIZE, NUM_FRAMES = 16, 3


class _Pipeline(PipelineTesterMixin):
    """What the pipelines of all families share."""

    family: str
    params = frozenset(["image", "image_pose", "height", "width", "guidance_scale"])
    batch_params = frozenset(["image", "image_pose"])
    required_optional_params = frozenset(
        ["num_inference_steps", "generator", "latents", "output_type", "return_dict"]
    )
    callback_cfg_params = frozenset()
    test_xformers_attention = False

    def test_attention_slicing_forward_pass(self):
        self._test_attention_slicing_forward_pass(test_mean_pixel_difference=False)  # videos are no pictures

    @property
    def pipeline_class(self):
        return FAMILIES[self.family].pipeline_class()

    def get_dummy_components(self):
        return FAMILIES[self.family].tiny_pipeline(height=SIZE, width=SIZE, seed=0).components

    def get_dummy_inputs(self, device, seed=0):
        drawn = torch.Generator().manual_seed(seed)
        return {
            "image": torch.rand(1, 3, SIZE, SIZE, generator=drawn),
            "image_pose": torch.rand(1, NUM_FRAMES, 3, SIZE, SIZE, generator=drawn) * 2 - 1,
            "height": SIZE,
            "width": SIZE,
            "num_inference_steps": 2,
            "guidance_scale": 2.0,
            "generator": self.get_generator(seed),
            "output_type": "pt",
        }


class MimicMotionTests(_Pipeline, unittest.TestCase):
    family = "mimicmotion"


class AnimateAnyoneTests(_Pipeline, unittest.TestCase):
    family = "animate_anyone"


class MagicAnimateTests(_Pipeline, unittest.TestCase):
    family = "magic_animate"


for _name, _tester in list(vars(of_svd).items()):
    if isinstance(_tester, type) and _name.startswith("Test"):

        class _OnOurs(_tester):
            @property
            def model_class(self):
                return PoseConditionedSVDUNet

        globals()[f"{_name}OfOurs"] = type(f"{_name}OfOurs", (_OnOurs,), {"__module__": __name__})
