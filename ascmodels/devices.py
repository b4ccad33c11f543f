"""Where to compute, what computes there, and arithmetic that repeats."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import torch

from ascmodels.data import Place
from ascschemas.problems import Difference, RunError
from ascschemas.run import Session

SOFTWARE = ("ascfeat", "torch", "numpy")
OPTIONAL = ("scikit-learn", "lightning")


def choose(name: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda`` or ``cuda:i``; ``auto`` is the first GPU, or the CPU without one.

    Raises
    ------
    RunError
        When there is no such device; those that there are are named.
    """
    present = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    wanted = {"auto": present[1] if len(present) > 1 else "cpu", "cuda": "cuda:0"}.get(name, name)
    if wanted not in present:
        raise RunError(
            f"There is no device {name!r} here.",
            differences=[Difference(field="device", expected=", ".join(present), found=name)],
            todo="Give --device auto, or one of those expected.",
        )
    return torch.device(wanted)


def warm_up() -> None:
    """Let torch start its threads and load what it loads late: an optimiser brings half of its compiler along.

    Under a limit of memory this fails, if it must, before there is anything to lose.
    """
    kernel = torch.zeros(4, 1, 3, 3, requires_grad=True)  # nothing is drawn from a generator
    step = torch.optim.Adam([kernel])
    torch.conv2d(torch.zeros(16, 1, 64, 64), kernel).sum().backward()  # type: ignore[no-untyped-call]
    step.step()


def session(device: torch.device, place: Place, processes: int = 1) -> Session:
    """What this process computes with."""
    return Session(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        processes=processes,
        placement=place,
        platform=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        software=software(),
    )


def software() -> dict[str, str]:
    """Versions of the packages that can change a value."""
    return {name: version(name) for name in SOFTWARE} | {name: v for name in OPTIONAL if (v := _installed(name))}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@contextmanager
def repeatable() -> Iterator[None]:
    """Within it, cuDNN takes deterministic algorithms in full float32 (no TF32)."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
