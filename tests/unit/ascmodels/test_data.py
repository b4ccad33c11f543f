"""The feed gives the same batches in the same order wherever the features lie."""

import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import psutil
import pytest
import torch

from ascfeat.testing.stores import WAYS
from ascfeat.testing.stores import make_store as store_kept_as
from ascmodels import room
from ascmodels.data import feed, placed
from ascmodels.joining import join
from ascmodels.order import shuffled
from ascmodels.randomness import generator
from ascmodels.testing.stores import layout, make_store

CLASSES = ("bus", "park", "tram")


def epoch(store, place, seed=3, window_mib=1024):
    clips = np.arange(10, 60)
    order = shuffled(join(store), clips, window_mib, generator(seed, "order", 1))
    return list(feed(store, clips, CLASSES, place, window_mib=window_mib).batches(order, 16))


def test_memory_and_stream_give_the_same_batches(store):
    pairs = list(zip(epoch(store, "ram"), epoch(store, "stream"), strict=True))
    assert [len(a.clips) for a, _ in pairs] == [16, 16, 16, 2]
    for a, b in pairs:
        np.testing.assert_array_equal(a.clips, b.clips)
        assert torch.equal(*a.features, *b.features)
        assert torch.equal(a.targets, b.targets)


def test_an_epoch_holds_each_clip_once_with_its_own_features_and_label(store):
    batches = epoch(store, "ram")
    clips = np.concatenate([b.clips for b in batches])
    assert sorted(clips) == list(range(10, 60))
    np.testing.assert_array_equal(torch.cat([b.features[0] for b in batches]).numpy(), store.read(clips))
    assert [CLASSES[t] for b in batches for t in b.targets] == [store.labels[c] for c in clips]


def test_the_order_is_the_seeds_and_the_epochs(store):
    clips, draws = np.arange(50), ((0, 1), (0, 1), (0, 2), (1, 1))
    orders = [shuffled(join(store), clips, 1024, generator(s, "order", e)).clips.tolist() for s, e in draws]
    assert orders[0] == orders[1]
    assert len({tuple(o) for o in orders}) == 3


def test_changing_a_batch_does_not_change_the_next_epoch(store):
    reader = feed(store, np.arange(20), CLASSES, "ram")
    first = next(reader.in_order(np.arange(4), 4)).features[0]
    first.zero_()
    assert next(reader.in_order(np.arange(4), 4)).features[0].abs().sum() > 0


@pytest.mark.parametrize(("free", "place"), [(10**12, "ram"), (10**5, "stream")])
def test_memory_is_taken_where_the_clips_fit(store, monkeypatch, free, place):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": free})())
    assert placed(join(store), 72) == place
    assert placed(join(store), 72, "ram") == "ram"
    assert placed(join(store), 72, "stream") == "stream"


@pytest.fixture
def shards(tmp_path):
    """72 clips of 128 kB, eight in a shard."""
    shape = layout(bands=64, frames=512)
    return make_store(tmp_path / "scenes" / "made_up.zarr", shape=shape, clips_per_unit=8)


def test_windows_give_the_same_batches_from_everywhere(shards):
    """Windows of two MiB, sixteen clips; batches of sixteen that begin in one window and end in the next."""
    for ram, stream in zip(epoch(shards, "ram", window_mib=2), epoch(shards, "stream", window_mib=2), strict=True):
        np.testing.assert_array_equal(ram.clips, stream.clips)
        assert torch.equal(*ram.features, *stream.features)
        np.testing.assert_array_equal(stream.features[0].numpy(), shards.read(stream.clips))


def test_a_window_is_whole_shards_and_each_is_read_once(shards, monkeypatch):
    reads, read = [], shards.read
    monkeypatch.setattr(shards, "read", lambda clips, out: (reads.append(clips), read(clips, out=out))[1])
    assert len(epoch(shards, "stream", window_mib=2)) == 4
    assert sorted(np.concatenate(reads)) == list(range(10, 60))
    assert max(map(len, reads)) <= 16
    units = [set(clips // 8) for clips in reads]
    assert sum(map(len, units)) == len(set.union(*units)) == 7


def windows(order):
    """Shards of each window."""
    return [sorted(set(order.clips[w] // 8)) for w in order.windows]


def test_windows_are_shuffled_within_and_among_themselves(shards):
    orders = [shuffled(join(shards), np.arange(72), 2, generator(0, "order", e)) for e in (1, 2)]
    assert orders[0].clips.tolist() != orders[1].clips.tolist()
    for order in orders:
        assert sorted(order.clips) == list(range(72))
        assert order.ends[-1] == 72
        assert all(order.clips[w].tolist() != sorted(order.clips[w]) for w in order.windows)
    assert windows(orders[0]) != windows(orders[1])


def test_one_window_is_any_permutation(shards):
    whole = shuffled(join(shards), np.arange(72), None, generator(0, "order", 1))
    np.testing.assert_array_equal(whole.clips, generator(0, "order", 1).permutation(72))
    assert whole.ends == (72,)
    wide = shuffled(join(shards), np.arange(72), 1024, generator(0, "order", 1))
    np.testing.assert_array_equal(wide.clips, whole.clips)


def test_a_stream_without_windows_reads_pieces(shards, monkeypatch):
    monkeypatch.setattr("ascmodels.data.PIECE_MIB", 1)
    pairs = zip(epoch(shards, "ram", window_mib=None), epoch(shards, "stream", window_mib=None), strict=True)
    assert all(torch.equal(*a.features, *b.features) for a, b in pairs)


@pytest.mark.parametrize("place", ["ram", "stream"])
@pytest.mark.parametrize("way", WAYS)
def test_every_number_format_gives_the_values_of_the_store(tmp_path, way, place):
    kept = store_kept_as(tmp_path / "made" / "made.zarr", way)
    clips = np.flatnonzero(kept.usable)
    for batch in feed(kept, clips, kept.header.classes, place).in_order(clips, 3):
        assert batch.features[0].dtype == torch.float32
        np.testing.assert_array_equal(batch.features[0].numpy(), kept.read(batch.clips))


def test_an_error_while_reading_ahead_is_raised_where_batches_are_asked_for(shards, monkeypatch):
    def fail(clips, out):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(shards, "read", fail)
    with pytest.raises(OSError, match="Stale"):
        epoch(shards, "stream", window_mib=2)


def test_a_feed_that_is_left_early_leaves_no_thread(shards):
    order = shuffled(join(shards), np.arange(72), 2, generator(0, "order", 1))
    batches = feed(shards, np.arange(72), CLASSES, "stream", window_mib=2).batches(order, 4)
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("ahead")]


def test_limits_of_the_process_and_its_group_count(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_groups", lambda: [tmp_path])
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("4000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500\n")
    assert room.memory() == 1500
    (tmp_path / "memory.max").write_text("max\n")
    assert room.memory() > 1 << 20
    monkeypatch.setattr(room.resource, "getrlimit", lambda limit: (1 << 10, 1 << 10))
    assert room.memory() == 0


def read_through(given, order):
    """Every batch of an order."""
    return [tuple(x.numpy() for x in batch.features) for batch in given.batches(order, 16)]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["ram", "stream"])
def test_a_spawned_process_reads_the_same_batches(shards, place):
    """Whoever wants workers spawns them; the feed opens its files anew there."""
    clips = np.arange(10, 60)
    given = feed(shards, clips, CLASSES, place, window_mib=2)
    order = shuffled(join(shards), clips, 2, generator(0, "order", 1))
    expected = read_through(given, order)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        found = process.submit(read_through, given, order).result()
    assert len(found) == len(expected) == 4
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
