"""Weights and training state on disk: the door to safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ascschemas.problems import RunError

WEIGHTS, STATE, SUMS = "weights.safetensors", "state.pt", "sha256.json"


def save_weights(folder: Path, model: nn.Module) -> None:
    """Write a model's parameters and buffers, contiguous and on the CPU."""
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS)


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill a model with saved weights.

    Raises
    ------
    RunError
        When the file is missing or damaged, or holds the weights of another architecture.
    """
    with _loading(folder / WEIGHTS):
        model.load_state_dict(load_file(folder / WEIGHTS))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Saved weights by name, where their shapes are not known before.

    Raises
    ------
    RunError
        When the file is missing or damaged.
    """
    with _loading(folder / WEIGHTS):
        return load_file(folder / WEIGHTS)


@contextmanager
def _loading(file: Path) -> Iterator[None]:
    _whole(file)
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _unloadable(file, str(error)) from error


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the state of optimiser and schedule: tensors, numbers and words only."""
    torch.save(state, folder / STATE)


def load_state(folder: Path) -> dict[str, Any]:
    """Read such a state; nothing in the file can run code.

    Raises
    ------
    RunError
        When it is missing or damaged.
    """
    file = _whole(folder / STATE)
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn pickle raises whatever its bytes lead to
        raise _unloadable(file, type(error).__name__) from error  # torch's words advise to trust the file
    return state


def sha256(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _whole(file: Path) -> Path:
    """The file, if it is as its checkpoint was published; one without sums is taken as it is."""
    try:
        sums = json.loads((file.parent / SUMS).read_text(encoding="utf-8"))
        found = sha256(file)
    except FileNotFoundError:
        return file
    except (OSError, ValueError) as error:
        raise _unloadable(file, f"its checksum does not read ({error})") from error
    if not isinstance(sums, dict) or sums.get(file.name) != found:
        raise _unloadable(file, "it does not match its checksum")
    return file


def _unloadable(file: Path, why: str) -> RunError:
    return RunError(f"{file} cannot be loaded: {why}.", todo="Restore it from a copy, or train again.")
