"""Values are frozen, closed and finite; their canonical JSON is one text."""

import hashlib
import math

import pytest
from pydantic import ValidationError

from ascschemas.base import Frozen, Parameters, canonical_json, fingerprint


class Point(Frozen):
    x: float
    y: float = 0.0


def test_a_value_cannot_change():
    with pytest.raises(ValidationError, match="frozen"):
        Point(x=1.0).x = 2.0


def test_an_unknown_key_is_an_error():
    with pytest.raises(ValidationError, match="z"):
        Point(x=1.0, z=2.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_only_finite_numbers(bad):
    with pytest.raises(ValidationError, match="finite"):
        Point(x=bad)
    with pytest.raises(ValidationError, match="finite"):
        Parameters(kind="log_mel", fmax=bad)


def test_parameters_keep_scalars_and_flat_lists():
    parameters = Parameters(kind="k", n=3, share=0.5, on=True, none=None, word="a", sizes=[1, 2])
    assert parameters.values() == {"n": 3, "share": 0.5, "on": True, "none": None, "word": "a", "sizes": [1, 2]}


@pytest.mark.parametrize("bad", [{"a": 1}, [[1]], object()])
def test_parameters_refuse_anything_nested(bad):
    with pytest.raises(ValidationError):
        Parameters(kind="k", value=bad)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": 2}, '{"a":2,"b":1}'),
        ([50.0, 0.5, -0.0, 1e20], "[50,0.5,0,100000000000000000000]"),
        ((1, "å", None, True), '[1,"å",null,true]'),
        (Point(x=2.0), '{"x":2,"y":0}'),
        ({"p": (Point(x=0.1),)}, '{"p":[{"x":0.1,"y":0}]}'),
    ],
)
def test_canonical_json(value, text):
    assert canonical_json(value) == text


def test_true_and_one_are_two_values():
    assert canonical_json(True) != canonical_json(1)


def test_canonical_json_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(math.nan)


def test_fingerprint_is_the_sha256_of_the_canonical_json():
    assert fingerprint({"a": 1.0}) == hashlib.sha256(b'{"a":1}').hexdigest()
