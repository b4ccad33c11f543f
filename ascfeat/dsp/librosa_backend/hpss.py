"""MFCCs of the harmonic and percussive components by librosa's own separation, in float64."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np

from ascfeat.dsp.backends import Transform
from ascfeat.dsp.librosa_backend.features import Float64, cepstrum, per_clip, stft, with_mid
from ascfeat.dsp.specs import HpssMfccSpec


def hpss_mfcc(spec: HpssMfccSpec, device: str) -> Transform:
    """MFCCs of both components, ``(clip, channel, samples) -> (clip, channel, 2, n_mfcc, frames)``."""

    def one(waveform: Float64) -> Float64:
        both = components(with_mid(waveform) if spec.separation.mid else waveform, spec)
        spectra = stft(both.reshape(-1, both.shape[-1]), replace(spec.mfcc.stft, mid=False))
        values = cepstrum(np.abs(spectra) ** 2, spec.mfcc)
        return values.reshape(*both.shape[:2], *values.shape[1:])

    return per_clip(one)


def components(waveform: Float64, spec: HpssMfccSpec) -> Float64:
    """The steps of ``librosa.effects.hpss``, ``(channel, samples) -> (channel, 2, samples)``.

    Not that function itself, because it pads as :func:`~ascfeat.dsp.librosa_backend.features.stft` says.
    """
    separation = spec.separation
    spectra = stft(waveform, replace(separation, mid=False))
    both = librosa.decompose.hpss(spectra, kernel_size=spec.kernel, power=spec.power)
    return np.stack([
        librosa.istft(x, hop_length=separation.hop_length, window=separation.window, length=waveform.shape[-1])
        for x in both
    ], axis=1)  # fmt: skip
