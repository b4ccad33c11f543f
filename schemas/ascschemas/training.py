"""A training recipe: every choice between a feature store and a model, who says so, and what was published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from ascschemas.base import Frozen, Parameters, fingerprint
from ascschemas.dataset import tags_of
from ascschemas.optimisation import AdaBound, Adadelta, Adam, Constant, Cosine, Monitor, Plateau, Sgd, Steps
from ascschemas.units import Count, Name, NotNegative, Positive, Size


class Focal(Frozen):
    """Focal loss over a heated-up softmax ``p = softmax(z / temperature)``."""

    kind: Literal["focal"] = "focal"
    """The focal loss."""
    form: Literal["per_class", "target_probability"] = "per_class"
    """``per_class``: ``-sum_j (1 - p_j)^gamma y_j ln p_j``; ``target_probability`` takes ``p_t = sum_j y_j p_j``."""
    gamma: NotNegative = 2.0
    """Focusing exponent; 0 is cross-entropy."""
    alpha: tuple[NotNegative, ...] | dict[str, NotNegative] | None = None
    """One weight per class, by its name, or a list in alphabetical class order; absent weighs all classes alike."""
    eps: NotNegative = 0.0
    """Added to p inside the power and the logarithm."""
    temperature: Positive = 1.0
    """T of the heated-up softmax, inside the loss."""

    @model_validator(mode="after")
    def _some_class_counts(self) -> Self:
        weights = self.alpha.values() if isinstance(self.alpha, dict) else self.alpha
        if weights is not None and not any(weights):
            raise ValueError("every class has weight 0 in alpha, so that nothing would be learnt")
        return self


class CrossEntropy(Frozen):
    """Cross-entropy over a heated-up softmax ``p = softmax(z / temperature)``."""

    kind: Literal["cross_entropy"] = "cross_entropy"
    """Cross-entropy."""
    temperature: Positive = 1.0
    """T of the heated-up softmax, inside the loss."""


class BinaryCrossEntropy(Frozen):
    """Cross-entropy of each tag by itself, ``p = sigmoid(z)``: clips have any number of tags.

    Labels list their tags separated by commas, and the classes are the distinct tags. Clips are scored by
    label-weighted label-ranking average precision (lwlrap), wherever others are scored by accuracy.
    """

    kind: Literal["binary_cross_entropy"] = "binary_cross_entropy"
    """Binary cross-entropy."""
    second_head: str | None = None
    """The device of clips whose labels are of another kind, such as ``noisy``: in training a second head of the network
    learns them, and the loss is the sum over both heads. None are held off for validation."""


Probability = Annotated[float, Field(gt=0, le=1)]


class Crop(Frozen):
    """A stretch of the last axis (frames, samples), from anywhere; scoring sees whole clips."""

    length: Size
    """Its length, in frames or samples."""


class Gain(Frozen):
    """Clips made louder or softer."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Features are multiplied by a number that is drawn evenly from ``1 - share`` to ``1 + share``."""
    probability: Probability = 1.0
    """Of a clip to be changed at all."""


class Mixup(Frozen):
    """Convex mixtures of two clips and of their labels, after normalisation."""

    alpha: Positive = 0.2
    """Both parameters of the Beta distribution that lambda is drawn from."""
    share: Literal["sample", "batch"] = "sample"
    """One lambda per ``sample``, or one for the whole ``batch``."""
    from_epoch: Size = 1
    """The first epoch that is mixed."""
    probability: Probability = 1.0
    """Of each sample, or batch, to be mixed at all."""


