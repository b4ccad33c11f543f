"""A training recipe: every choice between a feature store and a model, who says so, and what was published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from ascschemas.base import Frozen, Parameters, fingerprint
from ascschemas.units import Count, Fraction, Name, Size

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Focal(Frozen):
    """Focal loss over a heated-up softmax ``p = softmax(z / temperature)``."""

    kind: Literal["focal"] = "focal"
    """The focal loss."""
    form: Literal["per_class", "target_probability"] = "per_class"
    """``per_class``: ``-sum_j (1 - p_j)^gamma y_j ln p_j``; ``target_probability`` takes ``p_t = sum_j y_j p_j``."""
    gamma: NotNegative = 2.0
    """Focusing exponent; 0 is cross-entropy."""
    alpha: tuple[NotNegative, ...] | None = None
    """One weight per class, in alphabetical class order; absent weighs all classes alike."""
    temperature: Positive = 1.0
    """T of the heated-up softmax, inside the loss."""


class CrossEntropy(Frozen):
    """Cross-entropy over a heated-up softmax ``p = softmax(z / temperature)``."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    """Cross-entropy."""
    temperature: Positive = 1.0
    """T of the heated-up softmax, inside the loss."""


class WeightDecay(Frozen):
    """A penalty on the size of the weights."""

    value: NotNegative = 0.0
    """w of the penalty."""
    form: Literal["keras_l2", "coupled"] = "coupled"
    """``keras_l2`` adds ``w * sum(theta^2)`` to the loss, gradient ``2 w theta``; ``coupled`` adds ``w theta``."""
    scope: Literal["conv_kernels", "all"] = "all"
    """``conv_kernels``: convolution weights only, no bias, norm or dense weight; ``all``: every parameter."""

    @property
    def coupled(self) -> float:
        """The factor on theta that is added to the gradient, torch's ``weight_decay``."""
        return 2 * self.value if self.form == "keras_l2" else self.value


class Adadelta(Frozen):
    """Adadelta."""

    kind: Literal["adadelta"] = "adadelta"
    """Adadelta."""
    lr: Positive = 1.0
    """Learning rate."""
    rho: Fraction = 0.95
    """Decay of both running averages."""
    eps: Positive = 1e-7
    """Added under both roots."""
    weight_decay: WeightDecay = WeightDecay()
    """Penalty on the weights."""


class Sgd(Frozen):
    """Stochastic gradient descent."""

    kind: Literal["sgd"] = "sgd"
    """Stochastic gradient descent."""
    lr: Positive = 0.01
    """Learning rate."""
    momentum: Fraction = 0.0
    """Momentum."""
    nesterov: bool = False
    """Nesterov's form of the momentum."""
    weight_decay: WeightDecay = WeightDecay()
    """Penalty on the weights."""


class Adam(Frozen):
    """Adam."""

    kind: Literal["adam"] = "adam"
    """Adam."""
    lr: Positive = 1e-3
    """Learning rate."""
    beta1: Fraction = 0.9
    """Decay of the mean of gradients."""
    beta2: Fraction = 0.999
    """Decay of the mean of squared gradients."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: WeightDecay = WeightDecay()
    """Penalty on the weights."""


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


class Constant(Frozen):
    """One learning rate throughout."""

    kind: Literal["constant"] = "constant"
    """One learning rate throughout."""


class Mixup(Frozen):
    """Convex mixtures of two clips and of their labels, after normalisation."""

    alpha: Positive = 0.2
    """Both parameters of the Beta distribution that lambda is drawn from."""
    share: Literal["sample", "batch"] = "sample"
    """One lambda per ``sample``, or one for the whole ``batch``."""


class Mask(Frozen):
    """Stretches of the features set to 0, the mean after normalisation (SpecAugment)."""

    count: Size = 1
    """Stretches of each clip."""
    width: Size
    """Largest width of a stretch, in bands or frames; each is drawn from 0 to it."""


class Augmentation(Frozen):
    """What happens to training batches only, in this order."""

    frequency_mask: Mask | None = None
    """Bands that are hidden, or none."""
    time_mask: Mask | None = None
    """Frames that are hidden, or none."""
    mixup: Mixup | None = None
    """Mixup, or none."""


class Selection(Frozen):
    """Which epoch's weights are the result."""

    side: Literal["validation", "test", "last"] = "validation"
    """Clips whose score chooses the epoch: ``validation`` (split off the training side) or ``test``; ``last``: none."""
    fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Share of each class's training clips held off, whole locations at a time; not used with ``test``."""
    monitor: Literal["accuracy", "loss"] = "accuracy"
    """What is watched on that side, by selection, schedule and early stopping."""

    @property
    def holds_off(self) -> bool:
        """Whether clips of the training side are kept for validation."""
        return self.side != "test" and self.fraction > 0

    @property
    def watches(self) -> bool:
        """Whether any clips are scored after each epoch."""
        return self.side == "test" or self.fraction > 0


