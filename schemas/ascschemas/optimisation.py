"""How weights are moved: optimisers, penalties on weights, and schedules of the learning rate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ascschemas.base import Frozen
from ascschemas.units import Count, Fraction, NotNegative, Positive, Size

LearningRate = Annotated[float, Field(gt=0, le=1000)]
"""No rate above this trains anything, and far above it float32 overflows."""
Monitor = Literal["accuracy", "loss"]
"""What is watched after each epoch: accuracy (of a tagger, its lwlrap), or the loss."""


class WeightDecay(Frozen):
    """A penalty on the size of the weights."""

    value: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """w of the penalty."""
    form: Literal["keras_l2", "coupled", "decoupled"] = "coupled"
    """``keras_l2`` adds ``w * sum(theta^2)`` to the loss, gradient ``2 w theta``; ``coupled`` adds ``w theta`` to the
    gradient; ``decoupled`` takes ``lr * w * theta`` off the weights beside the step (AdamW)."""
    scope: Literal["conv_kernels", "all"] = "all"
    """``conv_kernels``: convolution weights only, no bias, norm or dense weight; ``all``: every parameter."""

    @property
    def factor(self) -> float:
        """The factor on theta, torch's ``weight_decay``."""
        return 2 * self.value if self.form == "keras_l2" else self.value

    @property
    def decoupled(self) -> bool:
        """Whether it goes beside the optimiser's step and not through it."""
        return self.form == "decoupled"


def _through_the_step(decay: WeightDecay) -> WeightDecay:
    if decay.decoupled:
        raise ValueError("only adam and adabound have a decoupled decay: choose coupled or keras_l2")
    return decay


CoupledDecay = Annotated[WeightDecay, AfterValidator(_through_the_step)]


class Adadelta(Frozen):
    """Adadelta."""

    kind: Literal["adadelta"] = "adadelta"
    """Adadelta."""
    lr: LearningRate = 1.0
    """Learning rate."""
    rho: Fraction = 0.95
    """Decay of both running averages."""
    eps: Positive = 1e-7
    """Added under both roots."""
    weight_decay: CoupledDecay = WeightDecay()
    """Penalty on the weights."""


class Sgd(Frozen):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    """Stochastic gradient descent."""
    lr: LearningRate = 0.01
    """Learning rate."""
    momentum: Fraction = 0.0
    """Momentum."""
    nesterov: bool = False
    """Nesterov's form of the momentum."""
    weight_decay: CoupledDecay = WeightDecay()
    """Penalty on the weights."""


class Moments(Frozen):
    """What Adam and its kin share: steps by the mean of gradients over the root of the mean of their squares."""

    kind: str
    """Which of them."""
    lr: LearningRate = 1e-3
    """Learning rate."""
    beta1: Fraction = 0.9
    """Decay of the mean of gradients."""
    beta2: Fraction = 0.999
    """Decay of the mean of squared gradients."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: WeightDecay = WeightDecay()
    """Penalty on the weights."""


class Adam(Moments):
    """Adam."""

    kind: Literal["adam"] = "adam"
    """Adam."""
    amsgrad: bool = False
    """Whether the denominator never falls (AMSGrad)."""


class AdaBound(Moments):
    """Adam whose step sizes are clipped between bounds that close in on one rate."""

    kind: Literal["adabound"] = "adabound"
    """AdaBound."""
    final_lr: LearningRate = 0.1
    """The rate that both bounds close in on; a schedule scales it as it scales ``lr``."""
    gamma: Positive = 1e-3
    """How fast the bounds close in, per step."""


class Plateau(Frozen):
    """Lower the learning rate when the monitored value stands still."""

    kind: Literal["plateau"] = "plateau"
    """Reduce on plateau."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What the learning rate is multiplied by."""
    patience: Count = 10
    """Epochs without improvement that are borne; the one after them lowers the rate."""
    min_delta: NotNegative = 0.0
    """By how much the value must pass the best one to count as an improvement."""
    monitor: Monitor | None = None
    """What is watched; without it, what the selection monitors."""
    min_lr: NotNegative = 0.0
    """The learning rate is not lowered below this."""
    stop_at_min_lr: bool = False
    """Whether training ends where the rate, at its lowest, would be lowered once more."""


class Steps(Frozen):
    """Lower the learning rate after every so many iterations."""

    kind: Literal["steps"] = "steps"
    """By iterations."""
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """What the learning rate is multiplied by."""
    every: Size
    """Iterations (batches) from one lowering to the next."""


class Cosine(Frozen):
    """Lower the learning rate along half a cosine, over and over again.

    ``lr_e = min_lr + (lr - min_lr) (1 + cos(pi (e mod period) / period)) / 2`` in epoch e, counted from 0.
    """

    kind: Literal["cosine"] = "cosine"
    """Cosine, restarted."""
    period: Size
    """Epochs from one start to the next."""
    min_lr: NotNegative = 0.0
    """What it comes down to."""


class Constant(Frozen):
    """One learning rate throughout."""

    kind: Literal["constant"] = "constant"
    """One learning rate throughout."""
