"""Animate Anyone: a reference picture and drawn poses in, a video out.

Legend: B batch, F frames, C latent channels, H height, W width; h, w of latents; D width of CLIP's embedding.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import torch
from torch import Tensor

from mimic.data.transforms import picture_to_tensor
from mimic.families.animate_anyone.keys import load_released
from mimic.families.animate_anyone.picture import embed_picture, encode_reference
from mimic.families.animate_anyone.request import (
    Conditions,
    Faults,
    Request,
    Start,
    check_parts,
    check_request,
)
from mimic.families.base import AnimationOutput, AnimationPipeline, Frames, StepCallback
from mimic.families.inputs import read_inputs
from mimic.families.pose_features import PoseFeatures
from mimic.models.reference import ReferenceBank
from mimic.sampling import guidance
from mimic.sampling.denoise import Predict, denoise
from mimic.sampling.fusion import fusion_weights
from mimic.sampling.noise import Generators, draw_noise, frames_to_draw, repeat_along_time
from mimic.sampling.windows import lay_windows


class AnimateAnyonePipeline(AnimationPipeline):
    """Animate Anyone (arXiv 2311.17117) on Stable Diffusion 1.5, as publicly re-implemented.

    Args:
        vae: `AutoencoderKL` (or one with a temporal decoder).
        image_encoder: `CLIPVisionModelWithProjection`.
        reference_unet: `ReferenceUNet`.
        unet: `MotionUNet`.
        pose_guider: `PoseGuider` or `PaperPoseGuider`.
        scheduler: `DDIMScheduler`, or another of diffusers'.
        feature_extractor: `CLIPImageProcessor`.
    """

    # The pose guider is called between UNet calls; outside the sequence it stays where it computes.
    model_cpu_offload_seq = "image_encoder->reference_unet->unet->vae"
    shows_reference_first = False
    _released_defaults = {  # noqa: RUF012
        "height": 784,
        "width": 512,
        "tile_size": 24,
        "tile_overlap": 4,
        "num_inference_steps": 30,
        "min_guidance_scale": 3.5,
        "max_guidance_scale": 3.5,
        "decode_chunk_size": 8,
        "fusion": "average",
        "noise": "full",
        "windows": "closed",
    }

    pose_feature_budget_mb: float = 512
    """Memory that the pose guider's features may take on the device, so that they are not made again at every
    step."""

    def __init__(
        self,
        vae: Any,
        image_encoder: Any,
        reference_unet: Any,
        unet: Any,
        pose_guider: Any,
        scheduler: Any,
        feature_extractor: Any,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            image_encoder=image_encoder,
            reference_unet=reference_unet,
            unet=unet,
            pose_guider=pose_guider,
            scheduler=scheduler,
            feature_extractor=feature_extractor,
        )
        self.generation_defaults = {}

    @classmethod
    def from_original(
        cls,
        base: str | os.PathLike[str],
        checkpoint: str | os.PathLike[str],
        *,
        motion_module: str | os.PathLike[str] | None = None,
        vae: str | os.PathLike[str] | None = None,
        image_encoder: str | os.PathLike[str] | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        local_files_only: bool = False,
    ) -> AnimateAnyonePipeline:
        """Put the released weights together with the Stable Diffusion they stand on.

        From `base` comes the UNet's *config*; all weights of both UNets and of the pose guider come from
        `checkpoint`, and every key of every file has to have its place.

        Args:
            base: folder or hub id of Stable Diffusion 1.5 or of sd-image-variations, in diffusers' layout.
            checkpoint: the released folder, or its hub id: ``denoising_unet``, ``reference_unet``,
                ``pose_guider`` and ``motion_module``, each a ``.pth`` or ``.safetensors``.
            motion_module: another file of motion modules than the folder's, AnimateDiff's for instance.
            vae: folder or hub id of sd-vae-ft-mse; the base's own unless given.
            image_encoder: folder or hub id with the CLIP image encoder of sd-image-variations (itself, or as
                ``image_encoder`` in it); the base's own unless given.
            dtype: precision of all weights, float32 unless given (`torch_dtype` is the same by another name).
            variant: of the weight files, ``fp16`` for instance.
            local_files_only: do not ask the hub.

        Raises:
            SourceError: a part is not there (an `OSError`).
            WeightsError: a key is missing, surplus or of a wrong shape (all are listed), or there are no
                motion modules (a `ValueError`).
        """
        parts = load_released(
            base,
            checkpoint,
            motion_module=motion_module,
            vae=vae,
            image_encoder=image_encoder,
            dtype=dtype or torch_dtype or torch.float32,
            variant=variant,
            local_files_only=local_files_only,
        )
        return cls(**parts)

    def __call__(
        self,
        image: Any,
        image_pose: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        decode_chunk_size: int | None = None,
        num_videos_per_prompt: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006 - diffusers' signature
        return_dict: bool = True,
        device: str | torch.device | None = None,
        *,
        min_guidance_scale: float | None = None,
        max_guidance_scale: float | None = None,
        fusion: str | None = None,
        noise: str | None = None,
        windows: str | None = None,
        use_motion: bool = True,
        compat: str = "none",
    ) -> AnimationOutput | Frames:
        """Animate.

        Arguments left out take the defaults that came with the weights (`generation_defaults`), then the
        released ones.

        Args:
            image: the reference, or several for as many videos: PIL, uint8 ``H x W x 3``, or a tensor ``B x 3
                x H x W`` in [0, 1].
            image_pose: drawn poses ``F x 3 x H x W`` in [-1, 1], RGB, one for each frame of the video; uint8
                ``F x H x W x 3``; ``B x F x 3 x H x W``, or a list, for each video's own. Or a callable
                ``maps(frames)`` that draws the maps of the asked frames when they are needed. None animates
                without poses.
            height, width: of the video, multiples of the VAE's downscale; the maps' unless given.
            num_frames: frames of the video; all of `image_pose` unless given.
            tile_size: frames of a window (released name: context_frames); a shorter clip is one window.
            tile_overlap: frames that neighbouring windows share (context_overlap).
            num_inference_steps: steps.
            guidance_scale: of every frame. Not above 1: no guidance, and half the work.
            decode_chunk_size: frames that `decode_stream` gives together.
            num_videos_per_prompt: videos of each reference.
            generator: source of all noise; a list has one for each video, which then equals a run of its own.
            latents: unit normal noise ``B x f x C x h x w``; f is the window's length (repeated) or
                `num_frames`.
            output_type: ``pil``, ``np``, ``pt`` or ``latent`` (see `AnimationOutput`).
            callback_on_step_end: ``callback(pipe, step, t, {"latents": …})`` after each step; latents in the
                dictionary that it returns are gone on with.
            callback_on_step_end_tensor_inputs: which tensors it wants.
            return_dict: an `AnimationOutput`, or else the frames alone.
            device: where to compute; the pipeline is moved there, unless offloading looks after that.
            min_guidance_scale, max_guidance_scale: in place of `guidance_scale`, of the first and the last
                frame, linear between.
            fusion: ``average`` (released), ``progressive``, ``released`` (MimicMotion's) or ``none``.
            noise: ``full`` (released), ``window`` or ``shared`` (`mimic.sampling.noise`).
            windows: ``closed``, the last is completed with the first frames (released), or ``sliding``, it is
                anchored at the end. Left out with a fusion of ``progressive`` or ``none``: ``sliding``, since
                these go by the order of windows.
            use_motion: off, motion modules are left out and each frame stands alone, as in stage 1 of
                training.
            compat: ``released`` repeats the released code's faults (`Faults`).

        Raises:
            ValueError: an argument does not fit the model or another argument.
        """
        inputs = read_inputs(
            image,
            image_pose,
            height=height,
            width=width,
            num_frames=num_frames,
            num_videos_per_prompt=num_videos_per_prompt,
        )
        num_frames = inputs.num_frames
        window = self.setting("tile_size", tile_size)
        if tile_overlap is None:
            tile_overlap = min(self.setting("tile_overlap"), max(window - 1, 0))
        fusion = self.setting("fusion", fusion)
        if windows is None:
            windows = "sliding" if fusion in {"progressive", "none"} else self.setting("windows")
        if guidance_scale is not None:
            min_guidance_scale = max_guidance_scale = guidance_scale
        request = Request(
            pictures=inputs.pictures,
            pose_maps=inputs.pose_maps,
            height=self.setting("height", inputs.height),
            width=self.setting("width", inputs.width),
            num_frames=num_frames,
            window=window,
            windows=lay_windows(num_frames, window, tile_overlap, windows),
            num_inference_steps=self.setting("num_inference_steps", num_inference_steps),
            guidance_scales=self._guidance_scales(min_guidance_scale, max_guidance_scale, num_frames),
            fusion=fusion,
            noise=self.setting("noise", noise),
            use_motion=use_motion,
            faults=Faults.of(compat),
            generator=generator,
            latents=latents,
            output_type=output_type,
            decode_chunk_size=self.setting("decode_chunk_size", decode_chunk_size),
            step_report=self._step_report(callback_on_step_end, callback_on_step_end_tensor_inputs),
        )
        return self._answer(request, device=device, return_dict=return_dict)

    def check(self, request: Request) -> None:
        """Raise `ValueError` for parts that do not fit each other or a request that does not fit them."""
        check_parts(self)
        check_request(self, request)

    def encode(self, request: Request) -> Conditions:
        """Embed the references and let the reference network see them, once for the whole run."""
        device, dtype = self._execution_device, self.unet.dtype
        embeddings = [
            embed_picture(self.image_encoder, self.feature_extractor, picture) for picture in request.pictures
        ]
        image_embeddings = torch.cat(embeddings).to(device, dtype)
        size = (request.height, request.width)
        pictures = torch.cat([picture_to_tensor(picture, size) for picture in request.pictures])
        latents = encode_reference(self.vae, pictures.to(device)).to(dtype)
        banks = [self._see(*each) for each in zip(latents.split(1), image_embeddings.split(1))]
        if request.faults.float16_bank:
            banks = [bank.rounded(torch.float16) for bank in banks]
        self.maybe_free_model_hooks()
        return Conditions(image_embeddings, banks, self._pose_features(request, device))

    def _see(self, latents_1Chw: Tensor, embedding_11D: Tensor) -> ReferenceBank:
        """What the reference network makes of a clean picture (timestep 0)."""
        bank = ReferenceBank()
        self.reference_unet(latents_1Chw, 0, embedding_11D, bank)
        return bank

    def _pose_features(self, request: Request, device: torch.device) -> PoseFeatures | None:
        if not request.pose_maps:
            return None
        return PoseFeatures(
            self.pose_guider,
            request.pose_maps,
            device=device,
            dtype=self.pose_guider.dtype,
            budget_bytes=int(self.pose_feature_budget_mb * 2**20),
        )

    def prepare(self, request: Request) -> Start:
        """Draw the noise (or take the given) and lay out the timesteps."""
        device = self._execution_device
        self.scheduler.set_timesteps(request.num_inference_steps, device=device)
        noise = request.latents
        if noise is None:
            drawn = frames_to_draw(request.num_frames, request.window, request.noise)
            channels, h, w = self.latent_shape(request.height, request.width)
            # The released code has time behind the channels; drawn so, a seed gives its numbers.
            noise = draw_noise(
                (len(request.pictures), channels, drawn, h, w),
                request.generator,
                device=device,
                dtype=self.unet.dtype,
            ).transpose(1, 2)
        latents = repeat_along_time(noise.to(device, torch.float32), request.num_frames)
        return Start(latents=latents * self.scheduler.init_noise_sigma, timesteps=self.scheduler.timesteps)

    def denoise(self, request: Request, conditions: Conditions, start: Start) -> Tensor:
        """Sample latents ``B x F x C x h x w``, in the UNet's precision."""
        self._num_timesteps = len(start.timesteps)
        step_arguments = {}
        if "generator" in inspect.signature(self.scheduler.step).parameters:
            step_arguments["generator"] = request.generator
        with self.progress_bar(total=len(start.timesteps) * len(request.windows)) as bar:
            latents = denoise(
                self._predictor(request, conditions),
                start.latents,
                scheduler=self.scheduler,
                timesteps=start.timesteps,
                windows=request.windows,
                weights=self._weights(request),
                step_arguments=step_arguments,
                after_window=bar.update,
                after_step=self._after_step(request.step_report),
            )
        return latents.to(self.unet.dtype)

    def _weights(self, request: Request) -> list[Tensor]:
        if request.faults.undivided_overlaps and not guidance.is_needed(request.guidance_scales):
            return [torch.ones(len(window)) for window in request.windows]
        return fusion_weights(request.windows, request.fusion)

    def _predictor(self, request: Request, conditions: Conditions) -> Predict:
        """One video at a time, so that each gets the bytes of a run of its own, and its memory only."""

        def predict_video(
            video: int, latents_1FChw: Tensor, t: Tensor, frames: list[int], pose: Tensor | None
        ) -> Tensor:
            embedding = conditions.image_embeddings[video : video + 1]

            def run_unet(embedding_11D: Tensor, bank: ReferenceBank | None) -> Tensor:
                return self.unet(
                    latents_1FChw,
                    t,
                    embedding_11D,
                    pose_features=pose,
                    reference=None if bank is None else bank.read([True]),
                    use_motion=request.use_motion,
                    return_dict=False,
                )[0].float()

            conditional = run_unet(embedding, conditions.banks[video])
            scales = request.guidance_scales[frames]
            if not guidance.is_needed(scales):
                return conditional
            # The unconditional half sees nothing of the picture; its pose is the same.
            return guidance.guide(run_unet(torch.zeros_like(embedding), None), conditional, scales)

        def predict(latents: Tensor, t: Tensor, frames: list[int]) -> Tensor:
            features = None
            if conditions.pose_features is not None:
                features = conditions.pose_features(frames).to(self.unet.dtype)
            videos = latents.to(self.unet.dtype).split(1)
            return torch.cat(
                [predict_video(i, video, t, frames, _of_video(features, i)) for i, video in enumerate(videos)]
            )

        return predict


def _of_video(features: Tensor | None, video: int) -> Tensor | None:
    """``1 x F x C x h x w`` of one video; features of B = 1 are everyone's."""
    if features is None or len(features) == 1:
        return features
    return features[video : video + 1]
