"""Optimisers, where their weight decay applies, and how the learning rate goes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import nn

from ascmodels.selection import schedule_monitor
from ascschemas.optimisation import AdaBound, Adadelta, Adam, Cosine, Plateau, Sgd, Steps, WeightDecay
from ascschemas.training import TrainingRecipe

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Schedule(Protocol):
    """How the learning rate goes."""

    def after_step(self) -> None:
        """Take notice of a batch."""

    def after_epoch(self, watched: float | None) -> None:
        """Take notice of the monitored value at the end of an epoch; None where nothing is watched."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""


class StandsStill:
    """A constant learning rate."""

    def after_step(self) -> None:
        """Do nothing."""

    def after_epoch(self, watched: float | None) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to remember."""


class ByTorch(StandsStill):
    """One of torch's own schedules."""

    _inner: torch.optim.lr_scheduler.LRScheduler

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: an epoch or a batch, or the best value and the epochs since."""
        return self._inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._inner.load_state_dict(state)


class Counting(ByTorch):
    """A schedule that goes on after each batch or after each epoch, whatever is watched."""

    def __init__(self, inner: torch.optim.lr_scheduler.LRScheduler, *, each_step: bool) -> None:
        self._inner, self._each_step = inner, each_step

    def after_step(self) -> None:
        """Go on by a batch."""
        if self._each_step:
            self._inner.step()

    def after_epoch(self, watched: float | None) -> None:
        """Go on by an epoch."""
        if not self._each_step:
            self._inner.step()


class OnPlateau(ByTorch):
    """Multiply the rate by ``factor`` at the first epoch after ``patience`` epochs without improvement.

    Patience 16 lowers it at the end of the 17th: "more than 16 epochs" (nguyen2020, section 4).
    """

    _inner: torch.optim.lr_scheduler.ReduceLROnPlateau

    def __init__(self, spec: Plateau, optimiser: torch.optim.Optimizer, *, higher_is_better: bool) -> None:
        self._inner = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimiser,
            mode="max" if higher_is_better else "min",
            factor=spec.factor,
            patience=spec.patience,
            threshold=spec.min_delta,
            threshold_mode="abs",
            min_lr=spec.min_lr,
            eps=0.0,  # torch would stop lowering at 1e-8
        )

    def after_epoch(self, watched: float | None) -> None:
        """Compare the monitored value with the best so far."""
        if watched is not None:
            self._inner.step(watched)


def optimiser(spec: Adadelta | Sgd | Adam | AdaBound, network: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that a training recipe asks for, its weight decay on the parameters in scope only."""
    groups = parameter_groups(network, spec.weight_decay)
    if isinstance(spec, Adadelta):
        return torch.optim.Adadelta(groups, lr=spec.lr, rho=spec.rho, eps=spec.eps)
    if isinstance(spec, Sgd):
        return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov)
    betas = (spec.beta1, spec.beta2)
    if isinstance(spec, AdaBound):
        return _adabound(spec, groups, betas)
    kind = torch.optim.AdamW if spec.weight_decay.decoupled else torch.optim.Adam
    return kind(groups, lr=spec.lr, betas=betas, eps=spec.eps, amsgrad=spec.amsgrad)


def _adabound(spec: AdaBound, groups: list[dict[str, Any]], betas: tuple[float, float]) -> torch.optim.Optimizer:
    from pytorch_optimizer import AdaBound as Bounded  # a second to import

    found: torch.optim.Optimizer = Bounded(
        groups,
        lr=spec.lr,
        final_lr=spec.final_lr,
        betas=betas,
        gamma=spec.gamma,
        eps=spec.eps,
        weight_decouple=spec.weight_decay.decoupled,
    )
    return found


def parameter_groups(network: nn.Module, decay: WeightDecay) -> list[dict[str, Any]]:
    """Split a network's parameters into those that are decayed and those that are not.

    Keras' ``kernel_regularizer=l2(w)`` on convolutions is a coupled decay of ``2 w`` on their kernels: no bias, no
    norm, no dense weight.
    """
    kernels = [m.weight for m in network.modules() if isinstance(m, CONVOLUTIONS)]
    chosen = list(network.parameters()) if decay.scope == "all" else kernels
    inside = {id(p) for p in chosen}
    rest = [p for p in network.parameters() if id(p) not in inside]
    groups = ({"params": chosen, "weight_decay": decay.factor}, {"params": rest, "weight_decay": 0.0})
    return [g for g in groups if g["params"]]


def schedule(recipe: TrainingRecipe, optimiser: torch.optim.Optimizer) -> Schedule:
    """The schedule that a training recipe asks for."""
    spec, rates = recipe.schedule, torch.optim.lr_scheduler
    if isinstance(spec, Plateau):
        return OnPlateau(spec, optimiser, higher_is_better=schedule_monitor(recipe) == "accuracy")
    if isinstance(spec, Steps):
        return Counting(rates.StepLR(optimiser, spec.every, spec.factor), each_step=True)
    if isinstance(spec, Cosine):
        again = rates.CosineAnnealingWarmRestarts(optimiser, spec.period, eta_min=spec.min_lr)
        return Counting(again, each_step=False)
    return StandsStill()
