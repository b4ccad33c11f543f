"""The papers' identities in float64, and each estimator against its formula written out over single frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascfeat.correction.estimating import Estimate, of_anchor, of_devices, of_log_devices, of_log_pairs, of_pairs

Float64 = npt.NDArray[np.float64]
DEVICES, CLIPS, FRAMES, BINS = ("a", "b", "c"), 6, 9, 17
REFERENCES = [("a",), ("b", "c"), ("a", "b", "c")]


def magnitudes(seed: int, noise: float = 0.0) -> dict[str, Float64]:
    """``|X_{i,d}[k, t]|``, (clip, frame, bin): one sound through fixed gains, and so much of something else."""
    rng = np.random.default_rng(seed)
    sound = rng.lognormal(0, 1.5, (CLIPS, FRAMES, BINS))
    gains = {d: rng.lognormal(0, 1, BINS) for d in DEVICES}
    return {d: sound * g * rng.lognormal(0, noise, sound.shape) for d, g in gains.items()}


def means(x: dict[str, Float64]) -> dict[str, Float64]:
    return {d: each.mean(axis=1) for d, each in x.items()}


def logs(x: dict[str, Float64]) -> dict[str, Float64]:
    return {d: np.log(each).mean(axis=1) for d, each in x.items()}


def against(m: dict[str, Float64], reference: tuple[str, ...]) -> dict[str, tuple[Float64, Float64]]:
    return {d: (m[d], np.stack([m[r] for r in reference], axis=1)) for d in m}


def all_methods(x: dict[str, Float64], reference: tuple[str, ...]) -> dict[str, Estimate]:
    m, ln = means(x), logs(x)
    return {
        "mean": of_devices(m, reference),
        "anchor": of_anchor({d: (m[d], m["a"]) for d in m}, "a", reference),
        "pairs": of_pairs(against(m, reference)),
        "geometric": of_log_pairs(against(ln, reference)),
        "geometric_unaligned": of_log_devices(ln, reference),
    }


@given(st.integers(0, 2**32), st.sampled_from(REFERENCES))
def test_on_noiseless_parallel_recordings_every_method_brings_devices_together(seed: int, reference: tuple[str, ...]):
    x = magnitudes(seed)
    for found in all_methods(x, reference).values():
        brought = [found.coefficients[d] * x[d] for d in DEVICES]  # c_d H_d is the same for all d, times the sound
        for other in brought[1:]:
            np.testing.assert_allclose(other, brought[0], rtol=1e-10)
        assert not any(g.any() for g in found.guarded.values())


@given(st.integers(0, 2**32))
def test_with_one_reference_all_methods_agree_on_noiseless_recordings(seed: int):
    found = all_methods(magnitudes(seed), ("a",))
    for device in DEVICES:
        for other in found.values():
            np.testing.assert_allclose(other.coefficients[device], found["mean"].coefficients[device], rtol=1e-10)
    np.testing.assert_allclose(found["mean"].coefficients["a"], 1, rtol=1e-10)


@pytest.mark.parametrize("reference", REFERENCES)
def test_corrected_means_of_every_device_are_the_reference(reference: tuple[str, ...]):
    m = means(magnitudes(1, noise=0.5))
    found = of_devices(m, reference)
    common = np.mean([m[d].mean(axis=0) for d in reference], axis=0)
    for device in DEVICES:
        np.testing.assert_allclose((found.coefficients[device] * m[device]).mean(axis=0), common, rtol=1e-10)
    assert found.identity is not None
    assert found.identity < 1e-10


@pytest.mark.parametrize("reference", REFERENCES)
def test_estimates_are_their_formulas_over_single_frames(reference: tuple[str, ...]):
    x = magnitudes(2, noise=0.5)
    found = all_methods(x, reference)
    for d in DEVICES:
        pooled = np.concatenate([x[r] for r in reference]).mean(axis=(0, 1)) / x[d].mean(axis=(0, 1))
        np.testing.assert_allclose(found["mean"].coefficients[d], pooled, rtol=1e-12)
        np.testing.assert_allclose(found["anchor"].coefficients[d], pooled, rtol=1e-12)
        ratios = np.mean([x[r].mean(axis=1) for r in reference], axis=0) / x[d].mean(axis=1)
        np.testing.assert_allclose(found["pairs"].coefficients[d], ratios.mean(axis=0), rtol=1e-12)
        single = np.exp(np.mean([np.log(x[r] / x[d]) for r in reference], axis=(0, 1, 2)))
        np.testing.assert_allclose(found["geometric"].coefficients[d], single, rtol=1e-12)
        g = {e: np.exp(np.mean(-np.log(x[e]), axis=(0, 1))) for e in DEVICES}
        its = np.prod([g[r] for r in reference], axis=0) ** (1 / len(reference))
        np.testing.assert_allclose(found["geometric_unaligned"].coefficients[d], g[d] / its, rtol=1e-12)


def test_what_is_divided_by_is_raised_to_the_guard_and_said():
    m = means(magnitudes(3))
    m["b"][:, 4] = 0.0
    for found in (of_devices(m, ("a",)), of_pairs(against(m, ("a",)))):
        assert np.flatnonzero(found.guarded["b"]).tolist() == [4]
        assert np.isfinite(found.coefficients["b"]).all()
        assert found.coefficients["b"][4] == pytest.approx(m["a"][:, 4].mean() / 1e-10)
        assert not found.guarded["a"].any()
    assert of_devices(m, ("a",)).identity < 1e-10  # of the bins that are not guarded
