"""The reference backend: the same features in float64, by code we did not write."""

from ascfeat.dsp.librosa_backend.cqt import cqt
from ascfeat.dsp.librosa_backend.features import log_mel, mean_spectrum, mel, mfcc
from ascfeat.dsp.librosa_backend.hpss import hpss_mfcc

__all__ = ["cqt", "hpss_mfcc", "log_mel", "mean_spectrum", "mel", "mfcc"]
