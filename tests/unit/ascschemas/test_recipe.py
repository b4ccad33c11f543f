"""A recipe's slots are closed, and its fingerprint covers two of the three."""

import pytest
from pydantic import ValidationError

from ascschemas.recipe import Decode, FeatureRecipe

RECIPE = {"name": "logmel256", "representation": {"kind": "log_mel", "n_mels": 256}}


@pytest.mark.parametrize(
    "bad", [{"sample_rate": 0}, {"seconds": 0}, {"channels": "left"}, {"dither": True}, {"length_tolerance": 2}]
)
def test_decode_refuses(bad):
    with pytest.raises(ValidationError):
        Decode(**bad)


def test_defaults_are_written_out():
    dumped = FeatureRecipe(**RECIPE).model_dump(mode="json")
    assert dumped["decode"]["resampler"] == "soxr_vhq"
    assert dumped["storage"]["clips_per_shard"] == "auto"
    assert dumped["representation"] == {"kind": "log_mel", "n_mels": 256}


def test_fingerprint_is_one_that_was_published():
    """A change here makes every store in the world stale: it needs a line in the changelog."""
    published = "6e228623dc04334eef4c8db19c180fe03641e33727853439de5b9bce679261bc"
    assert FeatureRecipe(**RECIPE).fingerprint == published
