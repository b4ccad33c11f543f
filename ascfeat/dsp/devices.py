"""Devices by name; torch, which takes seconds to import, is asked only where a GPU may be."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

from ascschemas.problems import RecipeError


def resolve_device(name: str) -> str:
    """``auto`` is the first CUDA device, or the CPU; anything else is checked and passed on.

    Raises
    ------
    RecipeError
        When the device does not exist here.
    """
    if name == "cpu" or (name == "auto" and not has_driver()):
        return "cpu"
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    count = torch.cuda.device_count()
    index = name.removeprefix("cuda").removeprefix(":") or "0"
    if name.startswith("cuda") and index.isdigit() and int(index) < count:
        return f"cuda:{index}"
    raise RecipeError(
        f"There is no device {name!r} here: torch sees the CPU and {count} CUDA devices.",
        todo="Use --device auto, cpu or cuda:0 … as many as there are.",
    )


@cache
def has_driver() -> bool:
    """Whether this machine has a driver for a GPU that torch calls CUDA: NVIDIA's, or AMD's. Without, there is none."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def device_name(device: str) -> str:
    """``cpu``, or what the driver calls the GPU."""
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name(device)


def cuda_version(device: str) -> dict[str, str]:
    """Version of the CUDA that torch computes with, where the device is one of its own."""
    if device == "cpu":
        return {}
    import torch

    return {"cuda": str(torch.version.cuda)}
