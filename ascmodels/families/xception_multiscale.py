"""Xception whose last three blocks are pooled and joined: maps of three scales, and one dense layer (yang2018)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from ascmodels.families.base import Family
from ascmodels.families.maps import require_maps
from ascmodels.layers import global_average
from ascschemas.layout import Axis, Layout
from ascschemas.units import Count, Size

Widths = Annotated[tuple[Size, ...], Field(min_length=1)]

EXTENT = 7
"""Bands and frames below which two valid 3 x 3 convolutions, the first of stride 2, leave nothing."""


class XceptionMultiscale(Family):
    """The network of yang2018: 20,844,386 trainable parameters for one channel and ten classes.

    20,898,914 with the running statistics of its batch norms, as Keras counts. The trunk is Xception as Keras builds
    it: two convolutions, then 34 separable ones in 13 blocks, none with a bias, each followed by batch norm.

    References
    ----------
    Yang, Chen, Tao, *Acoustic Scene Classification Using Multi-scale Features*, DCASE 2018, section 2.2.
    Chollet, *Xception: Deep Learning with Depthwise Separable Convolutions*, CVPR 2017, Fig. 5; what it leaves open
    (padding, norm, where ReLU stands) is as in Keras' ``applications.xception``, see docs/explanation/yang2018.md.
    """

    head: ClassVar[tuple[str, ...]] = ("dense.",)

    stem: tuple[Size, Size] = (32, 64)
    """Output channels of the two plain convolutions, layers 1 and 2."""
    entry: Widths = (128, 256, 728)
    """Output channels of the blocks that halve the map, layers 3 to 8; the last one's are those of the middle."""
    middle: Count = 8
    """Blocks of three separable convolutions that keep the map, layers 9 to 32."""
    exit: tuple[Size, Size, Size] = (1024, 1536, 2048)
    """Output channels of layers 34 (which halves the map a last time), 35 and 36."""
    multi_scale: bool = True
    """Whether the maps after layers 32, 34 and 36 are pooled and joined; else the last one is pooled alone."""
    pool: Literal["average", "max"] = "average"
    """What is taken of a map over frequency and time."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-3
    """Added to the variance in batch norm; Keras' default."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Weight of a new batch in the running statistics; Keras' momentum 0.99."""

    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """A network with Glorot-uniform weights and zero biases."""
        maps = self.only(inputs)
        require_maps("xception_multiscale", inputs, least=EXTENT, such_as="logmel128")
        network = XceptionNetwork(
            self._stem(maps.shape[0]),
            nn.Sequential(*self._entry(), *self._middle()),
            self._halving(self.entry[-1], (self.entry[-1], self.exit[0])),
            self._top(),
            nn.Linear(self.pooled_width(), n_classes),
            pool=global_average if self.pool == "average" else _global_max,
            multi_scale=self.multi_scale,
        )
        network.apply(_keras_init)
        return network

    def smallest(self) -> tuple[Layout, ...]:
        """One channel of the smallest map, plus a few frames."""
        axes = (Axis(name="channel", size=1), Axis(name="frequency", size=EXTENT), Axis(name="time", size=EXTENT + 4))
        return (Layout(axes=axes, quantity="any"),)

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """The paper's network, narrow ones for tests, and the ablation."""
        small = cls(stem=(4, 8), entry=(12, 16, 24), middle=1, exit=(32, 40, 48), norm_momentum=0.1)
        single = small.model_copy(update={"multi_scale": False, "pool": "max"})
        return {"default": cls(), "small": small, "small_single_scale": single}

    def pooled_width(self) -> int:
        """Numbers that the dense layer sees of a clip."""
        return self.entry[-1] + self.exit[0] + self.exit[2] if self.multi_scale else self.exit[2]

    def _stem(self, channels: int) -> nn.Sequential:
        first, second = self.stem
        return nn.Sequential(
            nn.Conv2d(channels, first, 3, stride=2, bias=False),
            self._norm(first),
            nn.ReLU(inplace=True),  # the norm needs its input again, not its output
            nn.Conv2d(first, second, 3, bias=False),
            self._norm(second),
            nn.ReLU(inplace=True),
        )

    def _entry(self) -> list[Block]:
        pairs = pairwise((self.stem[1], *self.entry))
        return [self._halving(before, (width, width), after_relu=i == 0) for i, (before, width) in enumerate(pairs)]

    def _middle(self) -> list[Block]:
        width = self.entry[-1]
        body = (width, width, width)
        return [Block(self._separables(width, body, after_relu=False), nn.Identity()) for _ in range(self.middle)]

    def _halving(self, inputs: int, outputs: tuple[int, ...], *, after_relu: bool = False) -> Block:
        body = nn.Sequential(*self._separables(inputs, outputs, after_relu=after_relu), SamePool())
        # A stride-2 kernel of one needs no SAME padding: it takes rows 0, 2, 4, … of maps of odd and even size alike.
        return Block(
            body, nn.Sequential(nn.Conv2d(inputs, outputs[-1], 1, stride=2, bias=False), self._norm(outputs[-1]))
        )

    def _separables(self, inputs: int, outputs: tuple[int, ...], *, after_relu: bool) -> nn.Sequential:
        """ReLU before each separable convolution; ``after_relu`` says that there was one before the first."""
        layers: list[nn.Module] = []
        for i, (before, width) in enumerate(pairwise((inputs, *outputs))):
            if i or not after_relu:
                layers.append(nn.ReLU(inplace=i > 0))  # the shortcut sees the block's input as it was
            layers.append(self._separable(before, width))
        return nn.Sequential(*layers)

    def _top(self) -> nn.Sequential:
        before, width, last = self.exit
        return nn.Sequential(
            self._separable(before, width), nn.ReLU(inplace=True), self._separable(width, last), nn.ReLU(inplace=True)
        )

    def _separable(self, inputs: int, outputs: int) -> nn.Sequential:
        """Depthwise 3 x 3, then pointwise; nothing between them."""
        return nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            self._norm(outputs),
        )

    def _norm(self, width: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(width, eps=self.norm_eps, momentum=self.norm_momentum)


class XceptionNetwork(nn.Module):
    """The trunk, a pool over frequency and time of one map or of three, and one dense layer."""

    def __init__(
        self,
        stem: nn.Module,
        body: nn.Module,
        down: nn.Module,
        top: nn.Module,
        dense: nn.Linear,
        *,
        pool: Callable[[Tensor], Tensor],
        multi_scale: bool,
    ) -> None:
        super().__init__()
        self.stem, self.body, self.down, self.top, self.dense = stem, body, down, top, dense
        self.pool, self.multi_scale = pool, multi_scale

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch; comments give the shapes for ``(1, 128, 469)`` and the default parameters."""
        middle = self.body(self.stem(x))  # (B, 1, 128, 469) -> (B, 64, 61, 232) -> (B, 728, 8, 29): layer 32
        down = self.down(middle)  # (B, 1024, 4, 15): layer 34
        top = self.top(down)  # (B, 2048, 4, 15): layer 36
        scales = (middle, down, top) if self.multi_scale else (top,)
        pooled = torch.cat([self.pool(scale) for scale in scales], dim=1)  # (B, 3800)
        logits: Tensor = self.dense(pooled)  # (B, K)
        return logits


class Block(nn.Module):
    """``body(x) + shortcut(x)``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The sum."""
        y: Tensor = self.body(x)
        return y.add_(self.shortcut(x))  # a norm or a pool made y, and neither needs it again


class SamePool(nn.Module):
    """Largest of 3 x 3, stride 2, padded as TensorFlow's SAME: ``ceil(n / 2)`` rows of n.

    Odd n have a row of minus infinity on both sides, even n on the far side only, where ``ceil_mode`` reads past the
    edge; so nothing is copied to pad it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, F, T)`` to ``(B, C, ceil(F / 2), ceil(T / 2))``."""
        return max_pool2d(x, 3, stride=2, padding=(x.shape[2] % 2, x.shape[3] % 2), ceil_mode=True)


def _global_max(x: Tensor) -> Tensor:
    return x.amax(dim=(2, 3))


def _keras_init(layer: nn.Module) -> None:
    """Glorot's bound is the same for a depthwise kernel: Keras' fans are 9C and 9, torch's 9 and 9C."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
