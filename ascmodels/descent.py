"""One step of gradient descent: forward, loss and backward, in parts and in half precision where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ascmodels.augment import Features
from ascmodels.objectives import Loss
from ascmodels.team import ALONE, Team
from ascschemas.problems import RecipeError

Precision = Literal["float64", "float32", "bf16", "fp16"]
"""What convolutions and products are computed in. In the halves, weights, norms, losses and gradients of weights stay
float32; float64 is all float64, to compare two ways of training without the rounding of float32."""
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Descent:
    """What turns batches into better weights; ``parts`` of a batch are computed one after the other."""

    network: nn.Module
    """What is trained."""
    forward: Callable[..., Tensor]
    """The network, compiled or shared among processes."""
    loss: Loss
    """Mean loss of a batch: logits, labels -> scalar."""
    optimiser: torch.optim.Optimizer
    """What changes the weights."""
    autocast: Callable[[], AbstractContextManager[Any]]
    """Within it, the network computes in the precision asked for."""
    scaler: torch.amp.GradScaler
    """Keeps small gradients of fp16 from becoming zero; passes everything on otherwise."""
    parts: int = 1
    team: Team = field(default=ALONE)

    def step(self, x: Features, y: Tensor) -> tuple[float, Tensor]:
        """One step on a batch that all processes have.

        Parameters
        ----------
        x : tuple of Tensor, each of shape ``(B, ...)``
            Network input.
        y : Tensor, shape ``(B, K)``
            Labels.

        Returns
        -------
        loss : float
            Sum over the clips of this process, of B in all.
        logits : Tensor, shape ``(b, K)``
            Of those clips.
        """
        self.optimiser.zero_grad(set_to_none=True)
        whole, logits, done = 0.0, [], list(self._parts(tuple(map(self.team.share, x)), self.team.share(y)))
        for number, (some, labels) in enumerate(done, start=1):
            with self._alone_unless(number == len(done)):
                out, loss = self._forward(some, labels)
                scaled = self.scaler.scale(loss * (self.team.size / len(y)))
                scaled.backward()  # type: ignore[no-untyped-call]
            whole += float(loss.detach())
            logits.append(out.detach())
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return whole, torch.cat(logits)

    def evaluate(self, x: Features) -> Tensor:
        """Logits, ``(B, K)``, float32."""
        with self.autocast():
            logits: Tensor = self.network(*x)
        return logits.float()

    def _forward(self, x: Features, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the sum of the losses of some clips."""
        with self.autocast():
            logits = self.forward(*x)
        logits = logits if logits.dtype.itemsize >= torch.float32.itemsize else logits.float()
        if not len(y):  # fewer clips than processes: this one only takes part in the sums
            return logits, logits.sum() * 0
        return logits, self.loss(logits, y) * len(y)

    def _parts(self, x: Features, y: Tensor) -> Iterator[tuple[Features, Tensor]]:
        parts = min(self.parts, len(y)) or 1
        cut = zip(*(torch.tensor_split(rows, parts) for rows in x), strict=True)
        return zip(cut, torch.tensor_split(y, parts), strict=True)

    def _alone_unless(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients of all processes are averaged once a step."""
        if last or self.team.size == 1:
            return nullcontext()
        quiet: AbstractContextManager[Any] = self.forward.no_sync()  # type: ignore[attr-defined]
        return quiet


def autocast_for(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """What switches a precision on.

    Raises
    ------
    RecipeError
        When the device has no arithmetic for it.
    """
    if precision not in HALVES:
        return nullcontext
    if precision == "fp16" and device.type == "cpu":
        raise RecipeError(
            "fp16 is not trained in on a CPU: its range is too small for gradients without a GPU's scaled sums.",
            todo="Set trainer.precision=bf16, or train on a GPU.",
        )
    return lambda: torch.autocast(device.type, dtype=HALVES[precision])


def slow_here(precision: Precision, device: torch.device) -> str:
    """What to say of a precision that a device is slower in than in float32; empty where there is nothing."""
    if precision != "bf16" or device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX2":
        return ""
    return (
        "This processor has no instructions for bf16 (AVX-512 or AMX): training takes many times as long as in float32."
        "\nStop it and add --set trainer.precision=float32, unless that is what you want."
    )


def grad_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling for fp16; for everything else, one that does nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
