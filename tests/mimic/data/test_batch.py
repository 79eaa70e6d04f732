"""Batches: what an exchange of references gives, and what it keeps."""

import pytest
import torch

from mimic.data.batch import Batch


def numbered(num_clips: int = 2, num_frames: int = 3) -> Batch:
    """A batch in which every tensor of picture p of clip c is ``10 * c + p``; picture 0 is the reference."""
    numbers = 10.0 * torch.arange(num_clips)[:, None] + torch.arange(num_frames + 1)
    pictures = numbers[..., None, None, None].expand(-1, -1, 3, 2, 2)
    return Batch(
        frames=pictures[:, 1:],
        reference=pictures[:, 0],
        pose_maps=pictures,
        masks={"hands": pictures[:, :, :1]},
        keys=tuple(f"clip {clip}" for clip in range(num_clips)),
        latents=pictures[:, 1:],
        reference_latents=pictures[:, 0],
        image_embedding=numbers[:, :1],
    )


def numbers_of(tensor: torch.Tensor) -> list[list[int]]:
    return tensor[..., 0, 0, 0].int().tolist()


def test_every_picture_is_the_reference_once_and_takes_pose_masks_and_latents_along():
    batch = numbered().with_references(4)
    expected = [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 0, 3], [3, 1, 2, 0]]
    expected += [[10 + number for number in window] for window in expected]
    assert numbers_of(batch.pose_maps) == numbers_of(batch.masks["hands"]) == expected
    for first, others in ((batch.reference, batch.frames), (batch.reference_latents, batch.latents)):
        assert numbers_of(torch.cat([first[:, None], others], dim=1)) == expected
    assert batch.keys == ("clip 0",) * 4 + ("clip 1",) * 4
    assert batch.image_embedding is None


def test_one_reference_is_the_batch_itself_and_more_than_there_are_pictures_are_refused():
    batch = numbered()
    assert batch.with_references(1) is batch
    with pytest.raises(ValueError, match="5 references of 4 pictures"):
        batch.with_references(5)