class ClaimedData(Frozen):
    """The data that a published number was measured on; it holds for no other."""

    title: str
    """Official name of the dataset."""
    kind: str
    """Its loader in ``ascfeat.datasets``."""
    split: Name
    """Name of the split."""
    train: Size
    """Clips of the training side."""
    test: Size
    """Clips of the test side."""


class Claim(Frozen):
    """A published number."""

    scope: Literal["overall", "class_mean", "class", "device", "city", "device_mean"]
    """What the accuracy is taken over."""
    group: str = ""
    """Which class, device or city; for ``device_mean`` the devices, separated by commas."""
    value: Annotated[float, Field(ge=0, le=100)]
    """Accuracy in per cent, as printed."""
    plus_minus: NotNegative | None = None
    """Printed uncertainty in points."""
    data: ClaimedData
    """What it was measured on."""
    source: str
    """Where it is printed."""


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _said(names: tuple[str, ...]) -> str | tuple[str, ...]:
    return names[0] if len(names) == 1 else names


Features = Annotated[
    tuple[Name, ...],
    Field(min_length=1),
    BeforeValidator(_listed, json_schema_input_type=Name | tuple[Name, ...]),
    PlainSerializer(_said, return_type=Name | tuple[Name, ...]),
]
"""One name or several."""
Sampler = Literal["each", "class", "device", "class_device"]
Objective = Annotated[Focal | CrossEntropy, Field(discriminator="kind")]
Optimiser = Annotated[Adadelta | Sgd | Adam, Field(discriminator="kind")]
Schedule = Annotated[Plateau | Constant, Field(discriminator="kind")]


class TrainingRecipe(Frozen):
    """One printed row of a paper, or anybody's own: everything that decides a trained model but the data."""

    name: Name
    """Name of the recipe."""
    title: str = ""
    """The paper, in words."""
    features: Features
    """Feature recipe of the store that is trained from, or of several, whose clips are joined."""
    normalise: Literal["band"] | None = "band"
    """``band``: mean 0 and deviation 1 in each frequency band over the training clips and frames."""
    family: Parameters
    """Model family and its parameters."""
    trainer: Parameters = Parameters(kind="supervised")
    """Trainer and its parameters."""
    objective: Objective
    """What is minimised."""
    optimiser: Optimiser
    """How it is minimised."""
    schedule: Schedule = Constant()
    """How the learning rate goes."""
    augmentation: Augmentation = Augmentation()
    """What happens to training batches only."""
    batch_size: Size = 64
    """Clips in one step."""
    sampler: Sampler = "each"
    """Clips of an epoch: ``each`` once, or as many of every ``class``, ``device`` or ``class_device``."""
    window_mib: Size | None = 1024
    """Clips are shuffled within windows of whole shards of so much memory, in MiB of float32; absent, all together."""
    epochs: Size
    """Passes over the training clips."""
    selection: Selection = Selection()
    """Which epoch's weights are the result."""
    early_stopping: Size | None = None
    """Epochs without improvement after which training ends; none trains all epochs."""
    seed: Count = 0
    """What every random draw is derived from."""
    vote: Literal["majority", "mean"] = "majority"
    """How the patches of a clip decide: each votes for its likeliest class, ties going to the larger sum of
    probabilities; or by the ``mean`` of their probabilities. Clips that are seen whole have no vote."""
    headline_devices: tuple[str, ...] = ()
    """Devices whose accuracies are averaged for the headline number; none takes the overall accuracy."""
    sources: dict[str, str] = Field(default={})
    """For each hyper-parameter's dotted path, who says so."""
    claims: tuple[Claim, ...] = ()
    """The published numbers of this row."""

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """Every value that changes the result, by dotted path."""
        said = {"name", "title", "headline_devices", "sources", "claims"}
        return dict(leaves(self.model_dump(mode="json", exclude=said)))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that changes the result: never names, sources, claims or headlines."""
        return fingerprint(self.hyper_parameters)

    @model_validator(mode="after")
    def _meant(self) -> Self:
        unwatched = self.selection.side == "last" and not self.selection.watches
        if unwatched and (self.schedule.kind == "plateau" or self.early_stopping):
            raise ValueError(
                "a plateau schedule and early stopping need clips to watch: set selection.fraction above 0"
            )
        if self.selection.side == "validation" and not self.selection.watches:
            raise ValueError("selection.side is validation and selection.fraction is 0: nothing would be held off")
        return self


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested mapping with its dotted path; lists are values.

    Examples
    --------
    >>> dict(leaves({"a": {"b": 1}, "c": [2, 3]}))
    {'a.b': 1, 'c': [2, 3]}
    """
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, dict):
            yield from leaves(item, f"{path}.")
        else:
            yield path, item
