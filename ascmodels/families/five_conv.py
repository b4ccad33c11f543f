"""Five valid convolutions, each followed by ReLU and then batch norm, and global average pooling (nguyen2020)."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from ascmodels.families.base import Family
from ascmodels.families.maps import require_maps
from ascmodels.layers import global_average
from ascschemas.layout import Axis, Layout
from ascschemas.units import Size


class FiveConv(Family):
    """The base model of nguyen2020, Table 1: 70,538 trainable parameters for one channel and ten classes.

    70,954 with the running statistics of its batch norms, as Keras counts and the paper prints.

    References
    ----------
    Nguyen, Pernkopf, Kośmider, *Acoustic Scene Classification for Mismatched Recording Devices Using Heated-Up Softmax
    and Spectrum Correction*, ICASSP 2020, Table 1; Keras defaults translated as docs/explanation/nguyen2020.md says.
    """

    head: ClassVar[tuple[str, ...]] = ("dense.",)

    widths: tuple[Size, ...] = (16, 32, 32, 64, 64)
    """Output channels of each convolution."""
    strides: tuple[Size, ...] = (1, 2, 1, 2, 1)
    """Stride of each convolution, along frequency and time alike."""
    kernel: Size = 3
    """Extent of every kernel along frequency and time."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-3
    """Added to the variance in batch norm; Keras' default."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Weight of a new batch in the running statistics; Keras' momentum 0.99."""

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if not self.widths or len(self.widths) != len(self.strides):
            raise ValueError(
                f"{len(self.widths)} widths and {len(self.strides)} strides: give one of each per convolution"
            )
        return self

    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """A network with Glorot-uniform weights and zero biases."""
        maps = self.only(inputs)
        require_maps("five_conv", inputs, least=self.smallest_extent(), such_as="logmel256")
        channels = pairwise((maps.shape[0], *self.widths))
        blocks = [self._block(i, o, s) for (i, o), s in zip(channels, self.strides, strict=True)]
        return FiveConvNetwork(blocks, self.widths[-1], n_classes)

    def smallest(self) -> tuple[Layout, ...]:
        """One channel of the smallest map, plus a few frames."""
        n = self.smallest_extent()
        axes = (Axis(name="channel", size=1), Axis(name="frequency", size=n), Axis(name="time", size=n + 4))
        return (Layout(axes=axes, quantity="any"),)

    def smallest_extent(self) -> int:
        """Bands and frames below which the last map is empty: ``n <- (n - 1) stride + kernel``, backwards from 1."""
        extent = 1
        for stride in reversed(self.strides):
            extent = (extent - 1) * stride + self.kernel
        return extent

    def _block(self, inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, self.kernel, stride),
            nn.ReLU(inplace=True),  # its input is not needed again, and maps are large
            nn.BatchNorm2d(outputs, eps=self.norm_eps, momentum=self.norm_momentum),
        )


class FiveConvNetwork(nn.Module):
    """Convolution blocks, global average pooling, and one dense layer."""

    def __init__(self, blocks: list[nn.Sequential], width: int, n_classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(width, n_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _keras_init(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch, ``(B, K)``."""
        logits: Tensor = self.dense(self.codes(x))
        return logits

    def codes(self, x: Tensor) -> Tensor:
        """What the dense layer sees; comments give the shapes for ``(1, 256, 862)`` and the default parameters."""
        x = self.blocks(x)  # (B, 1, 256, 862) -> (B, 64, 59, 211)
        return global_average(x)  # (B, 64)


def _keras_init(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
