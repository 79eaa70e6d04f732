"""MimicMotion: a reference picture and drawn poses in, a video out.

Legend: B batch, F frames, C latent channels, H height, W width; h, w of latents; D width of CLIP's embedding.
"""

from __future__ import annotations

import inspect
import os
from typing import Any

import torch
from torch import Tensor

from mimic.data.transforms import picture_to_tensor
from mimic.families.base import AnimationOutput, AnimationPipeline, Frames, StepCallback
from mimic.families.inputs import read_inputs
from mimic.families.mimicmotion.keys import load_released
from mimic.families.mimicmotion.request import Conditions, Request, Start, check_parts, check_request
from mimic.families.pose_features import PoseFeatures
from mimic.models.image_embedding import embed_images
from mimic.models.vae import encode_images
from mimic.sampling import guidance
from mimic.sampling.denoise import Predict, denoise
from mimic.sampling.fusion import fusion_weights
from mimic.sampling.noise import Generators, draw_noise, frames_to_draw, repeat_along_time
from mimic.sampling.windows import reference_windows


class MimicMotionPipeline(AnimationPipeline):
    """MimicMotion (arXiv 2406.19680) on Stable Video Diffusion.

    Args:
        vae: `AutoencoderKLTemporalDecoder`.
        image_encoder: `CLIPVisionModelWithProjection`.
        unet: `PoseConditionedSVDUNet`.
        scheduler: `EulerDiscreteScheduler` as SVD's, or another of diffusers'.
        feature_extractor: `CLIPImageProcessor`.
        pose_net: `PoseNet`.
    """

    # PoseNet is called between UNet calls; outside the sequence it stays where it computes (0.4 MB).
    model_cpu_offload_seq = "image_encoder->unet->vae"
    _released_defaults = {  # noqa: RUF012
        "height": 576,
        "width": 1024,
        "tile_size": 16,
        "tile_overlap": 6,
        "num_inference_steps": 25,
        "min_guidance_scale": 2.0,
        "max_guidance_scale": 2.0,
        "fps": 7,
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.0,
        "decode_chunk_size": 8,
        "fusion": "released",
        "noise": "window",
    }

    pose_feature_budget_mb: float = 512
    """Memory that PoseNet's features may take on the device, so that they are not made again at every
    step."""

    def __init__(
        self, vae: Any, image_encoder: Any, unet: Any, scheduler: Any, feature_extractor: Any, pose_net: Any
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            image_encoder=image_encoder,
            unet=unet,
            scheduler=scheduler,
            feature_extractor=feature_extractor,
            pose_net=pose_net,
        )
        self.generation_defaults = {}

    @classmethod
    def from_original(
        cls,
        base: str | os.PathLike[str],
        checkpoint: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        local_files_only: bool = False,
    ) -> MimicMotionPipeline:
        """Put a released MimicMotion checkpoint together with the Stable Video Diffusion it stands on.

        From `base` come VAE, image encoder, feature extractor, scheduler and the UNet's *config*; the UNet's
        and PoseNet's weights all come from `checkpoint`, and every key of it has to have its place.

        Args:
            base: model folder or hub id of Stable Video Diffusion img2vid-xt 1.1.
            checkpoint: the released `.pth`, or the same as `.safetensors`; a path or
                ``hf:owner/repository/file``.
            dtype: precision of all weights, float32 unless given (`torch_dtype` is the same by another name).
            variant: of the base's weight files, ``fp16`` for instance; found out when only that is there.
            local_files_only: do not ask the hub.

        Raises:
            SourceError: the checkpoint or a part of the base is not there (an `OSError`).
            WeightsError: a key is missing, surplus or of a wrong shape; all are listed (a `ValueError`).
        """
        parts = load_released(
            base,
            checkpoint,
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
        min_guidance_scale: float | None = None,
        max_guidance_scale: float | None = None,
        fps: int | None = None,
        motion_bucket_id: int | None = None,
        noise_aug_strength: float | None = None,
        image_only_indicator: bool = False,
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
        fusion: str | None = None,
        noise: str | None = None,
        guidance_interval: tuple[float, float] | None = None,
    ) -> AnimationOutput | Frames:
        """Animate.

        Arguments left out take the defaults that came with the weights (`generation_defaults`), then the
        released ones. The order of the positional ones is the released code's.

        Args:
            image: the reference, or several for as many videos: PIL, uint8 ``H x W x 3``, or a tensor ``B x 3
                x H x W`` in [0, 1].
            image_pose: ``F x 3 x H x W`` in [-1, 1], RGB, frame 0 the reference's own pose; ``B x F x 3 x H x
                W``, or a list, for poses of each video's own. Or a callable ``maps(frames) -> F x 3 x H x W``
                that draws the maps of the asked frames when they are needed. None animates without poses.
            height, width: of the video, multiples of the VAE's downscale; the pose maps' unless given.
            num_frames: frames of the video, the reference's own included; all of `image_pose` unless given.
            tile_size: frames of a window; a shorter clip is one window.
            tile_overlap: frames that neighbouring windows share, frame 0 counted (0 acts as 1).
            num_inference_steps: steps.
            min_guidance_scale, max_guidance_scale: guidance of the first and the last frame, linear between.
                One given alone is that of all frames. Not above 1: no guidance, and half the work.
            fps: frames per second that the model is told (it was trained with fps - 1).
            motion_bucket_id: how much motion the model is told to make.
            noise_aug_strength: noise added to the reference before it is encoded.
            image_only_indicator: treat frames as unrelated pictures.
            decode_chunk_size: frames decoded together; part of the result (see `decode_stream`).
            num_videos_per_prompt: videos of each reference.
            generator: source of all noise; a list has one for each video, which then equals a run of its own.
            latents: unit normal noise ``B x f x C x h x w``; f is the tile's length (repeated) or
                `num_frames`.
            output_type: ``pil``, ``np``, ``pt`` or ``latent`` (see `AnimationOutput`).
            callback_on_step_end: ``callback(pipe, step, t, {"latents": …})`` after each step; latents in the
                dictionary that it returns are gone on with.
            callback_on_step_end_tensor_inputs: which tensors it wants.
            return_dict: an `AnimationOutput`, or else the frames alone, as the released code returns them.
            device: where to compute; the pipeline is moved there, unless offloading looks after that.
            fusion: ``released``, ``progressive``, ``average`` or ``none`` (`mimic.sampling.fusion`).
            noise: ``window``, ``full`` or ``shared`` (`mimic.sampling.noise`).
            guidance_interval: lowest and highest noise level (sigma) with guidance; elsewhere there is none.

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
        tile_size = self.setting("tile_size", tile_size)
        if tile_overlap is None:
            tile_overlap = min(self.setting("tile_overlap"), max(tile_size - 1, 0))
        request = Request(
            pictures=inputs.pictures,
            pose_maps=inputs.pose_maps,
            height=self.setting("height", inputs.height),
            width=self.setting("width", inputs.width),
            num_frames=num_frames,
            tile_size=tile_size,
            windows=reference_windows(num_frames, tile_size, tile_overlap),
            num_inference_steps=self.setting("num_inference_steps", num_inference_steps),
            guidance_scales=self._guidance_scales(min_guidance_scale, max_guidance_scale, num_frames),
            guidance_interval=guidance_interval,
            fps=self.setting("fps", fps),
            motion_bucket_id=self.setting("motion_bucket_id", motion_bucket_id),
            noise_aug_strength=self.setting("noise_aug_strength", noise_aug_strength),
            image_only_indicator=image_only_indicator,
            fusion=self.setting("fusion", fusion),
            noise=self.setting("noise", noise),
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
        """Embed and encode the references, once for the whole run."""
        device, dtype = self._execution_device, self.unet.dtype
        embeddings = [
            embed_images(self.image_encoder, self.feature_extractor, picture_to_tensor(picture).to(device))
            for picture in request.pictures
        ]
        size = (request.height, request.width)
        pictures = torch.cat([picture_to_tensor(picture, size) for picture in request.pictures])
        pixels = pictures.to(device) * 2 - 1
        # Drawn even when it is not used, so that a seed gives the released code's latents.
        noise = draw_noise(tuple(pixels.shape), request.generator, device=device, dtype=pixels.dtype)
        reference_latents = encode_images(self.vae, pixels + request.noise_aug_strength * noise)
        # SVD was conditioned on fps - 1 during training.
        time_ids = [request.fps - 1, request.motion_bucket_id, request.noise_aug_strength]
        self.maybe_free_model_hooks()
        return Conditions(
            image_embeddings=torch.cat(embeddings).to(dtype),
            reference_latents=reference_latents.to(dtype),
            added_time_ids=torch.tensor([time_ids] * len(request.pictures), device=device, dtype=dtype),
            pose_features=self._pose_features(request, device),
        )

    def _pose_features(self, request: Request, device: torch.device) -> PoseFeatures | None:
        if not request.pose_maps:
            return None
        budget_bytes = int(self.pose_feature_budget_mb * 2**20)
        return PoseFeatures(
            self.pose_net,
            request.pose_maps,
            device=device,
            dtype=self.pose_net.dtype,
            budget_bytes=budget_bytes,
        )

    def prepare(self, request: Request) -> Start:
        """Draw the noise (or take the given) and lay out the timesteps."""
        device = self._execution_device
        self.scheduler.set_timesteps(request.num_inference_steps, device=device)
        noise = request.latents
        if noise is None:
            drawn = frames_to_draw(request.num_frames, request.tile_size, request.noise)
            noise = draw_noise(
                (len(request.pictures), drawn, *self.latent_shape(request.height, request.width)),
                request.generator,
                device=device,
                dtype=self.unet.dtype,
            )
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
                weights=fusion_weights(request.windows, request.fusion),
                step_arguments=step_arguments,
                after_window=bar.update,
                after_step=self._after_step(request.step_report),
            )
        return latents.to(self.unet.dtype)

    def _predictor(self, request: Request, conditions: Conditions) -> Predict:
        unconditional = conditions.unconditional()

        def run_unet(given: Conditions, latents: Tensor, t: Tensor, frames: list[int]) -> Tensor:
            reference = given.reference_latents[:, None].expand(-1, len(frames), -1, -1, -1)
            samples = torch.cat([latents.to(reference.dtype), reference], dim=2)
            poses = None if given.pose_features is None else given.pose_features(frames)
            # One video at a time, so that each gets the bytes of a run of its own, and its memory only.
            outputs = [
                self.unet(
                    samples[i : i + 1],
                    t,
                    encoder_hidden_states=given.image_embeddings[i : i + 1],
                    added_time_ids=given.added_time_ids[i : i + 1],
                    pose_latents=None if poses is None else poses[i % len(poses)],
                    image_only_indicator=request.image_only_indicator,
                    return_dict=False,
                )[0]
                for i in range(len(samples))
            ]
            return torch.cat(outputs).float()

        def predict(latents: Tensor, t: Tensor, frames: list[int]) -> Tensor:
            scales = request.guidance_scales[frames]
            if request.guidance_interval is not None:
                sigma = float(self.scheduler.sigmas[self.scheduler.step_index])
                scales = guidance.within_interval(scales, sigma, request.guidance_interval)
            conditional = run_unet(conditions, latents, t, frames)
            if not guidance.is_needed(scales):
                return conditional
            return guidance.guide(run_unet(unconditional, latents, t, frames), conditional, scales)

        return predict
