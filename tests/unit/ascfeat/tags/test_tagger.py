"""Taggers: callables by name or by entry point, what they are known by, and what becomes of their mistakes."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from ascfeat.tags import open_tags
from ascfeat.tags.tagger import GROUP, imported, tagging
from ascschemas import plugins
from ascschemas.problems import AudioError, TagsError

TEXT = """
def level(waveform, rate):
    return [abs(waveform).max(), rate]

class Named:
    names = ("loud", "rate")
    def __call__(self, waveform, rate):
        return level(waveform, rate)

named = Named()
number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a module that can be imported; again with another text, and it is another module."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str = TEXT) -> Path:
        sys.modules.pop("my_tagger", None)
        (tmp_path / "my_tagger.py").write_text(text)
        for stale in (tmp_path / "__pycache__").glob("*"):
            stale.unlink()
        return tmp_path / "my_tagger.py"

    yield write
    sys.modules.pop("my_tagger", None)


def test_a_function_is_tried_on_silence_and_its_tags_are_numbered(module, audio) -> None:
    module()
    source = open_tags("my_tagger:level", [], audio)
    assert source.names == ("0", "1")
    assert list(source.row("x", np.full((1, 4), -0.5, "f"), 8000)) == [0.5, 8000]


def test_an_object_names_its_own(module, audio) -> None:
    module()
    assert open_tags("my_tagger:named", [], audio).names == ("loud", "rate")


def test_it_is_known_by_its_name_its_file_and_its_version(module, audio) -> None:
    def digest(path: str = "my_tagger:level", text: str = TEXT) -> str:
        module(text)
        return open_tags(path, [], audio).digest

    once = digest()
    assert digest() == once
    assert digest(text=TEXT + "# another file\n") != once
    assert digest(text=TEXT.replace("number = 3", "level.version = 2")) != once
    twin = TEXT + "same = level\n"
    assert digest("my_tagger:same", twin) != digest("my_tagger:level", twin)


def test_a_version_alone_tells_two_apart(audio) -> None:
    class Same:
        names = ("a",)

        def __init__(self, version: int) -> None:
            self.version = version

        def __call__(self, waveform, rate):
            return [1.0]

    assert tagging(Same(1), audio).digest == tagging(Same(1), audio).digest != tagging(Same(2), audio).digest


@pytest.mark.parametrize(("path", "words"), [
    ("no_such_module:f", "cannot be imported.*no_such_module"),
    ("my_tagger:none", "cannot be imported.*none"),
    ("my_tagger:number", "cannot be called"),
    ("my_tagger:", "cannot be imported"),
])  # fmt: skip
def test_what_cannot_be_called_is_refused(module, path: str, words: str) -> None:
    module()
    with pytest.raises(TagsError, match=words):
        imported(path)


def test_a_module_that_fails_is_no_traceback(module) -> None:
    module("1 / 0")
    with pytest.raises(TagsError, match="division by zero"):
        imported("my_tagger:level")


def test_mistakes_name_the_clip_and_reasons_pass(audio) -> None:
    def broken(waveform, rate):
        raise (KeyError("mel") if waveform.any() else ValueError("empty"))

    with pytest.raises(TagsError, match="fails on silence: ValueError: empty"):
        tagging(broken, audio)
    broken.names = ["a"]
    with pytest.raises(TagsError, match=r"fails on audio/1\.wav: KeyError: 'mel'"):
        tagging(broken, audio).row("audio/1.wav", np.ones((1, 4), "f"), 8000)

    def picky(waveform, rate):
        raise AudioError("too-short", "too short", todo="")

    picky.names = ["a"]
    with pytest.raises(AudioError, match="too short"):
        tagging(picky, audio).row("x", np.ones((1, 4), "f"), 8000)


def test_it_may_write_into_what_it_is_given(audio) -> None:
    def greedy(waveform, rate):
        waveform[:] = 9
        return [waveform.mean()]

    x = np.zeros((1, 4), np.float32)
    assert list(tagging(greedy, audio).row("x", x, 8000)) == [9]
    assert not x.any()


def test_a_strangers_file_is_offered_to_taggers_that_packages_register(tmp_path, audio, monkeypatch, module) -> None:
    text = 'def opened(path, device):\n    return named if path.suffix == ".onnx" else None\n'
    module(TEXT + text)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("mine", "my_tagger:opened", GROUP)])
    (tmp_path / "model.onnx").touch()
    (tmp_path / "model.txt").touch()
    assert open_tags(tmp_path / "model.onnx", [], audio).names == ("loud", "rate")
    with pytest.raises(TagsError, match=r"model\.txt is nothing that tags can be taken from; taggers asked: mine"):
        open_tags(tmp_path / "model.txt", [], audio)


def test_nothing_there(audio) -> None:
    with pytest.raises(TagsError, match=r"no file or folder tags/none\.csv"):
        open_tags("tags/none.csv", [], audio)
