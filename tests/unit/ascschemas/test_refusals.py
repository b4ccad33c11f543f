"""Is what pydantic refuses said in words: every problem, both values, the nearest name?"""

import pytest
from pydantic import ValidationError

from ascschemas.recipe import Decode
from ascschemas.refusals import refusal


def test_every_problem_is_a_row() -> None:
    with pytest.raises(ValidationError) as caught:
        Decode.model_validate({"sample_rate": 1, "sample_rte": 2, "seconds": [1, 2]})
    error = refusal(caught.value, what="No.", todo="Mend it.", known=["decode.sample_rate"], prefix="decode.")
    rows = {d.field: (d.expected, d.found) for d in error.differences}
    assert rows["decode.sample_rte"] == ("no such key; did you mean decode.sample_rate?", "2")
    assert any(path.startswith("decode.sample_rate") for path in rows)
    assert any(found == "what is written there" for _, found in rows.values())


def test_a_missing_key_is_called_missing() -> None:
    from ascschemas.dataset import AudioFormat

    with pytest.raises(ValidationError) as caught:
        AudioFormat.model_validate({"sample_rate": 8000, "channels": 1})
    (row,) = refusal(caught.value, what="No.", todo="Mend it.").differences
    assert (row.field, row.expected, row.found) == ("frames", "a value", "nothing")


def test_values_that_contradict_each_other_are_what_was_found() -> None:
    from ascschemas.training import Selection, TrainingRecipe

    watched = Selection(side="last", fraction=0).model_dump()
    values = {"name": "x", "features": "y", "family": {"kind": "z"}, "objective": {"kind": "focal"}, "epochs": 1}
    values |= {"optimiser": {"kind": "sgd"}, "schedule": {"kind": "plateau"}, "selection": watched}
    with pytest.raises(ValidationError) as caught:
        TrainingRecipe.model_validate(values)
    (row,) = refusal(caught.value, what="No.", todo="Mend it.").differences
    assert (row.field, row.expected) == ("as a whole", "values that can be meant together")
    assert row.found.startswith("a plateau schedule and early stopping need clips to watch")
