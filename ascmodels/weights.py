"""Weights and training state on disk: the door to safetensors."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
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
FINISHED = "finished.json"
MACHINE = "svm.safetensors"
"""A support vector machine beside the network whose codes it is fitted to."""


def save_weights(folder: Path, model: nn.Module, name: str = WEIGHTS) -> None:
    """Write a model's parameters and buffers, contiguous and on the CPU, into a file of that name.

    Raises
    ------
    OSError
        When the disk refuses, with its number: safetensors only says it.
    """
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, folder / name)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder / name)) from error


def load_weights(folder: Path, model: nn.Module) -> None:
    """Fill a model with saved weights.

    Raises
    ------
    RunError
        When the file is missing or damaged, or holds the weights of another architecture.
    """
    with _loading(folder / WEIGHTS):
        model.load_state_dict(load_file(folder / WEIGHTS))


def read_weights(folder: Path, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Saved weights of a file by their names, where their shapes are not known before.

    Raises
    ------
    RunError
        When the file is missing or damaged.
    """
    with _loading(folder / name):
        return load_file(folder / name)


def read_foreign(file: Path) -> Any:
    """What a file from elsewhere holds, safetensors or what ``torch.save`` writes; nothing in it can run code.

    Raises
    ------
    RunError
        When it cannot be read, is damaged, or holds more than tensors, numbers and words.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript, which is then refused
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn pickle raises whatever its bytes lead to
        said = error.strerror if isinstance(error, OSError) else None
        why = said or f"it is damaged, or not of tensors alone ({type(error).__name__})"
        raise RunError(
            f"{file} cannot be read as weights: {why}.",
            todo="Give a file of tensors by key, whole: safetensors, or what torch.save(network.state_dict()) writes.",
        ) from error


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
    said = file.parent / SUMS
    try:
        sums = json.loads(said.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return file
    except (OSError, ValueError) as error:
        raise _unloadable(said, str(error)) from error
    if not isinstance(sums, dict) or file.name not in sums:
        raise _unloadable(said, f"it says nothing of {file.name}")
    try:
        found = sha256(file)
    except OSError as error:
        raise _unloadable(file, error.strerror or str(error)) from error
    if sums[file.name] != found:
        raise _unloadable(file, "it does not match its checksum")
    return file


def _unloadable(file: Path, why: str) -> RunError:
    return RunError(f"{file} cannot be loaded: {why}.", todo=way_on(file.parent))


def way_on(checkpoint: Path) -> str:
    """What to do about a damaged checkpoint of a run: the newest whole one before it is named, where there is one."""
    folder, run = checkpoint.parent, checkpoint.parent.parent
    numbered = sorted(p.name for p in folder.glob("[0-9]*") if p.name.isdigit())
    whole = [name for name in numbered if name < checkpoint.name and _all_whole(folder / name)]
    if not whole or checkpoint.name != numbered[-1]:
        return "Restore it from a copy, or train again into a new folder."
    gone = f"{checkpoint} and {run / FINISHED}" if (run / FINISHED).exists() else str(checkpoint)
    return (
        f"Restore it from a copy; or remove {gone}, and --resume goes on after epoch {int(whole[-1])}, which is whole."
    )


def _all_whole(checkpoint: Path) -> bool:
    """Whether every file of a checkpoint is as it was published."""
    try:
        sums = json.loads((checkpoint / SUMS).read_text(encoding="utf-8"))
        return all(sha256(checkpoint / name) == found for name, found in sums.items())
    except (OSError, ValueError, AttributeError):
        return False
