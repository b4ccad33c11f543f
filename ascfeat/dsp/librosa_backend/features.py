"""Short-time Fourier features spelled out in librosa and scipy, in float64, rounded once at the end."""

from __future__ import annotations

from collections.abc import Callable

import librosa
import numpy as np
import numpy.typing as npt
import scipy.fft

from ascfeat.dsp.backends import Transform, Values
from ascfeat.dsp.specs import LEAST, Decibels, LogMelSpec, MeanSpectrumSpec, MelBank, MelSpec, MfccSpec, Stft

Float64 = npt.NDArray[np.float64]


def log_mel(spec: LogMelSpec, device: str) -> Transform:
    """``ln(W |STFT(x)|^power + floor)``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    bank = mel_bank(spec.bank)
    return per_clip(lambda x: np.log(bank @ np.abs(stft(x, spec.stft)) ** spec.power + spec.floor))


def mel(spec: MelSpec, device: str) -> Transform:
    """``W |STFT(x)|^power``, ``(clip, channel, samples) -> (clip, channel, n_mels, frames)``."""
    bank = mel_bank(spec.bank)
    return per_clip(lambda x: bank @ np.abs(stft(x, spec.stft)) ** spec.power)


def mfcc(spec: MfccSpec, device: str) -> Transform:
    """``DCT(dB(W |STFT(x)|^2))``, ``(clip, channel, samples) -> (clip, channel, n_mfcc, frames)``."""
    return per_clip(lambda x: cepstrum(np.abs(stft(x, spec.stft)) ** 2, spec))


def mean_spectrum(spec: MeanSpectrumSpec, device: str) -> Transform:
    """``mean_t |STFT(x)|``, or of its logarithm, ``(clip, channel, samples) -> (clip, channel, bins)``."""
    if spec.logarithmic:
        return per_clip(lambda x: np.log(np.maximum(np.abs(stft(x, spec.stft)), LEAST)).mean(axis=-1))
    return per_clip(lambda x: np.abs(stft(x, spec.stft)).mean(axis=-1))


def per_clip(function: Callable[[Float64], Float64]) -> Transform:
    """A transform of batches from one of clips, ``(channel, samples) -> features``, in float64."""

    def transform(waveforms: Values) -> Values:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and its clip is excluded
            return np.stack([function(clip.astype(np.float64)) for clip in waveforms]).astype(np.float32)

    return transform


def stft(waveform: Float64, spec: Stft) -> npt.NDArray[np.complex128]:
    """Complex spectrum ``(channel, bin, frame)``; the mid channel is the mean of the two waveforms."""
    if spec.mid:
        waveform = with_mid(waveform)
    edge = spec.n_fft // 2
    # padded here: librosa pads its last frames by themselves, and mirrors one sample too few where a clip is shortest
    spectrum = librosa.stft(
        np.pad(waveform, ((0, 0), (edge, edge)), mode="reflect"),
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        win_length=spec.win_length,
        window=spec.window,
        center=False,
    )
    spectrum = np.asarray(spectrum[..., : spec.frames])
    return spectrum if spec.gain is None else spectrum * np.array(spec.gain)[:, None]


def with_mid(waveform: Float64) -> Float64:
    """Left, right and their mean."""
    return np.concatenate([waveform, waveform.mean(axis=0, keepdims=True)])


def cepstrum(power: Float64, spec: MfccSpec) -> Float64:
    """MFCCs ``(channel, n_mfcc, frame)`` of power spectra ``(channel, bin, frame)``."""
    level = decibels(mel_bank(spec.bank) @ power, spec.decibels)
    return np.asarray(scipy.fft.dct(level, axis=-2, type=2, norm="ortho"))[..., : spec.n_mfcc, :]


def decibels(power: Float64, spec: Decibels) -> Float64:
    """``librosa.power_to_db`` of each channel by itself."""
    levels = [librosa.power_to_db(p, ref=1.0, amin=spec.amin, top_db=spec.top_db) for p in power]
    return np.stack(levels)


def mel_bank(bank: MelBank) -> Float64:
    """librosa's own filters, ``(n_mels, bins)``."""
    filters = librosa.filters.mel(
        sr=bank.rate,
        n_fft=bank.n_fft,
        n_mels=bank.n_mels,
        fmin=bank.fmin,
        fmax=bank.fmax,
        htk=bank.mel_scale == "htk",
        norm="slaney" if bank.mel_norm == "slaney" else None,
        dtype=np.float64,
    )
    return np.asarray(filters)
