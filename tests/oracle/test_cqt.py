"""Is the constant-Q transform right? Against its definition, against librosa's filters, and beside librosa.cqt."""

from dataclasses import replace

import librosa
import numpy as np
import pytest

from ascfeat.dsp import backends
from ascfeat.dsp.cqt import dense, lengths, relative_bandwidth, upper_edge, wavelets
from ascfeat.dsp.specs import CqtSpec, Decibels
from ascfeat.recipes import load_recipe
from ascfeat.representations import representation
from ascfeat.representations.cqt import Cqt
from ascschemas.dataset import AudioFormat
from ascschemas.problems import RecipeError

TOLERANCE = 1e-5  # relative, of every magnitude within 80 dB of its channel's loudest
FAST = ("numba", "torch", "nnaudio")
PAPER = AudioFormat(sample_rate=48_000, channels=2, frames=96_000)
"""Two seconds: the shortest whole second that the recipe's longest filter, 1.95 s, fits into."""


def spec(samples: int, **changes: object) -> CqtSpec:
    """The recipe's transform of a clip of some length, its magnitude."""
    kind = representation(load_recipe("cqt_patches").representation)
    assert isinstance(kind, Cqt)
    parameters = replace(kind.spec(PAPER), frames=1 + samples // 512, decibels=None, mid=False)
    changed = replace(parameters, **changes)
    return replace(changed, frames=1 + samples // changed.hop_length)


OTHERS = {
    "odd hop, long and short filters": {"rate": 16_000, "hop_length": 441, "n_bins": 84, "filter_scale": 2.0},
    "hop longer than the filters": {
        "rate": 16_000,
        "hop_length": 3000,
        "n_bins": 30,
        "fmin": 440.0,
        "filter_scale": 1.0,
    },
    "one filter": {"rate": 16_000, "hop_length": 160, "n_bins": 1, "fmin": 220.0},
    "even and odd lengths": {
        "rate": 16_000,
        "hop_length": 64,
        "n_bins": 10,
        "bins_per_octave": 2,
        "fmin": 60.0,
        "filter_scale": 2.0,
    },
    "even and long": {
        "rate": 16_000,
        "hop_length": 200,
        "n_bins": 3,
        "bins_per_octave": 1,
        "fmin": 6.25,
        "filter_scale": 3.0,
    },
    "reaching up to Nyquist": {"rate": 8_000, "hop_length": 100, "n_bins": 24, "bins_per_octave": 24, "fmin": 2000.0},
}


def stereo(samples: int) -> dict[str, np.ndarray]:
    """Pairs of signals that stress a transform; the two of a pair have little in common."""
    rng, t = np.random.default_rng(5), np.arange(samples) / 48_000
    notes = sum(np.exp(-3 * (t % 0.5)) * np.sin(2 * np.pi * f * t) / 8 for f in (55, 110.5, 220, 329.6, 987.8, 4186))
    noise, square = 0.1 * rng.standard_normal(samples), np.sign(np.sin(2 * np.pi * 440 * t))
    signals = {
        "notes and noise": (notes, noise),
        "square at full scale and a tone": (square, np.sin(2 * np.pi * 1000 * t)),
        "impulses": (np.eye(1, samples, samples // 3)[0], np.eye(1, samples, 0)[0]),
        "constant and silence": (np.full(samples, 0.5), np.zeros(samples)),
        "one bit of noise and a decay": (rng.integers(-1, 2, samples) / 2**15, np.exp(-14 * t / t[-1]) * noise),
    }
    return {name: np.stack(pair).astype(np.float32)[None] for name, pair in signals.items()}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest one, where the reference is within 80 dB of its channel's loudest."""
    peak = expected.max(axis=(-2, -1), keepdims=True)
    heard = expected >= np.maximum(1e-4 * peak, 1e-12)
    return float((np.abs(found - expected)[heard] / expected[heard]).max(initial=0.0))


def test_reference_is_the_definition() -> None:
    """``|sum_n x[n] conj(w[n - t hop])|`` written out, the wavelet too, in plain Python numbers."""
    rate, hop, x = 8000, 50, np.random.default_rng(3).standard_normal(600).astype(np.float32)
    parameters = spec(600, rate=rate, hop_length=hop, n_bins=3, fmin=800.0, filter_scale=1.0)
    found = backends.load("librosa").cqt(parameters, "cpu")(x[None, None])[0, 0]
    ratio = 2 ** (1 / 12)
    for k in range(3):
        f = 800.0 * ratio**k
        length = (ratio**2 + 1) / (ratio**2 - 1) * rate / f
        places = range(int(np.floor(-length / 2)), int(np.floor(length / 2)))
        hann = [0.5 - 0.5 * np.cos(2 * np.pi * i / len(places)) for i in range(len(places))]
        wave = [np.exp(-2j * np.pi * f / rate * j) for j in places]
        for t in (0, 1, 5, 12):
            mirrored = [x[600 - 2 - (n - 600) if n >= 600 else abs(n)] for n in (t * hop + j for j in places)]
            total = sum(float(a) * h * w for a, h, w in zip(mirrored, hann, wave, strict=True))
            assert found[k, t] == pytest.approx(abs(total) * length**0.5 / sum(hann), rel=1e-6)


@pytest.mark.parametrize("changes", [{}, *OTHERS.values()], ids=["recipe", *OTHERS])
def test_filters_are_librosas(changes: dict) -> None:
    parameters = spec(96_000, **changes)
    centres = librosa.cqt_frequencies(
        parameters.n_bins, fmin=parameters.fmin, bins_per_octave=parameters.bins_per_octave
    )
    neighbours = librosa.cqt_frequencies(2, fmin=1.0, bins_per_octave=parameters.bins_per_octave)
    relative = relative_bandwidth(parameters.bins_per_octave)
    assert relative == pytest.approx(librosa.filters._relative_bandwidth(freqs=neighbours)[0], rel=1e-12)
    given = {
        "freqs": centres,
        "sr": parameters.rate,
        "filter_scale": parameters.filter_scale,
        "alpha": relative,
    }
    expected, cutoff = librosa.filters.wavelet_lengths(**given)
    np.testing.assert_allclose(lengths(parameters), expected, rtol=1e-12)
    assert upper_edge(parameters) == pytest.approx(cutoff, rel=1e-12)
    filters, _ = librosa.filters.wavelet(**given, dtype=np.complex128)
    ours = dense(wavelets(parameters)) / np.sqrt(expected)[:, None]
    middle, half = filters.shape[1] // 2, ours.shape[1] // 2
    width = min(middle, half)
    np.testing.assert_allclose(
        ours[:, half - width : half + width], filters[:, middle - width : middle + width], atol=1e-12
    )
    assert np.abs(ours).sum() == pytest.approx(parameters.n_bins, rel=1e-9)


@pytest.fixture(scope="module")
def recipes_reference() -> dict[str, np.ndarray]:
    """What the recipe gives for two seconds of each pair of signals, left, right and mid."""
    transform = backends.load("librosa").cqt(spec(96_000, mid=True), "cpu")
    return {label: transform(waveform) for label, waveform in stereo(96_000).items()}


@pytest.mark.parametrize("backend", FAST)
def test_recipe_equals_reference(backend: str, recipes_reference: dict[str, np.ndarray]) -> None:
    transform = backends.load(backend).cqt(spec(96_000, mid=True), "cpu")
    for label, waveform in stereo(96_000).items():
        found, expected = transform(waveform), recipes_reference[label]
        assert found.shape == expected.shape == (1, 3, 110, 188)
        assert relative_error(found, expected) < TOLERANCE, label


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_other_parameters_equal_reference(changes: dict, backend: str) -> None:
    for samples in (30_011, 20_000):
        parameters = spec(samples, **changes)
        fast, reference = (backends.load(name).cqt(parameters, "cpu") for name in (backend, "librosa"))
        for label, waveform in stereo(samples).items():
            for channels in (1, 2):
                found, expected = fast(waveform[:, :channels]), reference(waveform[:, :channels])
                assert found.shape == expected.shape
                assert relative_error(found, expected) < TOLERANCE, (label, samples, channels)


@pytest.mark.parametrize("top_db", [80.0, None])
@pytest.mark.parametrize("backend", [*FAST, "librosa"])
def test_decibels_are_librosas(backend: str, top_db: float | None) -> None:
    small = OTHERS["odd hop, long and short filters"] | {"mid": True}
    magnitude = backends.load("librosa").cqt(spec(30_011, **small), "cpu")
    parameters = spec(30_011, **small, decibels=Decibels(amin=1e-10, top_db=top_db))
    transform = backends.load(backend).cqt(parameters, "cpu")
    for label, waveform in stereo(30_011).items():
        levels = [librosa.amplitude_to_db(m, ref=1.0, amin=1e-5, top_db=top_db) for m in magnitude(waveform)[0]]
        # 1e-5 of a magnitude is 9e-5 dB; without top_db, what lies at the floor of 1e-5 may be 120 dB under the peak
        error = np.abs(transform(waveform)[0] - np.stack(levels)).max()
        assert error < (2e-4 if top_db else 5e-3), label


def test_mid_is_the_transform_of_the_mean() -> None:
    small = OTHERS["odd hop, long and short filters"]
    waveform = stereo(30_011)["notes and noise"]
    three = backends.load("numba").cqt(spec(30_011, **small, mid=True), "cpu")(waveform)
    mean = waveform.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    expected = backends.load("librosa").cqt(spec(30_011, **small), "cpu")(mean)
    assert relative_error(three[:, 2:], expected) < TOLERANCE


@pytest.mark.filterwarnings("ignore:n_fft=.* is too large")  # librosa pads filters to powers of two
def test_recursive_is_librosa_cqt() -> None:
    waveform = stereo(96_000)["notes and noise"]
    parameters = spec(96_000, algorithm="recursive")
    found = backends.load("librosa").cqt(parameters, "cpu")(waveform)[0]
    given = {"sr": 44_100, "hop_length": 512, "fmin": librosa.note_to_hz("C1"), "n_bins": 110, "filter_scale": 4}
    expected = np.abs(librosa.cqt(waveform[0].astype(np.float64), **given, pad_mode="reflect"))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_direct_and_recursive_differ_by_little() -> None:
    """librosa resamples, drops 1 % of each filter's energy, mirrors the window, and pads every octave by itself.

    On recordings of ten seconds the magnitudes differed by 0.6 to 0.9 % where no filter reaches an edge (correlation
    0.9999), and by up to 11 % over all frames (0.992): the longest filters reach 1 s into the clip from its edges.
    """
    waveform = stereo(240_000)["notes and noise"]
    reference = backends.load("librosa")
    direct, recursive = (
        reference.cqt(spec(240_000, algorithm=name), "cpu")(waveform)[0] for name in ("direct", "recursive")
    )
    edge = 93_486 // 2 // 512 + 1
    for x, y in zip(direct, recursive, strict=True):
        assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0.98  # five seconds: two of five frames near an edge
        inner, other = x[:, edge:-edge], y[:, edge:-edge]
        assert np.corrcoef(inner.ravel(), other.ravel())[0, 1] > 0.9995
        assert 1e-3 < np.linalg.norm(inner - other) / np.linalg.norm(inner) < 0.015


@pytest.mark.parametrize("backend", FAST)
def test_recursive_is_refused_by_others(backend: str) -> None:
    with pytest.raises(RecipeError, match="algorithm"):
        backends.load(backend).cqt(spec(96_000, algorithm="recursive"), "cpu")


def test_recipe_is_the_papers() -> None:
    """110 bins from C1 over 938 frames of ten seconds at 48 kHz; filters meant for 44.1 kHz sit 48 / 44.1 higher."""
    kind = representation(load_recipe("cqt_patches").representation)
    layout = kind.layout(AudioFormat(sample_rate=48_000, channels=2, frames=480_000))
    assert layout.shape == (3, 110, 938)
    names, hertz, seconds = (axis.coordinates() for axis in layout.axes)
    assert names == ("left", "right", "mid")
    np.testing.assert_allclose(hertz, librosa.cqt_frequencies(110, fmin=librosa.note_to_hz("C1")) * 48_000 / 44_100)
    assert seconds[-1] == pytest.approx(937 * 512 / 48_000)


def test_librosa_backend_is_written_into_the_parameters() -> None:
    kind = representation(load_recipe("cqt_patches").representation)
    assert isinstance(kind, Cqt)
    assert kind.computed_by("librosa").algorithm == "recursive"
    assert kind.computed_by("librosa").model_dump(exclude={"algorithm"}) == kind.model_dump(exclude={"algorithm"})
    assert all(kind.computed_by(name) == kind for name in FAST)


@pytest.mark.parametrize(("changes", "audio", "message"), [
    ({"n_bins": 114}, PAPER, "expected the highest filter to end under 22050 Hz"),
    ({}, AudioFormat(sample_rate=48_000, channels=2, frames=93_486), "found 93486.0 samples"),
    ({}, AudioFormat(sample_rate=48_000, channels=4, frames=96_000), "left_right_mid of 1 or 2 channels  found 4"),
])  # fmt: skip
def test_what_cannot_be_computed_is_refused(changes: dict, audio: AudioFormat, message: str) -> None:
    kind = representation(load_recipe("cqt_patches").representation.model_copy(update=changes))
    with pytest.raises(RecipeError, match=message):
        kind.layout(audio)


def test_longest_filter_may_fill_the_clip() -> None:
    """93 486.05 samples fit into 93 487."""
    audio = AudioFormat(sample_rate=48_000, channels=1, frames=93_487)
    kind = representation(load_recipe("cqt_patches").representation)
    waveform = np.random.default_rng(1).standard_normal((1, 1, 93_487)).astype(np.float32)
    for backend in FAST:
        values = kind.build(audio, device="cpu", backend=backend)(waveform)
        assert values.shape == (1, *kind.layout(audio).shape)