class Mask(Frozen):
    """Stretches of the features set to 0, the mean after normalisation (SpecAugment)."""

    count: Size = 1
    """Stretches of each clip."""
    width: Size
    """Largest width of a stretch, in bands or frames; each is drawn from ``least`` to it."""
    least: Count = 0
    """Smallest width of a stretch."""
    probability: Probability = 1.0
    """Of a clip to have any stretch hidden."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.width:
            raise ValueError(f"least {self.least} is above width {self.width}")
        return self


class Augmentation(Frozen):
    """What happens to training batches only, in this order."""

    crop: Crop | None = None
    """A random stretch of each clip, or all of it."""
    gain: Gain | None = None
    """Random factors, or none."""
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
    monitor: Monitor = "accuracy"
    """What is watched on that side, by selection, early stopping, and a schedule that names nothing else."""

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
Objective = Annotated[Focal | CrossEntropy | BinaryCrossEntropy, Field(discriminator="kind")]
Optimiser = Annotated[Adadelta | Sgd | Adam | AdaBound, Field(discriminator="kind")]
Schedule = Annotated[Plateau | Steps | Cosine | Constant, Field(discriminator="kind")]


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
    train_devices: tuple[str, ...] = ()
    """Devices whose clips of the training side are trained on, and held off it; none takes all."""
    sampler: Sampler = "each"
    """Clips of an epoch: ``each`` once, or as many of every ``class``, ``device`` or ``class_device``."""
    window_mib: Size | None = 1024
    """Clips are shuffled within windows of whole shards of so much memory, in MiB of float32; absent, all together."""
    epochs: Size | None
    """Passes over the training clips; none where ``iterations`` says when training ends."""
    iterations: Size | None = None
    """Batches after which training ends, in the middle of an epoch where it must; with ``epochs``, what comes first."""
    selection: Selection = Selection()
    """Which epoch's weights are the result."""
    early_stopping: Size | None = None
    """Epochs without improvement after which training ends; none trains all epochs."""
    seed: Count = 0
    """What every random draw is derived from."""
    vote: Literal["majority", "mean"] = "majority"
    """How the patches of a clip decide: each votes for its likeliest class, ties going to the larger sum of
    probabilities; or by the ``mean`` of their probabilities, as tags always are. Clips seen whole have no vote."""
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
    def tags(self) -> bool:
        """Whether clips have any number of tags, and not one class each."""
        return isinstance(self.objective, BinaryCrossEntropy)

    @property
    def metric(self) -> Literal["accuracy", "lwlrap"]:
        """What clips are scored by."""
        return "lwlrap" if self.tags else "accuracy"

    def classes_of(self, label: str) -> tuple[str, ...]:
        """What a clip's label names: one class, or the tags that it lists; nothing where it is empty."""
        return tags_of(label) if self.tags else (label,)[: bool(label)]

    @property
    def extent(self) -> str:
        """How long training goes on, in words."""
        said = {"epoch": self.epochs, "iteration": self.iterations}
        return " or ".join(f"{n} {what}{'s' * (n > 1)}" for what, n in said.items() if n)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that changes the result: never names, sources, claims or headlines."""
        return fingerprint(self.hyper_parameters)

    @model_validator(mode="after")
    def _meant(self) -> Self:
        if self.epochs is None and self.iterations is None:
            raise ValueError("nothing says when training ends: give epochs, iterations or both")
        if len({*self.features}) < len(self.features):
            raise ValueError(f"features names a store twice: {', '.join(self.features)}")
        if self.tags and "class" in self.sampler:
            raise ValueError(f"sampler {self.sampler} balances classes, and clips with tags are in no one class")
        unwatched = self.selection.side == "last" and not self.selection.watches
        if unwatched and (self.schedule.kind == "plateau" or self.early_stopping):
            raise ValueError(
                "a plateau schedule and early stopping need clips to watch: set selection.fraction above 0"
            )
        if self.selection.side == "validation" and not self.selection.watches:
            raise ValueError("selection.side is validation and selection.fraction is 0: nothing would be held off")
        return self


WHOLE = ("objective.alpha",)
"""Mappings that are one value."""


def leaves(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested mapping with its dotted path; lists, and weights by class, are values.

    Examples
    --------
    >>> dict(leaves({"a": {"b": 1}, "c": [2, 3]}))
    {'a.b': 1, 'c': [2, 3]}
    """
    for key, item in value.items():
        path = f"{prefix}{key}"
        if isinstance(item, dict) and path not in WHOLE:
            yield from leaves(item, f"{path}.")
        else:
            yield path, item
