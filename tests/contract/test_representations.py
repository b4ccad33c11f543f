"""Does every registered representation keep the promises that extraction builds on?"""

import pytest

from ascfeat.recipes import load_recipe, names
from ascfeat.testing.representations import check_representation
from ascschemas import plugins
from ascschemas.dataset import AudioFormat

TRIED = {
    "log_mel": [
        {"n_fft": 512, "hop_length": 128, "spectrum": "power", "n_mels": 20, "floor": 1e-8},
        {"n_fft": 512, "win_length": 400, "hop_length": 160, "spectrum": "magnitude", "n_mels": 12, "floor": 1e-5,
         "window": "hamming", "mel_scale": "htk", "mel_norm": "none", "frames": "whole_hops", "fmin": 100},
    ]
}  # fmt: skip


@pytest.mark.parametrize("kind", plugins.names("ascfeat.representations"))
def test_every_registered_kind_is_tried(kind: str) -> None:
    for parameters in TRIED[kind]:
        check_representation({"kind": kind, **parameters}, AudioFormat(sample_rate=16_000, channels=1, frames=4_000))


@pytest.mark.parametrize("name", names())
def test_every_named_recipe(name: str) -> None:
    recipe = load_recipe(name)
    rate = 48_000 if recipe.decode.sample_rate == "native" else recipe.decode.sample_rate
    audio = AudioFormat(sample_rate=rate, channels=1, frames=rate)
    check_representation(recipe.representation.model_dump(mode="json"), audio)
