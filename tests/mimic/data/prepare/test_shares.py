"""Which videos there are, who works on which, and which of them validate."""

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic.data.index import DataError
from mimic.data.prepare.result import split_by_video
from mimic.data.prepare.shards import Place, place_of, share
from mimic.data.prepare.sources import Source, walk
from mimic.data.prepare.work import divided

NAMES = st.lists(st.text("abcdef/", min_size=1, max_size=8), unique=True, max_size=30)


@given(NAMES, st.integers(1, 5), st.randoms())
def test_ranks_share_all_videos_and_each_goes_to_one(names, world_size, random):
    sources = [Source(name, random.randrange(10**6), 0) for name in names]
    shares = [share(sources, Place(rank, world_size)) for rank in range(world_size)]
    assert sorted(source.video for own in shares for source in own) == sorted(names)
    if len(names) >= world_size:
        assert all(shares)


def test_the_place_is_torchruns():
    environment = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert place_of(environment) == Place(3, 8, 1, 2)
    assert place_of({}) == Place(0, 1, 0, 1)


@pytest.mark.parametrize("wrong", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "first"}, {"RANK": "1"}])
def test_an_environment_that_makes_no_sense_is_told(wrong):
    with pytest.raises(DataError, match="RANK"):
        place_of(wrong)


@given(NAMES, st.floats(0.01, 0.9), st.integers(0, 9))
def test_a_split_has_both_kinds_whenever_it_can(names, val_share, seed):
    splits = split_by_video(names, val_share=val_share, seed=seed)
    assert set(splits) == set(names)
    assert splits == split_by_video(reversed(names), val_share=val_share, seed=seed)
    if len(names) > 1:
        assert set(splits.values()) == {"train", "val"}
    elif names:
        assert set(splits.values()) == {"train"}


def test_a_video_keeps_its_split_when_others_are_added():
    names = [f"dance_{i}.mp4" for i in range(200)]
    before = split_by_video(names[:100], val_share=0.2, seed=0)
    after = split_by_video(names, val_share=0.2, seed=0)
    assert {name: after[name] for name in before} == before
    assert 20 < sum(split == "val" for split in after.values()) < 60
    assert split_by_video(names, val_share=0.2, seed=1) != after
    assert set(split_by_video(names, val_share=0, seed=0).values()) == {"train"}


@given(st.integers(0, 50), st.integers(1, 500), st.integers(1, 60))
def test_long_shots_are_divided_evenly(first, num_frames, longest):
    parts = divided(first, first + num_frames, longest)
    assert parts[0][0] == first
    assert parts[-1][1] == first + num_frames
    assert all(end == begin for (_, end), (begin, _) in itertools.pairwise(parts))
    lengths = [end - begin for begin, end in parts]
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1


def test_walking_takes_videos_of_all_kinds_in_order_and_leaves_the_rest(tmp_path):
    kinds = ["a.mp4", "b/c.MOV", "b/d.mkv", "e.webm", "f.avi", "g.gif"]
    for name in [*kinds, "x.txt", ".hidden.mp4", ".cache/y.mp4"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1234")
    (tmp_path / "b" / "up").symlink_to(tmp_path)  # a circle
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert [source.video for source in walk(tmp_path)] == kinds
    assert walk(tmp_path)[0].num_bytes == 4


def test_names_of_clips_are_plain_and_differ():
    sources = [
        Source(name, 0, 0) for name in ("ü ber/das.mp4", "ü-ber/das.mp4", "舞.mp4", "x" * 300 + ".mp4")
    ]
    names = [source.clip_name(7) for source in sources]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and len(name) < 80 and os.sep not in name for name in names)
