"""How fast are the representations? Ratios against librosa doing the same steps, one thread, clips in memory.

``python tests/benchmarks/dsp.py`` prints the table of docs/benchmarks.md; ``--device cuda:0`` adds a GPU's.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported: one thread on both sides

import librosa
import numpy as np

from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascschemas.dataset import AudioFormat

RECIPES = (
    "logmel128", "logmel256", "logmel64", "mfcc_patches", "mfcc_patches_fine", "cqt_patches", "hpss_mfcc_patches",
    "mean_spectrum",
)  # fmt: skip
Steps = Callable[[np.ndarray], object]


def librosa_steps(kind: str, p: dict, rate: int) -> Steps:
    """What a plain script does for one clip, in librosa's float32."""
    short = {k: p[k] for k in ("n_fft", "hop_length", "window") if k in p} | {"pad_mode": "reflect"}
    if kind == "log_mel":
        mel = {"sr": rate, "n_mels": p["n_mels"], "fmin": p["fmin"], "fmax": p["fmax"],
               "norm": None if p["mel_norm"] == "none" else "slaney",
               "power": 1 if p["spectrum"] == "magnitude" else 2}  # fmt: skip
        return lambda y: np.log(librosa.feature.melspectrogram(y=y, **mel, **short) + np.float32(p["floor"]))
    if kind == "mean_spectrum":
        return lambda y: np.abs(librosa.stft(y, **short)).mean(axis=-1)
    if kind == "cqt":
        cqt = {k: p[k] for k in ("hop_length", "n_bins", "fmin", "filter_scale")} | {"sr": p["filter_rate"]}
        return lambda y: librosa.amplitude_to_db(np.abs(librosa.cqt(y, pad_mode="reflect", **cqt)))
    mfcc = {"sr": p["filter_rate"], "n_mfcc": p["n_mfcc"], "n_mels": p["n_mels"], **short}
    if kind == "mfcc":
        return lambda y: librosa.feature.mfcc(y=y, **mfcc)
    return lambda y: [librosa.feature.mfcc(y=c, **mfcc) for c in librosa.effects.hpss(y, pad_mode="reflect")]


def seconds(function: Callable[[], object], repeats: int) -> float:
    """The shortest of several times, after one that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(name: str, *, length: float, repeats: int, device: str) -> dict[str, float]:
    """Seconds a clip of each backend and of librosa's script, on the same clip, in one run."""
    recipe = load_recipe(name)
    p = recipe.representation.values()
    rate = 48_000 if recipe.decode.sample_rate == "native" else recipe.decode.sample_rate
    channels = 2 if recipe.decode.channels == "native" else 1
    audio = AudioFormat(sample_rate=rate, channels=channels, frames=round(length * rate))
    x = (0.1 * np.random.default_rng(0).standard_normal((1, channels, audio.frames))).astype(np.float32)
    heard = [*x[0], x[0].mean(axis=0)] if channels == 2 else [x[0, 0]]
    steps, kind = librosa_steps(recipe.representation.kind, p, rate), representation(recipe.representation)
    found = {"script": seconds(lambda: [steps(y) for y in heard], min(repeats, 3))}
    for backend in ("numba", "torch", "nnaudio"):
        if device != "cpu" and backend == "numba":
            continue
        transform = kind.build(audio, device=device, backend=backend)
        found[backend] = seconds(lambda t=transform: t(x), repeats if backend == "numba" else min(repeats, 3))
    return found


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--recipes", nargs="*", default=RECIPES)
    words.add_argument("--seconds", type=float, default=10.0, help="length of the clip")
    words.add_argument("--repeats", type=int, default=15)
    words.add_argument("--device", default="cpu")
    given = words.parse_args()
    print(f"{os.cpu_count()} CPUs ({platform.machine()}), one used; {given.device}; librosa {librosa.__version__}")
    print("\n| recipe | librosa, ms | numba | torch | nnaudio | best ratio |\n|---|--:|--:|--:|--:|--:|")
    for name in given.recipes:
        found = measure(name, length=given.seconds, repeats=given.repeats, device=given.device)
        script = found.pop("script")
        cells = [f"{1e3 * found[b]:.1f}" if b in found else "–" for b in ("numba", "torch", "nnaudio")]
        print(f"| {name} | {1e3 * script:.1f} | {' | '.join(cells)} | {script / min(found.values()):.1f} |", flush=True)


if __name__ == "__main__":
    main()
