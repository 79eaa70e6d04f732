"""Print how far this implementation is from the recorded numbers of the released MimicMotion code.

    python -m benchmarks.parity

One row for each recording in tests/goldens/mimicmotion: largest absolute difference, and the tolerance of the
tests. It takes about a minute on one core.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mimic.data.transforms import picture_to_tensor
from mimic.models.image_embedding import clip_pixels, embed_images, resize_antialiased
from mimic.models.vae import decode_frames, encode_images
from tests.mimic.families.mimicmotion.test_parity import CASES, arguments_of
from tests.tiny import golden, golden_image, golden_pipeline

Row = tuple[str, Tensor, Tensor, float]


def modules() -> Iterator[Row]:
    """PoseNet, UNet."""
    pipe, recorded = golden_pipeline(), golden("modules")
    yield "PoseNet", pipe.pose_net(recorded["posenet_in"]), recorded["posenet_out"], 1e-4
    pose = recorded["posenet_out"]
    inputs = [
        recorded[f"unet_{name}"] for name in ("sample", "timestep", "encoder_hidden_states", "added_time_ids")
    ]
    yield "UNet, no pose", pipe.unet(*inputs).sample, recorded["unet_out_no_pose"], 1e-4
    yield "UNet, pose", pipe.unet(*inputs, pose_latents=pose).sample, recorded["unet_out_pose"], 1e-4
    images = pipe.unet(*inputs, pose_latents=pose, image_only_indicator=True).sample
    yield "UNet, pose, image only", images, recorded["unet_out_pose_image_only"], 1e-4
    batch = [recorded[f"unet_b2_{name}"] for name in ("sample", "encoder_hidden_states", "added_time_ids")]
    both = pipe.unet(batch[0], inputs[1], *batch[1:], pose_latents=torch.cat([pose, pose.flip(0)])).sample
    yield "UNet, batch of 2", both, recorded["unet_b2_out_pose_per_item"], 1e-4


def image_branch() -> Iterator[Row]:
    """What is made of the reference, and of latents."""
    pipe, recorded = golden_pipeline(), golden("image_branch")
    picture = picture_to_tensor(golden_image())
    pixels = clip_pixels(picture, pipe.feature_extractor, 224)
    yield "CLIP's input", pixels[..., ::2, ::2], recorded["clip_pixel_values_every_2"], 1e-5
    embedding = embed_images(pipe.image_encoder, pipe.feature_extractor, picture)
    yield "image embedding", embedding, recorded["image_embeddings_cfg"][1:], 1e-4
    yield (
        "reference latents",
        encode_images(pipe.vae, picture * 2 - 1),
        recorded["image_latents_cfg"][1:],
        1e-4,
    )
    for chunk in (5, 2):
        frames = torch.cat(list(decode_frames(pipe.vae, recorded["dec_latents"][0], chunk)))
        yield (
            f"decoded, {chunk} at a time",
            frames.transpose(0, 1)[None],
            recorded[f"decoded_chunk{chunk}"],
            1e-4,
        )
    large = picture_to_tensor(golden_image("antialias_input_608x464.png")) * 2 - 1
    resized = golden("antialias_608x464_to_224")["resized_rows_cols_every_2"]
    yield "antialiased resize", resize_antialiased(large, 224, 224)[..., ::2, ::2], resized, 1e-5


def cases() -> Iterator[Row]:
    """Whole runs."""
    pipe = golden_pipeline()
    for case in sorted(set(CASES) - {"_common"}):
        recorded, steps = golden(case), []

        def keep(
            pipe: object, i: int, t: Tensor, tensors: dict[str, Tensor], steps: list[Tensor] = steps
        ) -> None:
            steps.append(tensors["latents"].clone())

        arguments = arguments_of(case, recorded)
        frames = pipe(golden_image(), output_type="pt", callback_on_step_end=keep, **arguments).frames
        yield f"{case}: latents", steps[-1], recorded["final_latents"], 2e-4
        if "latents_per_step" in recorded:
            yield f"{case}: every step", torch.stack(steps), recorded["latents_per_step"], 5e-4
        in_half = recorded["frames_pt"].dtype == torch.float16
        yield f"{case}: frames", frames, recorded["frames_pt"].float(), 5e-4 if in_half else 1e-4
    half, recorded = golden_pipeline(torch.float16), golden("case1_single_tile")
    latents = half(golden_image(), output_type="latent", **arguments_of("case1_single_tile", recorded)).frames
    yield "case1_single_tile in float16: latents", latents.float(), recorded["final_latents"], 0.06


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    print("| recording | largest difference | tolerance |\n| --- | --- | --- |")
    for section in (modules, image_branch, cases):
        for name, ours, recorded, tolerance in section():
            print(f"| {name} | {float((ours - recorded).abs().max()):.1e} | {tolerance:.0e} |", flush=True)


if __name__ == "__main__":
    main()
