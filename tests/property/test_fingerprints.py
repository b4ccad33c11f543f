"""Laws of a recipe's fingerprint: every field that decides a value is in it, and nothing else is."""

import contextlib
import types
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ascfeat.recipes import complete, load_recipe
from ascfeat.representations import representation
from ascschemas.base import Parameters, canonical_json
from ascschemas.plugins import names
from ascschemas.problems import RecipeError
from ascschemas.recipe import Decode, FeatureRecipe, Patches, Storage

SMALL = {
    "log_mel": {"n_fft": 512, "hop_length": 128, "win_length": 512, "spectrum": "power", "n_mels": 16, "floor": 1e-8},
    "mel": {"n_fft": 512, "hop_length": 128, "win_length": 512, "spectrum": "power", "n_mels": 16},
    "mfcc": {"n_fft": 512, "hop_length": 128, "n_mels": 16, "n_mfcc": 8},
    "hpss_mfcc": {"n_fft": 512, "hop_length": 128, "n_mels": 16, "n_mfcc": 8},
    "cqt": {"hop_length": 100, "n_bins": 24, "fmin": 200},
    "mean_spectrum": {"n_fft": 512, "hop_length": 128},
    "waveform": {},
    "tags": {"names": ("a", "b"), "source": "0" * 64},
}
"""Parameters of every representation that have no default, and of some that have."""
DECODE = Decode(sample_rate=16_000, seconds=2.0)
OTHERS = {"names": ("a", "c"), "source": "1" * 64}
"""What no rule below guesses."""


def completed(kind: str, decode: Decode = DECODE, **parameters) -> FeatureRecipe:
    recipe = FeatureRecipe.model_validate(
        {"name": "small", "decode": decode, "representation": {"kind": kind, **SMALL[kind], **parameters}}
    )
    return complete(recipe, "small")


def others(name: str, annotation, value) -> list[object]:
    """Values that a field may take beside the one it has; what is not allowed is sorted out by the model."""
    found = [OTHERS[name]] if name in OTHERS else []
    for kind in _alternatives(annotation):
        if typing.get_origin(kind) is typing.Literal:
            found += typing.get_args(kind)
        elif kind is bool:
            found += [True, False]
        elif kind in (int, float):
            base = value if isinstance(value, int | float) and not isinstance(value, bool) else kind(64)
            found += [base * 2, base + 1, base / 2 if kind is float else base // 2, base + 2, kind(8000), kind(0)]
        elif kind is type(None):
            found.append(None)
    return [v for v in found if v != value or type(v) is bool]


def _alternatives(annotation) -> list[object]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [a for option in typing.get_args(annotation) for a in _alternatives(option)]
    return [annotation]


def fields(kind: str) -> list[str]:
    return sorted(set(type(representation(completed(kind).representation)).model_fields) - {"kind"})


def test_every_representation_is_tried() -> None:
    assert SMALL.keys() == set(names("ascfeat.representations"))


@pytest.mark.parametrize(("kind", "name"), [(k, f) for k in SMALL for f in fields(k)])
def test_every_parameter_is_in_the_fingerprint(kind: str, name: str) -> None:
    """Each field by itself takes every other value that its model allows: as many fingerprints as values, no fewer."""
    recipe = completed(kind)
    field = type(representation(recipe.representation)).model_fields[name]
    old = recipe.representation.values().get(name, field.default)  # absent where it is what older stores are
    values, prints = {canonical_json(old)}, {recipe.fingerprint}
    for value in others(name, field.annotation, old):
        with contextlib.suppress(ValidationError, RecipeError):
            changed = completed(kind, **{name: value})
            values.add(canonical_json(changed.representation.values()[name]))
            prints.add(changed.fingerprint)
    if constant(field.annotation):  # a choice of one, today; it is in the fingerprint all the same
        values, prints = {*values, "other"}, {*prints, unchecked(recipe, name, "other").fingerprint}
    assert len(prints) == len(values) > 1


def constant(annotation) -> bool:
    return typing.get_origin(annotation) is typing.Literal and len(typing.get_args(annotation)) == 1


def unchecked(recipe: FeatureRecipe, name: str, value) -> FeatureRecipe:
    parameters = Parameters.model_validate({**recipe.representation.model_dump(), name: value})
    return recipe.model_copy(update={"representation": parameters})


@pytest.mark.parametrize("name", sorted(Decode.model_fields))
@pytest.mark.parametrize("kind", ["log_mel", "waveform"])
def test_every_field_of_decode_is_in_the_fingerprint(kind: str, name: str) -> None:
    recipe = completed(kind)
    old = getattr(recipe.decode, name)
    tried = 0
    for value in others(name, Decode.model_fields[name].annotation, old):
        try:
            decode = Decode.model_validate({**recipe.decode.model_dump(), name: value})
        except ValidationError:
            continue
        if getattr(decode, name) != old:
            tried += 1
            assert recipe.model_copy(update={"decode": decode}).fingerprint != recipe.fingerprint
    assert tried


@given(
    kind=st.sampled_from(sorted(SMALL)),
    name=st.from_regex(r"[A-Za-z0-9][a-z0-9_.+-]{0,20}", fullmatch=True),
    words=st.text(max_size=40),
    clips=st.just("auto") | st.integers(1, 4096),
    width=st.none() | st.integers(1, 100),
)
def test_comments_names_patches_and_storage_are_not(kind, name, words, clips, width) -> None:
    recipe = completed(kind)
    patches = None if width is None else Patches(width=width, hop=width)
    update = {"name": name, "description": words, "source": words, "patches": patches}
    for storage in every_storage(clips):
        assert recipe.model_copy(update={**update, "storage": storage}).fingerprint == recipe.fingerprint


def every_storage(clips) -> list[Storage]:
    """The storage slot with each of its fields changed."""
    found = [Storage(clips_per_shard=clips)]
    for name, field in Storage.model_fields.items():
        if name != "clips_per_shard":
            old = field.get_default()
            found += [Storage.model_validate({name: v}) for v in others(name, field.annotation, old) if v != old]
    return found


ONE_WAY = """
name: mine
decode: {sample_rate: 16000, remove_dc: false}
representation:
  kind: mean_spectrum
  n_fft: 512
  hop_length: 128
"""
ANOTHER_WAY = """
# a note
representation: {hop_length: 128, n_fft: 512, kind: mean_spectrum}  # another
decode:
  sample_rate: 16000
name: yours
description: words
"""


def test_a_comment_and_the_order_of_keys_in_the_file_are_not(tmp_path) -> None:
    prints = set()
    for name, text in {"one": ONE_WAY, "two": ANOTHER_WAY}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
        prints.add(load_recipe(str(tmp_path / f"{name}.yaml")).fingerprint)
    assert len(prints) == 1


def test_a_default_written_out_is_the_default() -> None:
    for kind in SMALL:
        whole = completed(kind)
        assert completed(kind, **whole.representation.values()).fingerprint == whole.fingerprint
