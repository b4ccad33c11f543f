"""What families of residual networks share: stem, stages, shortcuts, and what they are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from pydantic import model_validator
from torch import Tensor, nn

from ascmodels.families.base import Family
from ascschemas.units import Size


class ResNetFamily(Family):
    """A residual network of so many stages; the defaults are those of 34 and of 50 layers.

    References
    ----------
    He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016, Table 1.
    """

    widths: tuple[Size, ...] = (64, 128, 256, 512)
    """Channels of the 3x3 convolutions of each stage; the first is the stem's, too."""
    depths: tuple[Size, ...] = (3, 4, 6, 3)
    """Residual blocks of each stage."""

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if not self.widths or len(self.widths) != len(self.depths):
            raise ValueError(f"{len(self.widths)} widths and {len(self.depths)} depths: give one of each per stage")
        return self


class ResNetTrunk(nn.Module):
    """Stem and stages of blocks, called as in torchvision and timm: ``conv1``, ``bn1``, ``layer1.0`` …

    Parameters
    ----------
    family : ResNetFamily
        Its sizes.
    channels : int
        Channels that come in.
    block : callable
        Makes a block of channels that come in, channels of its 3x3 convolutions, and a stride.
    expansion : int
        Channels that a block gives for each channel of its 3x3 convolutions.

    Attributes
    ----------
    outputs : int
        Channels of the last maps.
    """

    def __init__(
        self, family: ResNetFamily, *, channels: int, block: Callable[[int, int, int], nn.Module], expansion: int
    ) -> None:
        super().__init__()
        width = family.widths[0]
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = tuple(f"layer{i}" for i in range(1, len(family.widths) + 1))
        for name, inner, depth in zip(self.stages, family.widths, family.depths, strict=True):
            first = block(width, inner, 1 if name == "layer1" else 2)
            width = inner * expansion
            self.add_module(name, nn.Sequential(first, *(block(width, inner, 1) for _ in range(depth - 1))))
        self.outputs = width

    def trunk(self, x: Tensor) -> Tensor:
        """The last maps: ``(B, channels, F, T)`` to ``(B, outputs, F / 32, T / 32)`` with four stages, rounded up."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return x

    def draw_kernels(self) -> None:
        """Draw every convolution's kernels, He-normal by the channels that go out, as torchvision does."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def projection(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """What brings a block's input to the shape of its output: a 1x1 convolution and its norm; None where it has it."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
