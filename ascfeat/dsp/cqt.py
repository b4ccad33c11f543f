"""Constant-Q filters in float64, and the plan by which a direct transform with them becomes fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from ascfeat.dsp.specs import CqtSpec
from ascschemas.problems import Difference, RecipeError

Float64 = npt.NDArray[np.float64]
Complex128 = npt.NDArray[np.complex128]

HANN_BANDWIDTH = 1.50018310546875
"""Equivalent noise bandwidth of a Hann window in DFT bins, as librosa tabulates it."""
SHORT = 6144
"""Samples up to which a filter is applied to blocks; longer ones to the whole clip. Measured: the fastest bound."""
BLOCK = 32_768
"""Samples of a block, about: five times the longest filter applied to blocks, so that little is computed twice."""
REACH = 2000
"""Side lobes of a filter's spectrum that are kept on each side; the Hann window has decayed to 4e-11 there."""


@dataclass(frozen=True)
class Wavelet:
    """One filter ``w[j] = sqrt(L) h[j] e^(2 pi i f j) / sum(h)``, ``h`` a periodic Hann window."""

    frequency: float
    """``f``, in cycles per sample."""
    start: int
    """The first ``j``; the frame's centre is at 0."""
    values: Complex128

    @property
    def stop(self) -> int:
        """One past the last ``j``."""
        return self.start + len(self.values)

    @property
    def centre(self) -> float:
        """The ``j`` about which the window is symmetric: -0.5 for an odd number of samples, else 0."""
        return self.start + len(self.values) / 2


@dataclass(frozen=True)
class Whole:
    """Long filters of one symmetry, applied to the spectrum of the whole clip.

    The output is wanted at multiples of the hop only, so the filtered spectrum may alias: its ``hop * periods``
    frequencies fold onto ``periods``, and the inverse transform of those gives exactly the frames.
    """

    bins: npt.NDArray[np.intp]
    """Places of the filters in the output."""
    hop: int
    periods: int
    """Hops in the transform."""
    reach: tuple[int, int]
    """Samples that a filter needs before and after its frame's centre, its own included: ``-start`` and ``stop``."""
    phase: tuple[Complex128, Complex128]
    """``e^(2 pi i f c / length)`` as a product over segment and place in it, that leaves the kernels real."""
    first: npt.NDArray[np.intp]
    """First segment of ``periods`` frequencies that each filter occupies; segment 0 is the most negative."""
    offsets: npt.NDArray[np.intp]
    """Where the segments of each filter begin in ``kernels``; the end of the last one."""
    kernels: Float64
    """Real spectra, ``(segment, periods)``, one filter after the other."""


@dataclass(frozen=True)
class Blocks:
    """Short filters of one symmetry, applied to overlapping blocks: one matrix product per residue of the frequency."""

    bins: npt.NDArray[np.intp]
    hop: int
    periods: int
    """Hops in a block."""
    reach: tuple[int, int]
    first: int
    """First hop of a block at which no filter reaches outside."""
    count: int
    """Frames that a block yields."""
    phase: Complex128
    """``e^(2 pi i f c / length)``, ``(hop * periods // 2 + 1,)``."""
    kernels: Float64
    """Real spectra ``(residue, 2 filter, segment)``: at positive frequencies, then at their negatives."""


Plan = tuple[Whole | Blocks, ...]


def frequencies(spec: CqtSpec) -> Float64:
    """Nominal centres in Hz: ``fmin 2^(k / bins_per_octave)``."""
    return np.asarray(spec.fmin * 2.0 ** (np.arange(spec.n_bins) / spec.bins_per_octave))


def relative_bandwidth(bins_per_octave: int) -> float:
    """Half the distance of a bin's neighbours over their mean: ``(r^2 - 1) / (r^2 + 1)``, ``r`` from bin to bin."""
    square = 2.0 ** (2 / bins_per_octave)
    return float((square - 1) / (square + 1))


def quality(spec: CqtSpec) -> float:
    """Cycles in a filter: ``filter_scale / relative_bandwidth``."""
    return spec.filter_scale / relative_bandwidth(spec.bins_per_octave)


def lengths(spec: CqtSpec) -> Float64:
    """Lengths ``L = Q rate / f`` in samples, fractional."""
    return quality(spec) * spec.rate / frequencies(spec)


def upper_edge(spec: CqtSpec) -> float:
    """Where the highest filter has decayed by 3 dB, in nominal Hz; librosa refuses to have it above half the rate."""
    return float(frequencies(spec)[-1] * (1 + 0.5 * HANN_BANDWIDTH / quality(spec)))


def wavelets(spec: CqtSpec) -> list[Wavelet]:
    """The filters, ``j = floor(-L/2) … floor(L/2) - 1``, scaled as ``librosa.cqt(scale=True)`` scales them.

    Returns
    -------
    list of Wavelet
        One a bin, the longest first.

    References
    ----------
    Brown (1991), Eq. 5; lengths and scale of ``librosa.filters.wavelet`` 0.10 and later.
    """
    return [
        _wavelet(length, frequency / spec.rate)
        for length, frequency in zip(lengths(spec), frequencies(spec), strict=True)
    ]


