"""What a backend is told: the numbers of a transform with every default filled in, in Hz and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Window = Literal["hann", "hamming"]
LEAST = 1e-10
"""Least magnitude whose logarithm is taken, and that a spectrum is divided by."""


@dataclass(frozen=True)
class Stft:
    """A centred short-time Fourier transform, its edges reflected."""

    n_fft: int
    win_length: int
    hop_length: int
    window: Window
    frames: int
    """Frames kept, from the first."""
    mid: bool = False
    """Whether the mean of the two channels is a third one."""
    gain: tuple[float, ...] | None = None
    """Factor on each frequency of every channel's spectrum, before anything else is done with it; 1 where absent."""

    @property
    def bins(self) -> int:
        """Frequencies of the transform: ``n_fft // 2 + 1``."""
        return self.n_fft // 2 + 1


@dataclass(frozen=True)
class MelBank:
    """Triangular filters on a mel scale."""

    rate: int
    """Sample rate that the filters are designed for."""
    n_fft: int
    n_mels: int
    fmin: float
    fmax: float
    mel_scale: Literal["slaney", "htk"]
    mel_norm: Literal["slaney", "none"]


@dataclass(frozen=True)
class LogMelSpec:
    """``ln(W |STFT(x)|^power + floor)``."""

    stft: Stft
    bank: MelBank
    power: Literal[1, 2]
    floor: float


@dataclass(frozen=True)
class MelSpec:
    """``W |STFT(x)|^power``."""

    stft: Stft
    bank: MelBank
    power: Literal[1, 2]


@dataclass(frozen=True)
class Decibels:
    """``max(10 log10(max(power, amin)), peak - top_db)``, the peak taken over one channel of one clip."""

    amin: float
    """Least power."""
    top_db: float | None
    """Decibels kept under the peak; all where None."""


@dataclass(frozen=True)
class MfccSpec:
    """The first ``n_mfcc`` coefficients of an orthonormal DCT-II over the decibels of a mel power spectrum."""

    stft: Stft
    bank: MelBank
    decibels: Decibels
    n_mfcc: int


@dataclass(frozen=True)
class HpssMfccSpec:
    """MFCCs of a recording's harmonic and percussive components."""

    separation: Stft
    """The transform in which the components are told apart; its ``mid`` is that of ``mfcc.stft``."""
    kernel: int
    """Length of the running medians, in frames and in bins."""
    power: float
    """Exponent of the soft masks."""
    mfcc: MfccSpec


@dataclass(frozen=True)
class MeanSpectrumSpec:
    """``mean_t |STFT(x)|``, or ``mean_t ln(max(|STFT(x)|, LEAST))``."""

    stft: Stft
    logarithmic: bool = False
    """Whether logarithms are averaged."""


@dataclass(frozen=True)
class CqtSpec:
    """A constant-Q transform, its magnitude in decibels."""

    rate: int
    """Sample rate that the filters are designed for."""
    hop_length: int
    frames: int
    n_bins: int
    bins_per_octave: int
    fmin: float
    filter_scale: float
    decibels: Decibels | None
    """Over the squared magnitude; None leaves the magnitude."""
    mid: bool
    algorithm: Literal["direct", "recursive"]
