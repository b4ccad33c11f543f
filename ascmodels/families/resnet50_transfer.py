"""ResNet-50 with the key names of torchvision, so that any ImageNet state dict fits it (ye2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ascmodels.families.maps import require_maps
from ascmodels.families.residual import ResNetFamily, ResNetTrunk, projection
from ascmodels.layers import global_average
from ascschemas.layout import Axis, Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.units import Size

EXPANSION = 4
"""Output channels of a bottleneck for each channel of its 3x3 convolution."""
STEM = "conv1.weight"
"""Key of the first convolution's kernels."""


class ResNet50Transfer(ResNetFamily):
    """ResNet-50 for transfer learning: 23,528,522 trainable parameters for three channels and ten classes.

    25,557,032 for ImageNet's thousand; 23,522,250 with a one-channel stem. It is the variant of He et al. in which the
    3x3 convolution of a bottleneck takes the stride and not the 1x1 before it (torchvision's "v1.5"): the weights that
    are commonly published were trained so, and would fit the other variant's shapes without meaning the same.
    Modules and keys are called as in torchvision and timm: ``conv1``, ``bn1``, ``layer1.0.conv1`` … ``fc``.

    References
    ----------
    Ye, Zhong, Song, Huang, Cheng, *Acoustic Scene Classification Using Deep Convolutional Neural Network via Transfer
    Learning*, 2019; He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016, Table 1 and Fig. 5.
    """

    head: ClassVar[tuple[str, ...]] = ("fc.",)

    channels: Literal[1, 3] = 3
    """Channels of the first convolution: features of one channel are repeated to 3, or seen by kernels of 1."""
    resize: Size | None = None
    """Bands and frames that maps are resized to, bilinearly, such as ImageNet's 224; absent, they stay as they are."""

    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """A network with He-normal kernels, norms of scale 1 and torch's first dense weights, as torchvision draws."""
        maps = self.only(inputs)
        require_maps("resnet50_transfer", inputs, such_as="logmel64")
        _require_channels(maps, self.channels)
        return ResNetNetwork(self, n_classes)

    def smallest(self) -> tuple[Layout, ...]:
        """One channel of a map whose last one is 1 x 2."""
        axes = (Axis(name="channel", size=1), Axis(name="frequency", size=32), Axis(name="time", size=40))
        return (Layout(axes=axes, quantity="any"),)

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """The paper's network, and narrow ones with each way of taking features."""
        narrow = cls(widths=(8, 12), depths=(1, 2))
        return {
            "default": cls(),
            "small": narrow,
            "small_one_channel": narrow.model_copy(update={"channels": 1}),
            "small_resized": narrow.model_copy(update={"resize": 48}),
        }

    def adapted(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights for three channels as weights for one, where that is asked for.

        The kernels are summed over the channels, which gives the maps that the repeated input would give.
        """
        stem = state.get(STEM)
        if self.channels == 1 and stem is not None and stem.dim() == 4 and stem.shape[1] == 3:
            return {**state, STEM: stem.sum(dim=1, keepdim=True)}
        return state


class ResNetNetwork(ResNetTrunk):
    """Stem, stages of bottlenecks, global average pooling, one dense layer.

    Parameters
    ----------
    family : ResNet50Transfer
        Its sizes.
    n_classes : int
        Number of classes K.
    """

    def __init__(self, family: ResNet50Transfer, n_classes: int) -> None:
        super().__init__(family, channels=family.channels, block=Bottleneck, expansion=EXPANSION)
        self.channels, self.resize = family.channels, family.resize
        self.fc = nn.Linear(self.outputs, n_classes)
        self.draw_kernels()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch; comments give the shapes for ``(1, 64, 320)`` and the default parameters."""
        if self.resize is not None:
            x = interpolate(x, size=(self.resize, self.resize), mode="bilinear", align_corners=False)
        x = x.expand(-1, self.channels, -1, -1)  # (B, 1, 64, 320) -> (B, 3, 64, 320)
        x = self.trunk(x)  # (B, 2048, 2, 10)
        logits: Tensor = self.fc(global_average(x))  # (B, 2048) -> (B, K)
        return logits


class Bottleneck(nn.Module):
    """``relu(shortcut(x) + bn(1x1(relu(bn(3x3(relu(bn(1x1(x)))))))))``, the stride in the 3x3 and the shortcut.

    Parameters
    ----------
    inputs : int
        Channels that come in.
    inner : int
        Channels of the 3x3; ``4 * inner`` go out.
    stride : int
        Along frequency and time.
    """

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(B, inputs, F, T)`` to ``(B, 4 * inner, F / stride, T / stride)``, rounded up."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        summed: Tensor = self.relu(self.bn3(self.conv3(x)) + shortcut)
        return summed


def _require_channels(given: Layout, channels: int) -> None:
    if given.shape[0] not in (1, channels):
        wanted = "1" if channels == 1 else f"1 or {channels}"
        raise RecipeError(
            "resnet50_transfer cannot take features of so many channels.",
            differences=[Difference(field="channel", expected=wanted, found=str(given.shape[0]))],
            todo="Choose a feature recipe of one channel, such as one with decode.channels=mono_mean.",
        )
