"""Ten convolutions and attention over their maps, in space and in time, or none (huang2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ascmodels.families.base import Family
from ascmodels.families.maps import require_maps
from ascschemas.layout import Axis, Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.units import Size

KERNELS = ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1))
"""Extents of the convolutions of each block."""


class DcnnStap(Family):
    """The deep CNN of huang2019, Table 1, with spatial-temporal attention pooling or without it.

    One map of 128 x 128 and ten classes give 5,037,962 trainable parameters with attention and 6,326,090 without. Maps
    of several stores, such as CQT and MFCC, are stacked as channels; with two of them, ``time_stride`` 1 and a last
    width of 256, as in the paper, there are 2,469,898 and 3,769,226.

    References
    ----------
    Huang, Jiang, *Acoustic Scene Classification Based on Deep CNN with Spatial-Temporal Attention Pooling*, DCASE 2019,
    section 2.2 and Table 1; docs/explanation/huang2019.md says how what it leaves open is read.
    """

    head: ClassVar[tuple[str, ...]] = ("head.",)

    attention: bool = True
    """Whether the last map is pooled by attention; without, it is flattened."""
    widths: tuple[Size, Size, Size, Size] = (64, 128, 256, 512)
    """Output channels of the convolutions of each block."""
    time_stride: Literal[1, 2] = 2
    """Stride of the first convolution along time; along frequency it is 2."""
    mask_gain: Annotated[float, Field(gt=0)] | Literal["rows"] = 1.0
    """What the attention mask is multiplied by: 1 is the printed formula; ``rows``, the number S of rows of the last
    map, brings what is pooled to the size of an average over time."""
    final_relu: bool = False
    """Whether logits go through a ReLU, as Table 1 prints it; a class whose logit is never positive never learns."""
    conv_bias: bool = False
    """Whether convolutions have a bias; the batch norm behind each takes it away again."""
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    """Added to the variance in batch norm."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Weight of a new batch in the running statistics."""

    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """A network with He-normal kernels, a Glorot-uniform dense layer, uniform attention and zero biases."""
        _require_alike(inputs)
        rows, frames = self.map_extent(inputs[0])
        pooled = rows if self.attention else rows * frames
        gain = float(rows) if self.mask_gain == "rows" else self.mask_gain
        network = DcnnStapNetwork(
            blocks=nn.Sequential(*self._blocks(sum(layout.shape[0] for layout in inputs))),
            pooling=AttentionPooling(rows, frames, gain) if self.attention else nn.Flatten(),
            head=nn.Sequential(nn.Linear(pooled, n_classes), *[nn.ReLU()] * self.final_relu),
        )
        return network.apply(_initialise)

    def smallest(self) -> tuple[Layout, ...]:
        """A small map; two where the first convolution keeps all frames, as in the paper."""
        axes = (Axis(name="channel", size=1), Axis(name="frequency", size=16), Axis(name="time", size=4))
        return (Layout(axes=axes, quantity="any"),) * (3 - self.time_stride)

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """The paper's networks, all but the first with few channels, and one pooled at the size of an average."""
        narrow = cls(widths=(8, 8, 8, 8))
        return {
            "default": cls(),
            "nonsp": narrow.model_copy(update={"attention": False}),
            "two": narrow.model_copy(update={"time_stride": 1}),
            "gained": narrow.model_copy(update={"mask_gain": "rows", "conv_bias": True}),
        }

    def map_extent(self, seen: Layout) -> tuple[int, int]:
        """Rows S (channels times bands) and frames T of the last map of an input."""
        bands, frames = seen.shape[-2:]
        halvings = 1 + len(self.widths)  # the first convolution, and the pool of each block
        return self.widths[-1] * -(-bands // 2**halvings), -(-frames // self.time_stride)

    def _blocks(self, channels: int) -> Iterator[nn.Sequential]:
        stride = (2, self.time_stride)
        for width, kernels in zip(self.widths, KERNELS, strict=True):
            before = (channels, *[width] * (len(kernels) - 1))
            strides = (stride, *[(1, 1)] * (len(kernels) - 1))
            layers = (self._convolution(i, width, k, s) for i, k, s in zip(before, kernels, strides, strict=True))
            yield nn.Sequential(*chain.from_iterable(layers), SamePool())
            channels, stride = width, (1, 1)

    def _convolution(self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int]) -> tuple[nn.Module, ...]:
        norm = nn.BatchNorm2d(outputs, eps=self.norm_eps, momentum=self.norm_momentum)
        return SameConv(inputs, outputs, kernel, stride, bias=self.conv_bias), norm, nn.ReLU(inplace=True)


