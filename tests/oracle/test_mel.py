"""Are mel energies right? Against librosa's own mel spectrogram in float64, with the arguments of akiyama2019."""

import librosa
import numpy as np
import pytest

from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat

RATE = 44_100
TOLERANCE = 1e-5  # relative to the loudest band of each frame's clip


@pytest.mark.parametrize("backend", ["numba", "torch", "nnaudio", "librosa"])
def test_equals_librosas_melspectrogram(backend: str, signals) -> None:
    kind = representation(load_recipe("powermel128").representation)
    for samples in (30_011, 2560):
        audio = AudioFormat(sample_rate=RATE, channels=1, frames=samples)
        transform = kind.build(audio, device="cpu", backend=backend)
        for label, signal in signals(samples, RATE).items():
            waveform = signal.astype(np.float32)
            expected = librosa.feature.melspectrogram(
                y=waveform.astype(np.float64), sr=RATE, n_fft=2560, hop_length=347, n_mels=128, fmin=20, fmax=22_050,
                pad_mode="reflect", dtype=np.float64,
            )  # fmt: skip
            found = transform(waveform[None, None])[0, 0]
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() <= TOLERANCE * max(expected.max(), 1e-15), (label, samples)


def test_the_shapes_of_the_paper_a_scene_and_a_stored_clip() -> None:
    recipe = load_recipe("powermel128")
    kind = representation(recipe.representation)
    for seconds, frames in ((10, 1271), (recipe.decode.seconds, 1907)):
        audio = AudioFormat(sample_rate=RATE, channels=1, frames=round(RATE * seconds))
        assert kind.layout(audio).shape == (1, 128, frames)
