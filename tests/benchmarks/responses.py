"""How well are known device responses recovered? Coefficients against the filters that a dataset was made with.

Each DATASET has beside it ``DATASET.responses.npz``: the taps of each device's filter, by device; the device without
one is the reference. A coefficient's ratio to the reference device's should be the filter's magnitude, but for a common
factor; what is left is the root mean square in dB over 100 Hz to 16 kHz. Of the audit: how far the devices' mean
spectra lie apart on recordings held off, before and after.

``python tests/benchmarks/responses.py DATASET... [--method mean ...]``
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ascfeat

METHODS = ("mean", "pairs", "geometric", "geometric_unaligned")
LOW, HIGH = 100.0, 16_000.0
N_FFT = 2048


def recovered(found: Any, device: str, plain: str, taps: npt.NDArray[Any]) -> float:
    """Root mean square in dB between a device's coefficients and its filter, a common factor taken away."""
    at = found.frequency.values
    ratio = found.sel(device=plain).values / found.sel(device=device).values
    apart = 20 * np.log10(ratio / np.abs(np.fft.rfft(taps.astype(np.float64), N_FFT)))[(at >= LOW) & (at <= HIGH)]
    return float(np.sqrt(np.mean((apart - apart.mean()) ** 2)))


def rows(dataset: Path, methods: list[str], features: Path) -> None:
    """Print a line a method and device."""
    with np.load(f"{dataset}.responses.npz") as held:
        taps: Mapping[str, npt.NDArray[Any]] = {name: held[name] for name in held.files if held[name].ndim == 1}
    for method in methods:
        devices = sorted({*taps, "a"})
        found = ascfeat.correct(
            dataset, reference=devices, method=method, features=features, recipes=(), name=method, device="cpu"
        )
        held_out = found.attrs["audit"]["held_out"]
        for device in taps:
            numbers = (
                found.attrs["audit"]["moments"],
                recovered(found, device, "a", taps[device]),
                held_out["before"],
                held_out["after"],
                100 * (1 - held_out["after"] / held_out["before"]),
                held_out["each_before"],
                held_out["each_after"],
            )
            print(f"| {dataset.name} {method} {device} | " + " | ".join(f"{n:.4g}" for n in numbers) + " |", flush=True)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+", metavar="DATASET")
    parser.add_argument("--method", choices=METHODS, nargs="+", default=["mean"])
    given = parser.parse_args()
    print(
        "| dataset, method, device | moments | recovered to (dB rms) | apart before (dB) | after | gone (%) |", end=""
    )
    print(" single recordings before | after |\n|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for dataset in given.datasets:
            rows(dataset, given.method, Path(folder))


if __name__ == "__main__":
    main()
