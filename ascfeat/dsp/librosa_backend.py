"""The reference backend, and ascfeat's door to librosa: the same features in float64, by code we did not write."""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import numpy.typing as npt

from ascfeat.dsp.mel import MelSpectrogram

Values = npt.NDArray[np.float32]


def log_mel(spec: MelSpectrogram) -> Callable[[Values], Values]:
    """A callable ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``, computed in float64."""
    bank = librosa.filters.mel(
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=spec.mel_scale == "htk",
        norm="slaney" if spec.mel_norm == "slaney" else None,
        dtype=np.float64,
    )

    def transform(waveforms: Values) -> Values:
        spectrum = librosa.stft(
            waveforms.astype(np.float64),
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            win_length=spec.win_length,
            window=spec.window,
            center=True,
            pad_mode="reflect",
        )[..., : spec.frames]
        return np.asarray(np.log(bank @ np.abs(spectrum) ** spec.power + spec.floor), dtype=np.float32)

    return transform
