"""ResNet-34 over decibels of mel powers, the loudest of every map, and dense heads: a tagger (akiyama2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ascmodels.families.residual import ResNetFamily, ResNetTrunk, projection
from ascschemas.layout import Axis, Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.training import TrainingRecipe
from ascschemas.units import Size

LEAST_POWER = 1e-10
"""Power whose decibels silence has: librosa's ``amin``."""
LEAST_DEVIATION = 1e-7
"""Added to the deviation of an example, which is 0 of silence."""
AXES = ("channel", "frequency", "time")


class TaggerResNet34(ResNetFamily):
    """The tagger of akiyama2019: 22,935,312 trainable parameters for 80 tags, 24,592,224 with the second head.

    It is given mel powers as they are stored and makes decibels of them itself, ``max(10 log10(max(x, 1e-10)), peak -
    top_db)``, then brings each example to mean 0 and deviation 1: so what training does to its input, mixing clips,
    making them louder, hiding bands, it does to powers, as the paper has it. Recipes say ``normalise: null``.

    Of clips of any length it takes the largest value of each of the last maps. The trunk's modules are called as
    torchvision calls those of its ResNet-34.

    References
    ----------
    Akiyama, Sato, *Multitask learning and semi-supervised learning with noisy data for audio tagging*, DCASE 2019
    challenge, task 2; He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016, Table 1.
    """

    any_length: ClassVar[bool] = True
    head: ClassVar[tuple[str, ...]] = ("head.", "second.")

    hidden: Size = 1024
    """Units of both hidden layers of a head."""
    dropout: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.2, 0.1)
    """Share of units that are left out in training after the first and after the second hidden layer."""
    second_head: bool = False
    """Whether there is a second head, in training only, for clips with labels of another kind; the objective's
    ``second_head`` says which those are."""
    top_db: Annotated[float, Field(gt=0)] | None = 80.0
    """Decibels kept under the loudest value of an example; all where null."""

    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """A network with He-normal kernels, norms of scale 1 and torch's first dense weights."""
        _require_powers(self.only(inputs))
        return TaggerNetwork(self, n_classes)

    def smallest(self) -> tuple[Layout, ...]:
        """One channel of a map whose last one is 1 x 2."""
        axes = tuple(Axis(name=name, size=size) for name, size in zip(AXES, (1, 32, 40), strict=True))
        return (Layout(axes=axes, quantity="any"),)

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """The paper's network, and a narrow one."""
        return {"default": cls(), "small": cls(widths=(8, 12), depths=(1, 2), hidden=24, dropout=(0, 0))}

    def agree(self, recipe: TrainingRecipe) -> None:
        """Refuse training that normalises powers first, or that has labels for one head and two heads.

        Raises
        ------
        RecipeError
            With what is said on both sides.
        """
        rows = []
        if recipe.normalise is not None:
            rows.append(Difference(field="normalise", expected="null", found=recipe.normalise))
        wanted = bool(getattr(recipe.objective, "second_head", None))
        if self.second_head != wanted:
            said = "the device whose clips it learns" if self.second_head else "null"
            rows.append(Difference(field="objective.second_head", expected=said, found="one" if wanted else "none"))
        if rows:
            raise RecipeError(
                "The tagger cannot be trained so.",
                differences=rows,
                todo="It takes powers as they are stored; family.second_head and objective.second_head go together.",
            )


class TaggerNetwork(ResNetTrunk):
    """Decibels, stem, stages of residual blocks, global maximum, one head or two.

    Parameters
    ----------
    family : TaggerResNet34
        Its sizes.
    n_classes : int
        Number of tags K.
    """

    def __init__(self, family: TaggerResNet34, n_classes: int) -> None:
        super().__init__(family, channels=1, block=BasicBlock, expansion=1)
        self.top_db = family.top_db
        self.head = _head(self.outputs, family, n_classes)
        self.second = _head(self.outputs, family, n_classes) if family.second_head else None
        self.draw_kernels()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch, ``(B, K)``; while it trains with a second head those of both, ``(B, 2, K)``.

        Comments give the shapes for ``(1, 128, 512)`` and the default parameters.
        """
        x = self.trunk(standardised(decibels(x, self.top_db)))  # (B, 1, 128, 512) -> (B, 512, 4, 16)
        x = x.amax(dim=(2, 3))  # (B, 512)
        logits: Tensor = self.head(x)  # (B, K)
        if self.second is None or not self.training:
            return logits
        return torch.stack([logits, self.second(x)], dim=1)  # (B, 2, K)


class BasicBlock(nn.Module):
    """``relu(shortcut(x) + bn(3x3(relu(bn(3x3(x))))))``, the stride in the first 3x3 and the shortcut.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    stride : int
        Along frequency and time.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, inputs, F, T) -> (B, outputs, F / stride, T / stride)``."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        summed: Tensor = self.relu(x + shortcut)
        return summed


def decibels(powers: Tensor, top_db: float | None) -> Tensor:
    """``max(10 log10(max(x, 1e-10)), peak - top_db)`` of examples ``(B, 1, F, T)``, each with its own peak.

    References
    ----------
    ``librosa.power_to_db``, whose defaults these are.
    """
    levels = 10 * torch.log10(powers.clamp_min(LEAST_POWER))
    if top_db is None:
        return levels
    return torch.maximum(levels, levels.amax(dim=(1, 2, 3), keepdim=True) - top_db)


def standardised(levels: Tensor) -> Tensor:
    """Examples ``(B, 1, F, T)`` less their mean, over their deviation."""
    spread, mean = torch.std_mean(levels, dim=(1, 2, 3), correction=0, keepdim=True)
    return (levels - mean) / (spread + LEAST_DEVIATION)


def _head(inputs: int, family: TaggerResNet34, n_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, family.hidden),
        nn.ReLU(),
        nn.Dropout(family.dropout[0]),
        nn.Linear(family.hidden, family.hidden),
        nn.ReLU(),
        nn.Dropout(family.dropout[1]),
        nn.Linear(family.hidden, n_classes),
    )


def _require_powers(inputs: Layout) -> None:
    names = tuple(axis.name for axis in inputs.axes)
    rows = []
    if names != AXES or inputs.shape[0] != 1:
        found = " x ".join(f"{a.size} {a.name}" for a in inputs.axes)
        rows.append(Difference(field="axes", expected="1 channel x frequency x time", found=found))
    if inputs.log is not None:
        rows.append(Difference(field="quantity", expected="mel power", found=inputs.quantity))
    if rows:
        raise RecipeError(
            "tagger_resnet34 cannot take these features.",
            differences=rows,
            todo="Choose a feature recipe of mel powers of one channel, such as powermel128, or another family.",
        )
