"""Several references of a clip: which picture takes which place."""

import torch

from mimic.data.batch import with_references


def test_every_picture_is_the_reference_once_and_changes_places_with_it():
    numbers = 10 * torch.arange(2)[:, None] + torch.arange(4)  # picture p of clip c is 10 c + p
    orders = [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 0, 3], [3, 1, 2, 0]]
    expected = orders + [[10 + number for number in order] for order in orders]
    assert with_references(numbers, 4).tolist() == expected
    pictures = numbers[..., None, None, None].expand(-1, -1, 3, 2, 2)
    assert with_references(pictures, 2).shape == (4, 4, 3, 2, 2)
    assert with_references(pictures, 2)[:, 0, 0, 0, 0].tolist() == [0, 1, 10, 11]
    assert torch.equal(with_references(numbers, 1), numbers)
