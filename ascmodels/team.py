"""Processes that train one network together, started by ``torchrun``, on one machine or several."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

from ascschemas.problems import RunError

PATIENCE = timedelta(minutes=30)
"""How long one process waits for another: as long as the slowest reads its features."""


@dataclass(frozen=True)
class Team:
    """This process among those that train together; alone where nobody else does."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes, and says how it goes."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """The rows of a batch that this process works on; none where there are fewer rows than processes."""
        return rows[self.rank :: self.size] if self.size > 1 else rows

    def total(self, *values: float) -> tuple[float, ...]:
        """The sum over all processes of each value."""
        if self.size == 1:
            return values
        sums = torch.tensor(values, dtype=torch.float64, device=_device())
        dist.all_reduce(sums)
        return tuple(sums.tolist())

    def said(self, word: Any) -> Any:
        """What the leader says; plain values only."""
        if self.size == 1:
            return word
        words = [word]
        dist.broadcast_object_list(words, src=0, device=_device())
        return words[0]

    def together(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes, and batch norms over the whole batch of all.

        The parameters, their names and their state are those of ``network``.
        """
        if self.size == 1:
            return network
        whole = _normed(network)
        on = [torch.cuda.current_device()] if _device().type == "cuda" else None
        with warnings.catch_warnings():  # torch 2.13 has another word for the same, which older ones do not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(whole, device_ids=on, broadcast_buffers=False)


ALONE = Team()


def processes() -> int:
    """How many processes ``torchrun`` has started together, by the environment that it sets; one without."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def open_team(device: torch.device) -> Iterator[Team]:
    """The team that ``torchrun`` has put this process into, by the environment that it sets; alone without.

    Raises
    ------
    RunError
        When the others cannot be reached.
    """
    size = processes()
    if size == 1:
        yield ALONE
        return
    try:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise RunError(
            f"The {size} processes that shall train together do not find each other at {where}: {error}",
            todo="Start them with `torchrun --nproc-per-node N --no-python ascmodels fit …`, on every machine alike.",
        ) from error
    try:
        yield Team(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process among those of its machine, where ``torchrun`` says which one it is."""
    if device.type != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


class WholeBatchNorm(_BatchNorm):
    """Batch norm over the batches of all processes; torch's own does that on GPUs only.

    Mean and variance are those of the whole batch, in two passes: ``mean = sum x / n``,
    ``var = sum (x - mean)^2 / n``; a process may have no rows.
    """

    @override
    def _check_input_dim(self, input: Tensor) -> None:
        """Any."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input if input.dtype.itemsize >= torch.float32.itemsize else input.float()
        axes = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = _sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = _sum(x.sum(axes)) / count
        centred = x - mean.view(shape)
        variance = _sum(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            normed = normed * self.weight.view(shape) + self.bias.view(shape)
        return normed.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)


class _Sum(torch.autograd.Function):
    """The sum over all processes; each of their losses depends on every summand, so gradients are summed, too."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def _normed(network: nn.Module) -> nn.Module:
    """The network, its batch norms over all processes; parameters and buffers keep their names."""
    if _device().type == "cuda":
        made: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return made
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = WholeBatchNorm
    return network


def _device() -> torch.device:
    """Where what the processes tell each other must lie."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
