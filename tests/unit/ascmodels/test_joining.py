"""Several stores of the same clips: joined on the id, refused with the clips that differ."""

import numpy as np
import pytest
import torch

from ascmodels import recipes
from ascmodels.checkpoint import RunFolder
from ascmodels.data import feed
from ascmodels.evaluate import evaluate
from ascmodels.joining import join
from ascmodels.order import shuffled
from ascmodels.randomness import generator
from ascmodels.testing.stores import layout, make_store, scene_clips, scene_split
from ascmodels.training import train
from ascschemas.layout import Axis, Layout
from ascschemas.problems import RecipeError, StoreMismatch
from ascschemas.recipe import Patches

CLASSES = ("bus", "park", "tram")
TAGS = Layout(axes=(Axis(name="tag", size=16),), quantity="any")
CUT = Patches(width=8, hop=4)


@pytest.fixture
def pair(tmp_path):
    """The same clips in two orders and two sizes of shards; the second lacks one clip's values."""
    clips = scene_clips()
    one = make_store(tmp_path / "scenes" / "one.zarr", clips, clips_per_unit=8, shape=layout(bands=21, frames=64))
    two = make_store(
        tmp_path / "scenes" / "two.zarr", clips[::-1], splits=(scene_split(clips),), clips_per_unit=16, shape=TAGS,
        excluded=(3,),
    )  # fmt: skip
    return one, two


@pytest.mark.parametrize("place", ["ram", "stream"])
def test_every_batch_has_the_features_of_its_clips_from_each_store(pair, place):
    one, two = pair
    both = join(one, two)
    assert [one.ids[i] for i in np.flatnonzero(~both.usable)] == [two.ids[3]]
    clips = np.flatnonzero(both.usable)[:50]
    order = shuffled(both, clips, 1, generator(0, "order", 1))
    batches = list(feed(both, clips, CLASSES, place, window_mib=1).batches(order, 16))
    np.testing.assert_array_equal(np.concatenate([b.clips for b in batches]), order.clips)
    for batch in batches:
        np.testing.assert_array_equal(batch.features[0].numpy(), one.read(batch.clips))
        there = [two.ids.index(one.ids[c]) for c in batch.clips]
        np.testing.assert_array_equal(batch.features[1].numpy(), two.read(there))
        assert [CLASSES[t] for t in batch.targets] == [two.labels[c] for c in there]


def test_other_clips_are_named(tmp_path):
    clips = scene_clips()
    one = make_store(tmp_path / "scenes" / "one.zarr", clips)
    two = make_store(tmp_path / "scenes" / "two.zarr", clips[5:])
    with pytest.raises(StoreMismatch) as refused:
        join(one, two)
    rows = refused.value.differences
    assert [r.field for r in rows] == [*sorted(one.ids[:5])[:3], "and 2 more"]
    assert rows[0].found == "in the first only"
    with pytest.raises(StoreMismatch) as refused:
        join(two, one)
    assert refused.value.differences[0].found == "in the other only"


def test_other_labels_and_other_sides_are_named(tmp_path):
    clips = scene_clips()
    one = make_store(tmp_path / "scenes" / "one.zarr", clips)
    wrong = (clips[0].model_copy(update={"label": "tram"}), *clips[1:])
    split = scene_split(clips)
    moved = split.model_copy(update={"train": split.train[1:], "test": (*split.test, split.train[0])})
    for number, (theirs, sides, said) in enumerate(
        ((wrong, split, "label tram"), (clips, moved, "side in fold1 test"))
    ):
        two = make_store(tmp_path / "scenes" / f"two{number}.zarr", theirs, splits=(sides,))
        with pytest.raises(StoreMismatch) as refused:
            join(one, two)
        (row,) = refused.value.differences
        assert row.found == said
        assert row.field in (clips[0].id, split.train[0])


def test_stores_of_other_numbers_of_patches_are_refused(tmp_path):
    made = [
        make_store(tmp_path / "scenes" / f"f{hop}.zarr", shape=layout(frames=64), patches=Patches(width=8, hop=hop))
        for hop in (4, 8)
    ]
    with pytest.raises(StoreMismatch, match="side by side") as refused:
        join(*made)
    (row,) = refused.value.differences
    assert (row.expected, row.found) == ("15 patches a clip", "8")


def patched(tmp_path, name="cut", **other):
    return make_store(
        tmp_path / "scenes" / f"{name}.zarr", shape=layout(bands=21, frames=128, channels=3), patches=CUT,
        clips_per_unit=8, **other,
    )  # fmt: skip


def test_an_epoch_has_each_patch_once_the_same_from_everywhere(tmp_path, monkeypatch):
    store = patched(tmp_path)
    both, clips, count = join(store), np.arange(10, 60), 3 * 31
    assert both.examples == count
    order = shuffled(both, clips, 1, generator(0, "order", 1))
    assert len(order.ends) > 1
    examples = order.clips * count + order.parts
    assert sorted(examples) == [c * count + p for c in clips for p in range(count)]
    reads, read = [], store.read
    expected = store.patches(clips).reshape(-1, 1, 21, 8)
    held = list(feed(store, clips, CLASSES, "ram").batches(order, 64))
    monkeypatch.setattr(store, "read", lambda some, out: (reads.append(some), read(some, out=out))[1])
    streamed = list(feed(store, clips, CLASSES, "stream", window_mib=1).batches(order, 64))
    assert sorted(np.concatenate(reads)) == clips.tolist()
    at = 0
    for a, b in zip(held, streamed, strict=True):
        wanted = examples[at : at + len(a.clips)] - 10 * count
        np.testing.assert_array_equal(a.features[0].numpy(), expected[wanted])
        assert torch.equal(a.features[0], b.features[0])
        assert torch.equal(a.targets, b.targets)
        at += len(a.clips)
    assert at == len(examples)


