"""The torch backend: FFT features on CPU and CUDA, all of it in float64."""

from ascfeat.dsp.torch_backend.cqt import cqt
from ascfeat.dsp.torch_backend.features import log_mel, mean_spectrum, mel, mfcc
from ascfeat.dsp.torch_backend.hpss import hpss_mfcc

__all__ = ["cqt", "hpss_mfcc", "log_mel", "mean_spectrum", "mel", "mfcc"]
