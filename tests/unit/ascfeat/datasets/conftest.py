"""Dataset folders written in one call."""

from pathlib import Path

import pytest

from ascfeat.testing.datasets import write_tone


@pytest.fixture
def lay(tmp_path):
    """``lay({"meta.csv": "..."}, "audio/a.wav", ...)`` makes a folder of lists and recordings and returns it."""

    def make(lists: dict[str, str | bytes], *audio: str, name: str = "set") -> Path:
        root = tmp_path / name
        for path, text in lists.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        for number, path in enumerate(audio):
            write_tone(root / path, number)
        root.mkdir(exist_ok=True)
        return root

    return make