def _wavelet(length: float, frequency: float) -> Wavelet:
    j = np.arange(-length // 2, length // 2)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(len(j)) / len(j))
    values = np.sqrt(length) / hann.sum() * hann * np.exp(2j * np.pi * frequency * j)
    return Wavelet(frequency=frequency, start=int(j[0]), values=values)


def dense(filters: Sequence[Wavelet]) -> Complex128:
    """Filters as a matrix ``(filter, sample)`` of even width, their frames' centre in the middle."""
    half = max(max(-w.start, w.stop) for w in filters)
    rows = np.zeros((len(filters), 2 * half), dtype=np.complex128)
    for row, w in zip(rows, filters, strict=True):
        row[half + w.start : half + w.stop] = w.values
    return rows


def plan(spec: CqtSpec) -> Plan:
    """How the filters are applied: each to the whole clip or to blocks, those of one symmetry together."""
    every = wavelets(spec)
    short = np.array([len(w.values) <= SHORT for w in every])
    centre = np.array([w.centre for w in every])
    parts: list[Whole | Blocks] = []
    for c in np.unique(centre):
        for make, chosen in ((_whole, ~short & (centre == c)), (_blocks, short & (centre == c))):
            bins = np.flatnonzero(chosen)
            if len(bins):
                parts.append(make(spec, bins, [every[k] for k in bins]))
    return tuple(parts)


def _whole(spec: CqtSpec, bins: npt.NDArray[np.intp], filters: Sequence[Wavelet]) -> Whole:
    hop, before, after = spec.hop_length, max(-w.start for w in filters), max(w.stop for w in filters)
    periods = fast_length(before + (spec.frames - 1) * hop + after, hop)
    ranges = [occupied(w, hop, periods) for w in filters]
    kernels = [
        spectrum(w, hop * periods, periods * (low - hop // 2) + np.arange(periods * (high - low)))
        for w, (low, high) in zip(filters, ranges, strict=True)
    ]
    angle = 2 * np.pi * filters[0].centre / (hop * periods)
    return Whole(
        bins=bins,
        hop=hop,
        periods=periods,
        reach=(before, after),
        phase=(
            np.exp(1j * angle * periods * (np.arange(hop) - hop // 2)),
            np.exp(1j * angle * np.arange(periods)),
        ),
        first=np.array([low for low, _ in ranges]),
        offsets=np.cumsum([0, *(high - low for low, high in ranges)]),
        kernels=np.concatenate(kernels).reshape(-1, periods),
    )


def _blocks(spec: CqtSpec, bins: npt.NDArray[np.intp], filters: Sequence[Wavelet]) -> Blocks:
    hop, before, after = spec.hop_length, max(-w.start for w in filters), max(w.stop for w in filters)
    first = -(-before // hop)
    whole_clip = (first + spec.frames - 1) * hop + after
    periods = fast_length(min(max(BLOCK, 5 * (before + after), first * hop + after), whole_clip), hop)
    length = hop * periods
    sides = np.stack([_by_residue(w, hop, periods) for w in filters], axis=1)  # (sign, filter, residue, segment)
    return Blocks(
        bins=bins,
        hop=hop,
        periods=periods,
        reach=(before, after),
        first=first,
        count=(length - after) // hop - first + 1,
        phase=np.exp(2j * np.pi * filters[0].centre / length * np.arange(length // 2 + 1)),
        kernels=np.ascontiguousarray(np.concatenate(list(sides)).transpose(1, 0, 2)),
    )


def _by_residue(wavelet: Wavelet, hop: int, periods: int) -> Float64:
    """A spectrum as ``(sign, residue, segment)``, its frequency being ``sign * (residue + periods * segment)``."""
    length = hop * periods
    segments = length // 2 // periods + 1
    sides = np.zeros((2, segments * periods))
    above, below = np.arange(length // 2 + 1), np.arange(1, (length + 1) // 2)  # zero and the half once, not twice
    sides[0, above] = spectrum(wavelet, length, above)
    sides[1, below] = spectrum(wavelet, length, -below)
    return sides.reshape(2, segments, periods).transpose(0, 2, 1)


def fast_length(samples: int, hop: int) -> int:
    """Hops that hold at least so many samples, and whose number has small factors only."""
    return int(scipy.fft.next_fast_len(-(-samples // hop)))


def occupied(wavelet: Wavelet, hop: int, periods: int) -> tuple[int, int]:
    """First segment that a filter occupies, and one past the last; every one where a side would alias."""
    lobe = hop * periods / len(wavelet.values)
    middle = wavelet.frequency * hop * periods
    low = int(np.floor((middle - REACH * lobe) / periods)) + hop // 2
    high = int(np.ceil((middle + REACH * lobe) / periods)) + hop // 2
    return (low, high) if low >= 0 and high <= hop else (0, hop)


def spectrum(wavelet: Wavelet, length: int, at: npt.NDArray[np.intp]) -> Float64:
    """What a filter multiplies a spectrum by, without its phase: ``conj(DFT(w)) e^(-2 pi i f c / length) / length``.

    The window is symmetric about ``c``, so this is real but for a factor that no magnitude depends on.

    Parameters
    ----------
    wavelet : Wavelet
        The filter.
    length : int
        Length of the transform, in samples.
    at : array of int
        The frequencies ``f``, in cycles per transform; an odd filter's sign changes from ``f`` to ``f + length``.

    Returns
    -------
    array, as long as ``at``
    """
    padded = np.zeros(length, dtype=np.complex128)
    padded[np.arange(wavelet.start, wavelet.stop)] = wavelet.values  # negative places wrap
    turn = np.exp(-2j * np.pi * wavelet.centre * (at / length - wavelet.frequency))
    return np.asarray((np.conj(scipy.fft.fft(padded))[at % length] * turn).real / length)


def require_direct(spec: CqtSpec, backend: str) -> None:
    """Refuse librosa's recursive algorithm where a backend does not compute it.

    Raises
    ------
    RecipeError
        When the specification asks for it.
    """
    if spec.algorithm != "direct":
        raise RecipeError(
            f"The {backend} backend computes the constant-Q transform directly, not by librosa's recursion.",
            differences=[Difference(field="representation.algorithm", expected="direct", found=spec.algorithm)],
            todo="Use --backend librosa, or `algorithm: direct` in the recipe.",
        )
