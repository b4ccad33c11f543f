"""Does every registered representation keep the promises that extraction builds on?"""

import numpy as np
import pytest

from ascfeat.recipes import load_recipe, names
from ascfeat.representations.waveform import Waveform
from ascfeat.tags import Tagging
from ascfeat.testing.representations import check_representation
from ascschemas import plugins
from ascschemas.dataset import AudioFormat

MEL = {"n_fft": 512, "hop_length": 128, "n_mels": 20}
LEVELS = Tagging(("level", "reach"), "0" * 64, lambda waveform, rate: [waveform.std(), np.abs(waveform).max()])
TAGS = {"names": LEVELS.names, "source": LEVELS.digest}

TRIED = {
    "log_mel": [
        {**MEL, "spectrum": "power", "floor": 1e-8},
        {"n_fft": 512, "win_length": 400, "hop_length": 160, "spectrum": "magnitude", "n_mels": 12, "floor": 1e-5,
         "window": "hamming", "mel_scale": "htk", "mel_norm": "none", "frames": "whole_hops", "fmin": 100},
    ],
    "mel": [
        {**MEL, "spectrum": "power"},
        {**MEL, "spectrum": "magnitude", "channels": "left_right_mid", "mel_norm": "none"},
    ],
    "mfcc": [
        {**MEL, "n_mfcc": 13},
        {**MEL, "n_mfcc": 20, "top_db": None, "channels": "left_right_mid"},
    ],
    "cqt": [
        {"hop_length": 128, "n_bins": 24, "fmin": 200},
        {"hop_length": 64, "n_bins": 20, "bins_per_octave": 10, "fmin": 300, "output": "magnitude",
         "channels": "left_right_mid"},
    ],
    "hpss_mfcc": [{**MEL, "n_mfcc": 13, "separation_n_fft": 512, "separation_hop_length": 128, "kernel_size": 9}],
    "mean_spectrum": [
        {"n_fft": 512, "hop_length": 128},
        {"n_fft": 256, "hop_length": 64, "channels": "left_right_mid"},
    ],
    "waveform": [{}],
    "tags": [TAGS],
}  # fmt: skip

SLOW = ("cqt_patches", "hpss_mfcc_patches")
"""Recipes whose four backends take most of a minute."""


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("kind", plugins.names("ascfeat.representations"))
def test_every_registered_kind_is_tried(kind: str, channels: int) -> None:
    audio = AudioFormat(sample_rate=16_000, channels=channels, frames=4_000)
    for parameters in TRIED[kind]:
        check_representation({"kind": kind, **parameters}, audio, tags=LEVELS if kind == "tags" else None)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in names()])
def test_every_named_recipe(name: str) -> None:
    recipe = load_recipe(name)
    rate = 48_000 if recipe.decode.sample_rate == "native" else recipe.decode.sample_rate
    channels = 1 if recipe.decode.channels == "mono_mean" else 2
    parameters = recipe.representation.model_dump(mode="json")
    tags = LEVELS if recipe.representation.kind == "tags" else None
    frames = 2 * rate if name == "cqt_patches" else rate // 2  # the longest filter of that one is nearly two seconds
    audio = AudioFormat(sample_rate=rate, channels=channels, frames=frames)
    check_representation(parameters | (TAGS if tags else {}), audio, tags=tags)


@pytest.mark.parametrize(("transform", "promise"), [
    (lambda x: x.astype(np.float64), "float64, not float32"),
    (lambda x: x[..., 1:], "layout"),
    (lambda x: x / np.float32(0), "not finite"),
    (lambda x: x * np.arange(1, len(x) + 1, dtype=np.float32)[:, None, None], "the order of clips"),
    (lambda x: x * np.float32(len(x)), "the batch they are in"),
    (lambda x: x / np.abs(x).max(axis=-1, keepdims=True), "the level of a recording is lost"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_broken_promise_is_found(transform, promise: str, monkeypatch) -> None:
    monkeypatch.setattr(Waveform, "build", lambda *given, **how: transform)
    with pytest.raises(AssertionError, match=promise):
        check_representation({"kind": "waveform"}, AudioFormat(sample_rate=16_000, channels=2, frames=400))
