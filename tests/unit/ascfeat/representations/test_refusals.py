"""Parameters that cannot be computed are refused when the recipe is read, with the numbers."""

from pathlib import Path

import pytest

from ascfeat.recipes import load_recipe
from ascschemas.problems import RecipeError

MEL = "n_fft: 1024, hop_length: 256, n_mels: 40"
CASES = {
    "more mel bands than the FFT tells apart": (
        f"kind: log_mel, spectrum: power, floor: 1.0e-8, {MEL}".replace("n_mels: 40", "n_mels: 400"),
        r"n_mels .*every band to hold an FFT bin, 15\.62 Hz apart +found band \d+ of 400 empty",
    ),
    "a band between two bins": (
        f"kind: mfcc, n_mfcc: 2, {MEL}".replace("n_mels: 40", "n_mels: 2, fmin: 1001, fmax: 1010"),
        r"found band 0 of 2 empty, 2 in all",
    ),
    "fmax above half the rate": (
        f"kind: mfcc, n_mfcc: 13, fmax: 9000, {MEL}",
        r"fmax .*at most 8000 Hz +found 9000 Hz",
    ),
    "a window longer than the clip": (
        "kind: mean_spectrum, n_fft: 32768, hop_length: 512",
        r"16000 samples +found 32768",
    ),
    "more coefficients than bands": (f"kind: mfcc, n_mfcc: 41, {MEL}", r"n_mfcc 41 is more than the 40 of n_mels"),
    "a separation that leaves gaps": (
        f"kind: hpss_mfcc, n_mfcc: 13, {MEL}, separation_n_fft: 512, separation_hop_length: 300",
        r"separation_hop_length 300 is more than half of separation_n_fft 512",
    ),
    "a median without a middle": (f"kind: hpss_mfcc, n_mfcc: 13, {MEL}, kernel_size: 30", r"kernel_size 30 is even"),
    "a CQT above half the rate": (
        "kind: cqt, hop_length: 256, n_bins: 96, fmin: 55",
        r"n_bins .*to end under 8000 Hz.* +found [\d.]+e?\+?\d* Hz",
    ),
    "a CQT whose filters have no length": (
        "kind: cqt, hop_length: 64, n_bins: 1, fmin: 1000, bins_per_octave: 1, filter_scale: 0.05",
        r"filter_scale .*filters of 2 samples or more +found [\d.]+ samples",
    ),
    "decibels of nothing": (f"kind: mfcc, n_mfcc: 13, amin: 1000, {MEL}", r"amin .*found 1000"),
    "a CQT whose filters outlast the clip": (
        "kind: cqt, hop_length: 256, n_bins: 12, fmin: 8",
        r"fmin .*at most the waveform's 16000 samples +found [\d.]+ samples",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_the_numbers(tmp_path: Path, case: str) -> None:
    parameters, words = CASES[case]
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\ndecode: {{sample_rate: 16000, seconds: 1}}\nrepresentation: {{{parameters}}}\n")
    with pytest.raises(RecipeError, match=rf"(?s){words}"):
        load_recipe(str(path))