def test_a_whole_clip_stands_beside_each_patch_of_another_store(tmp_path):
    cut, tags = patched(tmp_path), make_store(tmp_path / "scenes" / "tags.zarr", shape=TAGS, clips_per_unit=16)
    both, clips = join(cut, tags), np.arange(30)
    order = shuffled(both, clips, 1, generator(0, "order", 1))
    reads = [list(feed(both, clips, CLASSES, place, window_mib=1).batches(order, 64)) for place in ("ram", "stream")]
    for held, streamed in zip(*reads, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(held.features, streamed.features, strict=True))
        np.testing.assert_array_equal(held.features[1].numpy(), tags.read(held.clips))


SMALL = ["family.kind=pooled", "batch_size=32", "epochs=2", "augmentation.mixup=none"]


@pytest.mark.parametrize("trainer", ["supervised", "lightning", "svm"])
def test_trainers_train_and_score_several_stores_and_patches(tmp_path, recipe, trainer):
    if trainer == "lightning":
        pytest.importorskip("lightning")
    if trainer == "svm":
        pytest.importorskip("sklearn")
    cut, tags = patched(tmp_path), make_store(tmp_path / "scenes" / "tags.zarr", shape=TAGS)
    asked = recipes.override(recipe, ["features=[cut, tags]", f"trainer.kind={trainer}", *SMALL])
    train(asked, join(cut, tags), tmp_path / "run", device="cpu")
    report = evaluate(tmp_path / "run", join(cut, tags), device="cpu")
    assert report.selected.overall.accuracy > 0.5
    assert sorted(report.provenance.stores) == ["cut", "tags"]
    assert len(RunFolder(tmp_path / "run").data.stores) == 2
    with pytest.raises(StoreMismatch):
        evaluate(tmp_path / "run", cut, device="cpu")
    with pytest.raises(StoreMismatch, match="other stores"):
        train(asked, cut, tmp_path / "other", device="cpu")


def test_patches_are_seen_one_channel_at_a_time_and_vote(tmp_path, recipe):
    """A network of one channel, on a store of three; its clips are right oftener than chance."""
    store = make_store(
        tmp_path / "scenes" / "made_up.zarr", shape=layout(bands=21, frames=42, channels=3),
        patches=Patches(width=21, hop=21),
    )  # fmt: skip
    asked = recipes.override(recipe, ["batch_size=48", "vote=majority"])
    train(asked, store, tmp_path / "run", device="cpu", placement="stream")
    folder = RunFolder(tmp_path / "run")
    test = np.flatnonzero(store.sides("fold1") == "test")
    scorer = recipes.trainer(folder.recipe).scorer(folder, folder.progress().selected, torch.device("cpu"))
    scores = scorer([torch.from_numpy(store.read(test))])
    assert scores.shape == (24, 3)
    torch.testing.assert_close(scores.sum(1), torch.ones(24))
    report = evaluate(tmp_path / "run", store, device="cpu")
    guess = [folder.data.classes[g] for g in scores.argmax(1)]
    assert report.selected.overall.correct == sum(g == store.labels[c] for g, c in zip(guess, test, strict=True)) > 12
    rows = folder.progress().rows
    assert all(row.watched_accuracy is not None for row in rows)


def test_a_family_of_one_input_refuses_two_stores(tmp_path, recipe, pair):
    asked = recipes.override(recipe, ["features=[one, two]"])
    with pytest.raises(RecipeError, match="several stores"):
        train(asked, join(*pair), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["ram", "stream"])
def test_the_one_patch_of_a_clip_is_cut_all_the_same(tmp_path, place):
    """Clips a little longer than a patch, alone and beside a store of whole clips."""
    store = make_store(
        tmp_path / "scenes" / "one.zarr", shape=layout(bands=5, frames=22), patches=Patches(width=16, hop=8)
    )
    tags, clips = make_store(tmp_path / "scenes" / "tags.zarr", shape=TAGS), np.arange(20)
    for source in (join(store), join(store, tags)):
        order = shuffled(source, clips, 1, generator(0, "order", 1))
        for batch in feed(source, clips, CLASSES, place, window_mib=1).batches(order, 8):
            np.testing.assert_array_equal(batch.features[0].numpy(), store.read(batch.clips)[..., :16])


def test_a_store_of_one_patch_is_cut_beside_one_of_several(tmp_path):
    made = [
        make_store(tmp_path / "scenes" / f"f{n}.zarr", shape=layout(frames=n), patches=Patches(width=16, hop=8))
        for n in (16, 40)
    ]
    both, clips = join(*made), np.arange(10)
    for batch in feed(both, clips, CLASSES, "ram").batches(shuffled(both, clips, 1, generator(0, "order", 1)), 8):
        assert [x.shape[-1] for x in batch.features] == [16, 16]
        np.testing.assert_array_equal(batch.features[0].numpy(), made[0].read(batch.clips))
