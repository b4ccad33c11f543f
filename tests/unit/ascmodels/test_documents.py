"""YAML as recipes need it: plain values, shared ones by an alias; no key twice, and no bombs."""

import pytest

from ascmodels.documents import LARGEST, plain
from ascschemas.problems import RecipeError

BOMB = "a: &a [0,0,0,0,0,0,0,0,0,0]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_an_alias_stands_for_its_value() -> None:
    assert plain("one: &x {split: fold1}\ntwo: *x\n", "here") == {"one": {"split": "fold1"}, "two": {"split": "fold1"}}
    assert plain("", "here") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs: 1\nseed: 2\nepochs: 3\n", "the key 'epochs' stands there twice"),
        ("family: {kind: a, kind: b}", "the key 'kind' stands there twice"),
        (BOMB, "more than 20000 values"),
        ("&a [*a]", "more than 20000 values"),
        ("[" * 3000, "not YAML"),
        ("x: !!python/object:os.system {}", "could not determine a constructor"),
        ("x" * (LARGEST + 1), "characters"),
        ("when: 2020-13-45", "not YAML"),
    ],
)
def test_what_no_recipe_is_is_refused(text, said) -> None:
    with pytest.raises(RecipeError, match=said) as refused:
        plain(text, "mine.yaml")
    assert str(refused.value).startswith("mine.yaml ")
