"""Waveforms as features: the decoded samples themselves, in stores that say so."""

import numpy as np
import soundfile
import zarr

from ascfeat.extract import run
from ascfeat.jobs import prepare
from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascfeat.store import open_store
from ascschemas.dataset import AudioFormat


def test_axes_are_channels_and_seconds() -> None:
    kind = representation(load_recipe("waveform").representation)
    layout = kind.layout(AudioFormat(sample_rate=48_000, channels=2, frames=480_000))
    assert [(a.name, a.size, a.unit) for a in layout.axes] == [("channel", 2, ""), ("time", 480_000, "s")]
    assert layout.axes[0].values == ("left", "right")
    assert layout.axes[1].coordinates()[48_000] == 1.0
    assert layout.clip_bytes == 3_840_000


def test_nothing_is_copied() -> None:
    audio = AudioFormat(sample_rate=8000, channels=2, frames=100)
    x = np.zeros((1, 2, 100), np.float32)
    assert representation(load_recipe("waveform").representation).build(audio, device="cpu", backend="none")(x) is x


def test_the_store_holds_the_samples_and_their_moments_over_time(dataset, tmp_path) -> None:
    tree, manifest = dataset
    jobs = prepare(tree, manifest, [load_recipe("waveform")], tmp_path, backend="torch")  # others of the run need one
    store = open_store(run(tree, manifest, jobs)[0].place.path)
    assert store.header.backend == "none"
    assert "none" not in store.header.software
    for i, clip in enumerate(store.ids):
        samples = soundfile.read(tree.root / clip, dtype="float32", always_2d=True)[0].T
        np.testing.assert_array_equal(store.read([i])[0], samples)
    mean, variance = store.statistics()
    assert mean.shape == (10, 1)
    np.testing.assert_allclose(variance, store.read(range(10)).astype(float).var(-1), rtol=1e-12)
    group = zarr.open_group(store.place.path)
    assert group["features"].metadata.dimension_names == ("clip", "channel", "time")
    assert group["mean"].metadata.dimension_names == ("clip", "channel")
    assert group["mean"].attrs["long_name"] == "mean of features over time"
