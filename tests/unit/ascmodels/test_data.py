"""The feed gives the same batches in the same order wherever the features lie."""

import numpy as np
import psutil
import pytest
import torch

from ascmodels.data import feed, placed
from ascmodels.order import shuffled
from ascmodels.randomness import generator

CLASSES = ("bus", "park", "tram")


def epoch(store, place, seed=3, window_mib=1024):
    clips = np.arange(10, 60)
    order = shuffled(store, clips, window_mib, generator(seed, "order", 1))
    return list(feed(store, clips, CLASSES, place, window_mib=window_mib).batches(order, 16))


def test_memory_and_stream_give_the_same_batches(store):
    pairs = list(zip(epoch(store, "ram"), epoch(store, "stream"), strict=True))
    assert [len(a.clips) for a, _ in pairs] == [16, 16, 16, 2]
    for a, b in pairs:
        np.testing.assert_array_equal(a.clips, b.clips)
        assert torch.equal(a.features, b.features)
        assert torch.equal(a.targets, b.targets)


def test_an_epoch_holds_each_clip_once_with_its_own_features_and_label(store):
    batches = epoch(store, "ram")
    clips = np.concatenate([b.clips for b in batches])
    assert sorted(clips) == list(range(10, 60))
    np.testing.assert_array_equal(torch.cat([b.features for b in batches]).numpy(), store.read(clips))
    assert [CLASSES[t] for b in batches for t in b.targets] == [store.labels[c] for c in clips]


def test_the_order_is_the_seeds_and_the_epochs(store):
    clips, draws = np.arange(50), ((0, 1), (0, 1), (0, 2), (1, 1))
    orders = [shuffled(store, clips, 1024, generator(s, "order", e)).clips.tolist() for s, e in draws]
    assert orders[0] == orders[1]
    assert len({tuple(o) for o in orders}) == 3


def test_changing_a_batch_does_not_change_the_next_epoch(store):
    reader = feed(store, np.arange(20), CLASSES, "ram")
    first = next(reader.in_order(np.arange(4), 4)).features
    first.zero_()
    assert next(reader.in_order(np.arange(4), 4)).features.abs().sum() > 0


@pytest.mark.parametrize(("free", "place"), [(10**12, "ram"), (10**5, "stream")])
def test_memory_is_taken_where_the_clips_fit(store, monkeypatch, free, place):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": free})())
    assert placed(store, 72) == place
    assert placed(store, 72, "ram") == "ram"
    assert placed(store, 72, "stream") == "stream"
