"""How much memory this process may still take: the machine's, its container's, its own limit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

CGROUP = Path("/sys/fs/cgroup")
BOUNDLESS = 1 << 62


def memory() -> int:
    """Bytes of memory that this process may still take."""
    return max(0, min(psutil.virtual_memory().available, *_limits()))


def gpu_memory(device: torch.device) -> int:
    """Bytes that are free on a CUDA device."""
    return int(torch.cuda.mem_get_info(device)[0])


def _limits() -> Iterator[int]:
    """What ``ulimit`` and control groups, the second version's, leave; batch systems and containers set them."""
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        yield soft - _of_this_process(used) if soft != resource.RLIM_INFINITY else BOUNDLESS
    for folder in _groups():
        try:
            most = (folder / "memory.max").read_text().strip()
            used_there = int((folder / "memory.current").read_text())
        except (OSError, ValueError):
            continue
        if most.isdigit():
            yield int(most) - used_there + _line(folder / "memory.stat", "inactive_file")  # a cache is given back


def _of_this_process(name: str) -> int:
    return _line(Path("/proc/self/status"), f"{name}:") << 10


def _line(file: Path, name: str) -> int:
    """The number after a name in a file of the kernel's; 0 where there is none."""
    try:
        lines = (line.split() for line in file.read_text().splitlines())
        return next((int(words[1]) for words in lines if words and words[0] == name), 0)
    except OSError:
        return 0


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
