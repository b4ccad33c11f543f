"""Is the device found without torch where there is no GPU, and by torch where there may be one?"""

import subprocess
import sys

import pytest
import torch

from ascfeat.dsp import devices
from ascschemas.problems import RecipeError


def test_auto_is_what_torch_sees() -> None:
    assert devices.resolve_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")


def test_torch_is_asked_where_there_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_driver", lambda: True)
    for sees, device in ((True, "cuda:0"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda sees=sees: sees)
        assert devices.resolve_device("auto") == device


def test_numbers_of_devices_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.resolve_device("cuda") == "cuda:0"
    assert devices.resolve_device("cuda:1") == "cuda:1"
    for name in ("cuda:2", "cuda:x", "gpu"):
        with pytest.raises(RecipeError, match="2 CUDA devices"):
            devices.resolve_device(name)


def test_who_computes_on_the_cpu_does_not_wait_for_torch() -> None:
    """Torch is most of a command's start."""
    asked = "import sys, ascfeat.extract, ascfeat.dsp.numba_backend, asccli.ascfeat; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", asked], check=True, capture_output=True, text=True)
    assert found.stdout == "False\n"
