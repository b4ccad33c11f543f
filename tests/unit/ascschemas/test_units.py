"""Every field type takes what it names, and nothing else."""

import pytest
from pydantic import TypeAdapter, ValidationError

from ascschemas import units

GOOD = {
    "Hertz": [0, 0.5, 22050],
    "Seconds": [1e-3, 10],
    "Count": [0, 7],
    "Size": [1, 7],
    "Digest": ["0123456789abcdef" * 4],
    "Name": ["a", "logmel256", "fold1", "TAU-2019_mobile.v1+x", "x" * 100],
    "Fraction": [0, 0.5, 1],
}
BAD = {
    "Hertz": [-1],
    "Seconds": [0, -1],
    "Count": [-1, 1.5],
    "Size": [0],
    "Digest": ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"],
    "Name": ["", ".hidden", "a/b", "a\\b", "../a", "a b", "é", "x" * 101, "a\n"],
    "Fraction": [-0.01, 1.01],
}


@pytest.mark.parametrize(("unit", "value"), [(unit, value) for unit, values in GOOD.items() for value in values])
def test_takes(unit, value):
    assert TypeAdapter(getattr(units, unit)).validate_python(value) == value


@pytest.mark.parametrize(("unit", "value"), [(unit, value) for unit, values in BAD.items() for value in values])
def test_refuses(unit, value):
    with pytest.raises(ValidationError):
        TypeAdapter(getattr(units, unit)).validate_python(value)
