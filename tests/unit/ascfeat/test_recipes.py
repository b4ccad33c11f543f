"""Are recipes read exactly, completed, and refused with a helping hand?"""

from pathlib import Path

import pytest

from ascfeat.recipes import load_recipe, names
from ascschemas.problems import RecipeError, UnknownName

TEXT = """
name: mine
representation: {kind: log_mel, n_fft: 512, hop_length: 128, spectrum: power, n_mels: 20, floor: 1.0e-8}
"""


def test_named_recipes_are_those_of_the_papers() -> None:
    assert set(names()) >= {"logmel128", "logmel64", "logmel256"}
    for name in names():
        assert load_recipe(name).name == name
        assert load_recipe(name).source, "a named recipe says where its numbers come from"


@pytest.mark.parametrize(("name", "numbers"), [
    ("logmel128", {"n_fft": 4096, "hop_length": 1024, "window": "hamming", "spectrum": "power", "n_mels": 128,
                   "mel_norm": "none", "floor": 1e-10, "fmin": 0, "fmax": None, "mel_scale": "slaney"}),
    ("logmel64", {"n_fft": 2048, "hop_length": 1500, "window": "hann", "spectrum": "magnitude", "n_mels": 64,
                  "mel_norm": "slaney", "floor": 1e-8, "fmin": 50, "fmax": 24_000, "frames": "whole_hops"}),
    ("logmel256", {"n_fft": 2048, "hop_length": 512, "window": "hann", "spectrum": "magnitude", "n_mels": 256,
                   "mel_norm": "slaney", "floor": 1e-7, "fmin": 0, "fmax": None}),
])  # fmt: skip
def test_the_papers_numbers(name: str, numbers: dict) -> None:
    found = load_recipe(name).representation.values()
    assert {k: found[k] for k in numbers} == numbers


def test_decoding_of_the_papers() -> None:
    assert load_recipe("logmel128").decode.sample_rate == "native"  # 48 kHz in subtask A, 44.1 kHz in B
    assert load_recipe("logmel64").decode.sample_rate == 48_000
    decode = load_recipe("logmel256").decode
    assert (decode.sample_rate, decode.remove_dc, decode.resampler) == (44_100, True, "soxr_vhq")


def test_a_file_is_completed_and_a_comment_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    first = load_recipe(str(path))
    assert first.representation.values()["mel_norm"] == "slaney"
    path.write_text("# a comment\n" + TEXT.replace("name: mine", "name: other") + "decode: {sample_rate: native}\n")
    assert load_recipe(str(path)).fingerprint == first.fingerprint
    path.write_text(TEXT.replace("n_mels: 20", "n_mels: 21"))
    assert load_recipe(str(path)).fingerprint != first.fingerprint


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"did you mean logmel256"):
        load_recipe("logmel265")


@pytest.mark.parametrize(("old", "new", "words"), [
    ("n_mels: 20", "n_mels: 0", "n_mels"),
    ("n_mels: 20", "n_mels: many", "n_mels.*found 'many'"),
    ("n_mels: 20", "n_mels: 20, n_mel: 3", r"representation\.n_mel .*did you mean representation\.n_mels"),
    ("kind: log_mel", "kind: logmel", "did you mean log_mel"),
    ("n_fft: 512", "n_fft: 512, win_length: 600", "win_length 600 is longer than n_fft 512"),
    ("n_fft: 512", "n_fft: 512, fmin: 900, fmax: 800", "fmax 800 Hz is not above fmin 900 Hz"),
    ("floor: 1.0e-8", "floor: .nan", "floor"),
    ("name: mine", "name: ../mine", "name"),
    ("name: mine", "name: mine\ndecode: {sample_rte: 8000}", r"decode\.sample_rte .*did you mean decode\.sample_rate"),
    ("name: mine", "name: mine\ndecode: {sample_rate: 16000, seconds: 0.01}", "n_fft .*160 samples +found 512"),
    ("name: mine", "name: mine\ndecode: {sample_rate: 16000}\nstorage: {clips_per_shard: 0}", "clips_per_shard"),
    ("n_mels: 20", "n_mels: 250", None),  # its bands are empty only at some rates: the dataset decides
    ("name: mine", "name: [", "not YAML"),
    (TEXT, "just words", "not a feature recipe"),
    (TEXT, "!!python/object/apply:os.system ['true']", "not YAML"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, old: str, new: str, words: str | None) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace(old, new))
    if words is None:
        assert load_recipe(str(path)).name == "mine"
        return
    with pytest.raises((RecipeError, UnknownName), match=rf"(?s){words}"):
        load_recipe(str(path))


def test_bands_below_the_resolution_are_refused_when_the_rate_is_known(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("n_mels: 20", "n_mels: 250") + "decode: {sample_rate: 16000}\n")
    with pytest.raises(RecipeError, match=r"band \d+ of 250 empty, \d+ in all"):
        load_recipe(str(path))
    path.write_text(TEXT.replace("n_mels: 20", "n_mels: 20, fmax: 9000") + "decode: {sample_rate: 16000}\n")
    with pytest.raises(RecipeError, match=r"at most 8000 Hz\s+found 9000 Hz"):
        load_recipe(str(path))


BILLION = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(("text", "words"), [
    (BILLION, "anchors and aliases are not read"),
    ("name: &x mine\n" + TEXT, "anchors and aliases"),
    ("a: *missing\n", "anchors and aliases"),
    ("!!python/object/apply:os.system [id]\n", "tags such as tag:yaml.org,2002:python/object/apply:os.system"),
    ("name: !!python/name:os.system\n", "tags such as"),
    ("name: !<x> y\n", "tags such as"),
    (TEXT + "name: other\n", "the key 'name' stands there twice"),
    (TEXT + "<<: {name: other}\n", "keys must be words"),
    ("[" * 100_000, "there is more in it than in any recipe"),
    ("{a: " * 1000, "there is more in it than in any recipe"),
    ("[" + "1, " * 30_000 + "1]", "there is more in it than in any recipe"),
    ("{" + ", ".join(f"k{i}: 1" for i in range(2000)) + "}", "2000 keys are more than any recipe has"),
    (TEXT.replace("20", "9" * 5000), "a number of so many digits"),
    (TEXT.replace("20", "0x" + "f" * 5000), "a number of so many digits"),
    (TEXT.replace("20", "2024-13-45"), "is not YAML"),
    (TEXT.replace("20", ".nan"), "n_mels"),
    (TEXT.replace("1.0e-8", ".inf"), "floor"),
    (TEXT.replace("20", "1e999"), "n_mels"),
    ("? [a]\n: b\n", "keys must be words"),
    ("a: 1\n---\nb: 1\n", "is not YAML"),
    ("name: mine\0", "is not YAML"),
    ("# " + "x" * 300_000, "more than 262144 bytes"),
    (TEXT.replace("n_mels: 20", "n_mels: 4096").replace("512", "131072"), "n_mels x n_fft"),
    (TEXT + "decode: {sample_rate: 48000, seconds: 1.0e+300}\n", "decode.seconds"),
    (TEXT + "storage: {clips_per_shard: 1099511627776}\n", "storage.clips_per_shard"),
])  # fmt: skip
def test_what_no_recipe_needs_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert words in str(caught.value)
    assert caught.value.todo
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "", ".", "/etc", "\ud800"])
def test_names_of_no_recipe_are_unknown(name: str) -> None:
    with pytest.raises(UnknownName, match="There is no recipe") as caught:
        load_recipe(name)
    assert len(str(caught.value)) < 1000
