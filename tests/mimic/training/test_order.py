"""The order of clips and the random numbers depend on seed and step, not on how the work is divided."""

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.training.order import Order, generator_of, own_numbers, places_of_step, seed_of


@settings(max_examples=15)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 3))
def test_every_epoch_shows_every_clip_once(num_clips, batch_size, seed):
    num_steps = -(-3 * num_clips // batch_size)
    places = [
        place
        for step in range(num_steps)
        for place in places_of_step(step, num_clips=num_clips, batch_size=batch_size, seed=seed)
    ]
    for epoch in range(3):
        assert sorted(n for e, n in places if e == epoch) == list(range(num_clips))
    assert [epoch for epoch, _ in places] == sorted(epoch for epoch, _ in places)


def test_another_epoch_and_another_seed_have_another_order():
    orders = {
        tuple(n for _, n in places_of_step(step, num_clips=20, batch_size=20, seed=seed))
        for step in (0, 1)
        for seed in (0, 1)
    }
    assert len(orders) == 4


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_processes_and_passes_divide_the_global_batch_among_them(num_ranks, accumulate, size):
    batch_size = num_ranks * accumulate * size
    parts = [
        own_numbers(part, batch_size=batch_size, accumulate=accumulate, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
        for part in range(accumulate)
    ]
    assert [number for part in parts for number in part] == list(range(batch_size))


@pytest.mark.parametrize("buckets", [[range(5)], [[0, 2, 4], [1, 3]]])
@pytest.mark.parametrize("first_step", [0, 3])
def test_order_of_a_resumed_run_is_the_rest_of_the_whole_one(first_step, buckets):
    common = {"buckets": buckets, "batch_size": 4, "accumulate": 2, "seed": 1, "last_step": 6}
    whole = list(Order(first_step=0, **common))
    rest = Order(first_step=first_step, **common)
    assert list(rest) == whole[2 * first_step :]
    assert len(rest) == 2 * (6 - first_step)


def test_one_bucket_has_the_order_without_buckets():
    order = Order(buckets=[range(7)], batch_size=4, accumulate=1, seed=3, first_step=0, last_step=9)
    plain = [places_of_step(step, num_clips=7, batch_size=4, seed=3) for step in range(9)]
    assert list(order) == plain


def test_a_batch_comes_from_one_bucket_and_every_clip_has_its_turn():
    buckets = [[0, 3, 4, 6, 7, 8], [1, 5], [2]]
    order = list(Order(buckets=buckets, batch_size=3, accumulate=1, seed=0, first_step=0, last_step=300))
    chosen = [next(b for b, bucket in enumerate(buckets) if batch[0][1] in bucket) for batch in order]
    for batch, bucket in zip(order, chosen):
        assert {number for _, number in batch} <= set(buckets[bucket])
    for bucket, clips in enumerate(buckets):
        # In proportion to its clips, which all come once in each of the bucket's epochs.
        assert chosen.count(bucket) / 300 == pytest.approx(len(clips) / 9, abs=0.08)
        places = [place for batch, own in zip(order, chosen) if own == bucket for place in batch]
        first_epoch = [number for epoch, number in places if epoch == 0]
        assert sorted(first_epoch) == sorted(clips)


def test_numbers_of_a_sample_differ_by_seed_step_and_place():
    draws = {
        float(torch.rand((), generator=generator_of(seed, step, place)))
        for seed in (0, 1)
        for step in (0, 1)
        for place in (0, 1)
    }
    assert len(draws) == 8
    assert torch.equal(
        torch.rand(3, generator=generator_of(5, 6, 7)), torch.rand(3, generator=generator_of(5, 6, 7))
    )


def test_random_numbers_of_a_step_stay_those_of_earlier_versions():
    assert seed_of(0, 0, 0) == int.from_bytes(hashlib.sha256(b"0/0/0").digest()[:8], "big") // 2
    assert seed_of(3, 4, "validation") != seed_of(3, 4, 0) != seed_of(3, 5, 0)


def test_buckets_of_one_size_have_orders_of_their_own():
    order = Order(
        buckets=[range(12), range(12, 24)], batch_size=12, accumulate=1, seed=0, first_step=0, last_step=20
    )
    batches = list(order)
    first = next([number for _, number in batch] for batch in batches if batch[0][1] < 12)
    second = next([number - 12 for _, number in batch] for batch in batches if batch[0][1] >= 12)
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
