"""The numba backend: compiled transforms of many frames side by side, transforms in float64, on the CPU."""

from ascfeat.dsp.numba_backend.cqt import cqt
from ascfeat.dsp.numba_backend.features import log_mel, mean_spectrum, mel, mfcc
from ascfeat.dsp.numba_backend.hpss import hpss_mfcc

__all__ = ["cqt", "hpss_mfcc", "log_mel", "mean_spectrum", "mel", "mfcc"]
