"""Is a stored number as near to its value as its store says, and is what cannot be kept so well refused?"""

import numpy as np
import pytest

from ascfeat.store.encoding import decode, encode, encoding, missing, rounded
from ascfeat.testing.stores import LN, log_layout, wave_layout
from ascschemas.layout import Layout, LogScale
from ascschemas.problems import AudioError, RecipeError
from ascschemas.recipe import Storage
from ascschemas.store import Encoding


def back(values: np.ndarray, how: Encoding) -> np.ndarray:
    out = np.empty(values.shape, np.float32)
    decode(encode(values, how), how, out)
    return out


def scale(decibels: float, lowest: float) -> Layout:
    return log_layout().model_copy(update={"log": LogScale(decibels=decibels, lowest=lowest)})


@pytest.mark.parametrize(
    ("decibels", "lowest"), [(1, -100), (LN, np.log(1e-7)), (LN / 2, np.log(1e-8)), (LN, np.log(1e-5))]
)
@pytest.mark.parametrize(("precision", "most"), [("float16", 0.034), ("0.05dB", 0.025)])
def test_the_stated_error_holds_from_silence_to_full_scale(
    decibels: float, lowest: float, precision: str, most: float
) -> None:
    how = encoding(Storage(precision=precision), scale(decibels, lowest))
    values = np.linspace(lowest, lowest + 200 / decibels, 200_001).astype(np.float32)
    off = np.abs(back(values, how).astype(np.float64) - values) * decibels
    assert off.max() <= most * 1.001
    assert off.max() > most / 8, "an encoding that is so much better than it says is another one"
    assert how.tolerance == most


def test_steps_of_a_twentieth_of_a_decibel_are_what_cf_says() -> None:
    how = encoding(Storage(precision="0.05dB"), scale(1, -100))
    assert (how.dtype, how.scale, how.offset, how.missing) == ("int16", 0.05, 0.0, -32768)
    np.testing.assert_array_equal(
        encode(np.array([-100, 0.024, 0.026, np.nan], np.float32), how), [-2000, 0, 1, -32768]
    )


@pytest.mark.parametrize("precision", ["float16", "0.05dB"])
@pytest.mark.parametrize("layout", [wave_layout(), log_layout().model_copy(update={"log": None})])
def test_precisions_for_logarithms_are_refused_for_other_features(precision: str, layout: Layout) -> None:
    with pytest.raises(RecipeError, match="these features are none"):
        encoding(Storage(precision=precision), layout)


@pytest.mark.parametrize(("bits", "dtype"), [(16, "int16"), (24, "int32")])
def test_every_sample_of_so_many_bits_comes_back_to_the_bit(bits: int, dtype: str) -> None:
    how = encoding(Storage(), wave_layout(), bits=bits)
    most = 1 << (bits - 1)
    draw = np.random.default_rng(0).integers(-most, most, 100_000)
    values = (np.concatenate([[-most, most - 1, 0, -1, 1], draw]) / most).astype(np.float32)
    assert how.dtype == dtype
    assert encode(values, how).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back(values, how), values)


def test_float32_is_kept_where_it_is_asked_for() -> None:
    assert encoding(Storage(precision="float32"), wave_layout(), bits=16).plain
    assert encoding(Storage(), wave_layout(), bits=0).plain


def test_samples_that_are_no_such_integers_are_refused() -> None:
    how = encoding(Storage(), wave_layout(), bits=16)
    for value in (0.3, 1.0, 2.0**-16):
        with pytest.raises(AudioError, match="no integers of 16 bits"):
            rounded(np.full((2, 50), value, np.float32), how, wave_layout(), "a.wav")


def test_values_beyond_the_precision_are_refused_with_both_numbers() -> None:
    how = encoding(Storage(precision="float16"), scale(1, -100))
    with pytest.raises(AudioError) as caught:
        rounded(np.full((2, 5, 7), 200.06, np.float32), how, scale(1, -100), "a.wav")
    assert (caught.value.differences[0].expected, caught.value.reason) == ("at most 0.034", "imprecise")
    for value in (70_000, np.float32(3e38)):
        with pytest.raises(AudioError), np.errstate(over="ignore"):
            rounded(np.full((2, 5, 7), value, np.float32), how, scale(1, -100), "a.wav")


@pytest.mark.parametrize("storage", [Storage(), Storage(precision="float16"), Storage(precision="0.05dB")])
def test_a_missing_clip_reads_as_nan(storage: Storage) -> None:
    how = encoding(storage, log_layout())
    out = np.empty((2, 5, 7), np.float32)
    decode(missing((2, 5, 7), how), how, out)
    assert np.isnan(out).all()
