"""How much memory this process may still take: the machine's, its container's, its own limit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")


def memory() -> int:
    """Bytes of memory that this process may still take."""
    return max(0, min(psutil.virtual_memory().available, *_limits()))


def gpu_memory(device: torch.device) -> int:
    """Bytes that are free on a CUDA device."""
    return int(torch.cuda.mem_get_info(device)[0])


def _limits() -> Iterator[int]:
    """What ``ulimit -v`` and control groups, the second version's, leave; batch systems and containers set them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    yield soft - psutil.Process().memory_info().vms if soft != resource.RLIM_INFINITY else 1 << 62
    for folder in _groups():
        try:
            most = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            yield int(most) - used + _reclaimable(folder)


def _groups() -> Iterator[Path]:
    """Control groups of this process, the innermost first."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, _, path = line.split(":", 2)
        if number == "0":
            inner = CGROUP / path.lstrip("/")
            yield from (p for p in (inner, *inner.parents) if p.is_relative_to(CGROUP))


def _reclaimable(folder: Path) -> int:
    """Bytes of the page cache that count as used and are given back when somebody needs them."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
