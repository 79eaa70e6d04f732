"""Which of the contract's tests run for every family only among the slow ones.

Animate Anyone and MagicAnimate share their sampling and most of their parts: of tests that run whole videos,
the quick suite has the one with more parts, MagicAnimate, and MimicMotion.
"""

import pytest

_OF_WHOLE_VIDEOS = {
    "test_picture_poses_and_seed_decide_and_nothing_else",
    "test_any_fusion_serves_any_number_of_frames_and_is_nothing_in_one_window",
    "test_videos_of_a_batch_are_single_runs",
    "test_frames_come_in_every_form_and_as_a_stream",
    "test_maps_may_be_drawn_when_they_are_needed",
}
_FUSIONS_OF_THE_SLOW = {"average", "none"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them."""
    for item in items:
        if not isinstance(item, pytest.Function) or item.originalname not in _OF_WHOLE_VIDEOS:
            continue
        given = item.callspec.params if hasattr(item, "callspec") else {}
        is_slow = given.get("family") == "animate_anyone" or (
            given.get("family") == "magic_animate" and given.get("fusion") in _FUSIONS_OF_THE_SLOW
        )
        if is_slow:
            item.add_marker(pytest.mark.slow)
