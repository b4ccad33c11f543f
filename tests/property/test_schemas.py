"""Laws of the schemas: JSON loses nothing, and a fingerprint changes exactly when a value can."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascschemas.base import Parameters, canonical_json
from ascschemas.dataset import Clip, Manifest, Split
from ascschemas.recipe import Decode, FeatureRecipe, Storage

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,20}", fullmatch=True)
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
KEYS = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True).filter(
    lambda key: key != "kind" and key not in dir(Parameters)
)

DECODE = {
    "sample_rate": st.just("native") | st.integers(1000, 768_000),
    "channels": st.just("mono_mean"),
    "seconds": st.just("native") | st.floats(1e-3, 1e4),
    "resampler": st.sampled_from(["soxr_vhq", "soxr_hq"]),
    "remove_dc": st.booleans(),
    "other_rate": st.sampled_from(["exclude", "resample"]),
    "other_channels": st.sampled_from(["exclude", "accept"]),
    "other_length": st.sampled_from(["exclude", "fit", "repeat"]),
    "length_tolerance": st.floats(0, 1),
}
decodes = st.builds(Decode, **DECODE)
representations = st.builds(
    lambda kind, rest: Parameters(kind=kind, **rest),
    NAMES,
    st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=4), max_size=6),
)
recipes = st.builds(FeatureRecipe, name=NAMES, decode=decodes, representation=representations)


@st.composite
def manifests(draw):
    ids = draw(st.lists(st.from_regex(r"[a-z]{1,8}/[a-z]{1,8}\.wav", fullmatch=True), unique=True, max_size=6))
    clips = tuple(Clip(id=i, label=draw(WORDS), device=draw(WORDS), city=draw(WORDS)) for i in ids)
    cut = draw(st.integers(0, len(ids)))
    return Manifest(
        dataset=draw(NAMES), kind="csv", clips=clips, splits=(Split(name="s", train=ids[:cut], test=ids[cut:]),)
    )


@given(recipes | manifests())
def test_json_loses_nothing(value):
    again = type(value).model_validate_json(value.model_dump_json())
    assert again == value
    assert again.fingerprint == value.fingerprint


def test_every_decode_field_is_tried():
    assert DECODE.keys() == Decode.model_fields.keys()


@pytest.mark.parametrize("field", sorted(DECODE.keys() - {"channels"}))
@given(data=st.data(), recipe=recipes)
def test_any_change_of_decode_changes_the_fingerprint(field, data, recipe):
    old = getattr(recipe.decode, field)
    new = data.draw(DECODE[field].filter(lambda value: value != old))
    changed = recipe.model_copy(update={"decode": recipe.decode.model_copy(update={field: new})})
    assert changed.fingerprint != recipe.fingerprint


@given(recipes, KEYS, SCALARS, SCALARS)
def test_any_change_of_a_parameter_changes_the_fingerprint(recipe, key, old, new):
    before, after = (with_parameter(recipe, key, value) for value in (old, new))
    assert (before.fingerprint == after.fingerprint) == (canonical_json(old) == canonical_json(new))
    assert before.fingerprint != without_parameter(recipe, key).fingerprint


@given(recipes, NAMES)
def test_another_kind_changes_the_fingerprint(recipe, kind):
    changed = with_parameter(recipe, "kind", kind)
    assert (changed.fingerprint == recipe.fingerprint) == (kind == recipe.representation.kind)


@given(recipes, NAMES, WORDS, WORDS, st.integers(1, 1000))
def test_names_comments_and_storage_do_not(recipe, name, description, source, clips_per_shard):
    storage = Storage(clips_per_shard=clips_per_shard)
    renamed = recipe.model_copy(update={"name": name, "description": description, "source": source, "storage": storage})
    assert renamed.fingerprint == recipe.fingerprint


@given(recipes, st.randoms(use_true_random=False))
def test_key_order_does_not(recipe, random):
    def shuffled(value):
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    assert FeatureRecipe.model_validate(shuffled(recipe.model_dump(mode="json"))).fingerprint == recipe.fingerprint


@given(recipes, KEYS, st.integers(-(2**53), 2**53))
def test_50_and_50_point_0_are_one_number(recipe, key, number):
    whole, real = (with_parameter(recipe, key, value) for value in (number, float(number)))
    assert whole.fingerprint == real.fingerprint


@given(st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4)))
def test_canonical_json_is_json_of_an_equal_value(value):
    assert json.loads(canonical_json(value)) == value


def with_parameter(recipe, key, value):
    return recipe.model_copy(
        update={"representation": Parameters(**(recipe.representation.model_dump() | {key: value}))}
    )


def without_parameter(recipe, key):
    kept = {k: v for k, v in recipe.representation.model_dump().items() if k != key}
    return recipe.model_copy(update={"representation": Parameters(**kept)})
