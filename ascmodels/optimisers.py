"""Optimisers, where their weight decay applies, and how the learning rate goes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from ascschemas.training import Adadelta, Adam, Constant, Plateau, Selection, Sgd, WeightDecay

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Schedule(Protocol):
    """How the learning rate goes."""

    def after_epoch(self, watched: float | None) -> None:
        """Take notice of the monitored value at the end of an epoch; None where nothing is watched."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""


class StandsStill:
    """A constant learning rate."""

    def after_epoch(self, watched: float | None) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to remember."""


class OnPlateau:
    """Multiply the rate by ``factor`` at the first epoch after ``patience`` epochs without improvement.

    Patience 16 lowers it at the end of the 17th: "more than 16 epochs" (nguyen2020, ambiguity N-4).
    """

    def __init__(self, spec: Plateau, optimiser: torch.optim.Optimizer, *, higher_is_better: bool) -> None:
        self._inner = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser,
            mode="max" if higher_is_better else "min",
            factor=spec.factor,
            patience=spec.patience,
            threshold=spec.min_delta,
            threshold_mode="abs",
            eps=0.0,  # torch would stop lowering at 1e-8
        )

    def after_epoch(self, watched: float | None) -> None:
        """Compare the monitored value with the best so far."""
        if watched is not None:
            self._inner.step(watched)

    def state_dict(self) -> dict[str, Any]:
        """Best value and epochs since."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._inner.load_state_dict(state)


def optimiser(spec: Adadelta | Sgd | Adam, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a training recipe asks for, its weight decay on the parameters in scope only."""
    groups = parameter_groups(network, spec.weight_decay)
    if isinstance(spec, Adadelta):
        return torch.optim.Adadelta(groups, lr=spec.lr, rho=spec.rho, eps=spec.eps)
    if isinstance(spec, Sgd):
        return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov)
    return torch.optim.Adam(groups, lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps)


def parameter_groups(network: nn.Module, decay: WeightDecay) -> list[dict[str, Any]]:
    """Split a network's parameters into those that are decayed and those that are not.

    Keras' ``kernel_regularizer=l2(w)`` on convolutions is a coupled decay of ``2 w`` on their kernels: no bias, no
    norm, no dense weight.
    """
    kernels = [m.weight for m in network.modules() if isinstance(m, CONVOLUTIONS)]
    chosen = list(network.parameters()) if decay.scope == "all" else kernels
    inside = {id(p) for p in chosen}
    rest = [p for p in network.parameters() if id(p) not in inside]
    groups = ({"params": chosen, "weight_decay": decay.coupled}, {"params": rest, "weight_decay": 0.0})
    return [g for g in groups if g["params"]]


def schedule(spec: Plateau | Constant, optimiser: torch.optim.Optimizer, selection: Selection) -> Schedule:
    """The schedule that a training recipe asks for; it watches what the selection monitors."""
    if isinstance(spec, Constant):
        return StandsStill()
    return OnPlateau(spec, optimiser, higher_is_better=selection.monitor == "accuracy")