class DcnnStapNetwork(nn.Module):
    """Blocks of convolutions, pooling, and a dense layer.

    Pooling and what follows compute in float32 within half precision: by the printed formula what is pooled differs
    among clips by some 1e-4 of the logits' size, which bfloat16 rounds away.
    """

    def __init__(self, *, blocks: nn.Module, pooling: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.blocks, self.pooling, self.head = blocks, pooling, head

    def forward(self, *maps: Tensor) -> Tensor:
        """Logits of one map ``(B, channel, F, T)`` of each store; comments give shapes for one of 128 x 128."""
        x = self.blocks(torch.cat(maps, dim=1))  # (B, 1, 128, 128) -> (B, 512, 4, 64)
        with torch.autocast(x.device.type, enabled=False):
            x = x if x.dtype == torch.float64 else x.float()
            logits: Tensor = self.head(self.pooling(x.flatten(1, 2)))  # (B, 2048, 64) -> (B, 2048) -> (B, K)
        return logits


class AttentionPooling(nn.Module):
    """Attention over rows and frames of a map O: ``x_s = sum_t tanh(gain A_st O_st)``.

    ``A = a ⊗ b``, with ``a = softmax_s(sum_t O_st u_t)`` over rows and ``b = softmax_t(sum_s O_st w_s)`` over frames;
    A sums to 1. Both vectors begin at zero, where every entry of A is ``1 / (S T)``.

    Parameters
    ----------
    rows, frames : int
        S and T.
    gain : float
        Factor of the mask.

    References
    ----------
    huang2019, section 2.3, after Phan et al. 2019.
    """

    def __init__(self, rows: int, frames: int, gain: float = 1.0) -> None:
        super().__init__()
        self.over_rows = nn.Parameter(torch.zeros(frames))
        self.over_frames = nn.Parameter(torch.zeros(rows))
        self.gain = gain

    def mask(self, maps: Tensor) -> Tensor:
        """A of maps ``(B, S, T)``, of the same shape."""
        spatial = (maps @ self.over_rows).softmax(dim=1)  # (B, S)
        temporal = (self.over_frames @ maps).softmax(dim=1)  # (B, T)
        return spatial[:, :, None] * temporal[:, None, :]

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, S, T)`` to ``(B, S)``."""
        return torch.tanh(self.gain * self.mask(maps) * maps).sum(dim=2)


class SameConv(nn.Conv2d):
    """A convolution whose output has ``ceil(n / stride)`` bands and frames, padded as TensorFlow pads.

    ``max((ceil(n / s) - 1) s + k - n, 0)`` zeros, the smaller half before, the larger behind: of an even number of
    bands or frames, a stride of 2 sees one zero more behind and none before.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, F, T)`` to ``(B, outputs, ceil(F / s), ceil(T / s))``."""
        extents = zip(reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride), strict=True)
        around = [n for extent in extents for n in _same(*extent)]  # of the last axis first, as pad wants them
        if around[::2] == around[1::2]:
            return self._convolved(x, (around[2], around[0]))
        return self._convolved(nn.functional.pad(x, around), (0, 0))

    def _convolved(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        return nn.functional.conv2d(x, self.weight, self.bias, self.stride, padding)


class SamePool(nn.Module):
    """The largest of 2 x 2, every second band and every frame; past the end there is nothing to be larger.

    TensorFlow's SAME padding puts the missing band and frame behind, where torch pads both sides: the frame that comes
    of padding before is left out.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, F, T)`` to ``(B, C, ceil(F / 2), T)``."""
        return nn.functional.max_pool2d(x, 2, stride=(2, 1), padding=(0, 1), ceil_mode=True)[..., 1:]


def _same(extent: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind."""
    total = max((math.ceil(extent / stride) - 1) * stride + kernel - extent, 0)
    return total // 2, total - total // 2


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    elif isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
    if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _require_alike(inputs: tuple[Layout, ...]) -> None:
    """Refuse what is no map, or maps of other shapes than the first."""
    require_maps("dcnn_stap", inputs, such_as="mfcc_patches")
    wanted, *others = (layout.shape[1:] for layout in inputs)
    if apart := [(i, shape) for i, shape in enumerate(others, start=2) if shape != wanted]:
        raise RecipeError(
            "dcnn_stap stacks the maps of several stores as channels, and these have other shapes.",
            differences=[
                Difference(field=f"map of store {i}", expected=_said(wanted), found=_said(shape)) for i, shape in apart
            ],
            todo="Choose feature recipes whose patches have the same width, resized to the same number of rows.",
        )


def _said(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
