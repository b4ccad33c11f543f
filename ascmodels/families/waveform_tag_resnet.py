"""Residual blocks on the waveform, whose map or code tags of the clip may attend to or join (jung2020)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ascmodels.families.base import Family
from ascmodels.joining import Joined
from ascmodels.source import Clips, Values
from ascschemas.layout import Axis, Layout
from ascschemas.problems import Difference, RecipeError, StoreError
from ascschemas.units import Count, Positive, Size

Concatenation = Literal["codecat", "codecat_transform", "before_code"]
POOL = 3
"""What each block divides the length by."""
NAMED = 3
"""Clips that are named where many cannot be used."""


class WaveformTagResnet(Family):
    """The waveform network of jung2020 and the ways in which it takes a tag vector; its inputs are a waveform and tags.

    The defaults are the authors' public configuration of 2019, 636,736 parameters for two channels and ten classes;
    ``table1()`` is the printed Table 1, 714,058. With 80 tags, shared layers, three of them, and four heads
    there are 676,784.

    References
    ----------
    Jung, Shim, Kim, Kim, Yu, *Acoustic Scene Classification using Audio Tagging*, Interspeech 2020, Sections 3 and 4,
    Table 1; which of its readings this is, and why, says docs/explanation/jung2020.md.
    """

    head: ClassVar[tuple[str, ...]] = ("output.",)

    pre_emphasis: Annotated[float, Field(ge=0, lt=1)] = 0.97
    """a of ``y[n] = x[n + 1] - a x[n]``, of each channel; the result is a sample shorter."""
    scale: Positive = 32_000.0
    """What pre-emphasised samples are multiplied by, before anything of the network sees them."""
    stem_filters: Size = 128
    """Filters of the first convolution."""
    stem_kernel: Size = 12
    """Width and stride of the first convolution, in samples."""
    widths: Annotated[tuple[Size, ...], Field(min_length=1)] = (64, 64, 128, 128, 128, 128, 128)
    """Filters of each residual block; where they change, the shortcut is a convolution."""
    final_conv: Size | None = 128
    """Filters of a convolution of width 1 after the blocks, or none."""
    code: Size = 128
    """Length of the code."""
    output_bias: bool = False
    """Whether the last layer has a bias."""
    slope: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Slope of every leaky ReLU below zero."""
    concatenation: Concatenation | None = None
    """Where tags join: ``codecat``, after the code; ``codecat_transform``, there, and a dense layer makes the code of
    both; ``before_code``, transformed, at the pooled maps that the code is made of; or nowhere."""
    transform_layers: Count = 0
    """Dense layers, as wide as there are tags, that transform them ``before_code``; 0 takes them as they are."""
    attention: bool = False
    """Whether tags weigh the filters of the last map."""
    heads: Size = 4
    """Groups of filters that share out a weight of 1 each."""
    attention_layers: Count = 0
    """The same as ``transform_layers``, for the attention; 0 where they are shared."""
    shared: bool = False
    """Whether the attention sees what ``transform_layers`` make for the concatenation."""

    @model_validator(mode="after")
    def _meant(self) -> Self:
        if self.attention and self.filters % self.heads:
            raise ValueError(f"{self.filters} filters of the last map cannot be shared out among {self.heads} heads")
        if self.transform_layers and self.concatenation != "before_code":
            raise ValueError("transform_layers come before the code: set concatenation to before_code")
        if self.attention_layers and (self.shared or not self.attention):
            raise ValueError("attention_layers need attention of their own: set attention to true, shared to false")
        if self.shared and not (self.attention and self.concatenation == "before_code"):
            raise ValueError("shared layers need two who share them: attention, and concatenation before_code")
        return self

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """The defaults, and every way of taking tags, small."""
        small = {"stem_filters": 8, "stem_kernel": 4, "widths": (8, 12), "final_conv": 16, "code": 12}
        ways: dict[str, dict[str, object]] = {
            "small": {},
            "small_codecat": {"concatenation": "codecat"},
            "small_transform": {"concatenation": "codecat_transform", "final_conv": None},
            "small_separate": {"concatenation": "before_code", "attention": True, "attention_layers": 1},
            "small_shared": {"concatenation": "before_code", "transform_layers": 2, "attention": True, "shared": True},
        }
        return {"default": cls(), **{name: cls.model_validate(small | way) for name, way in ways.items()}}

    @classmethod
    def table1(cls) -> Self:
        """Table 1 as it is printed: 128 filters throughout, a code of 64, no convolution after the blocks."""
        return cls(widths=(128,) * 7, final_conv=None, code=64, output_bias=True)

    @property
    def takes_tags(self) -> bool:
        """Whether there is a second input, a vector of tags."""
        return self.attention or self.concatenation is not None

    @property
    def filters(self) -> int:
        """Filters of the last map."""
        return self.final_conv or self.widths[-1]

    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """The network with torch's first weights."""
        self._require_inputs(inputs)
        return WaveformTagNetwork(self, inputs[0].shape[0], inputs[1].shape[0] if self.takes_tags else 0, n_classes)

    def smallest(self) -> tuple[Layout, ...]:
        """Two channels of the shortest waveform; six tags, where there are tags."""
        axes = (Axis(name="channel", size=2), Axis(name="time", size=self.smallest_length()))
        tags = Layout(axes=(Axis(name="tag", size=6),), quantity="any")
        return (Layout(axes=axes, quantity="any"), *([tags] if self.takes_tags else []))

    def smallest_length(self) -> int:
        """Samples below which the last map is empty: one more than ``stem_kernel * 3 ** blocks``."""
        last: int = POOL ** len(self.widths)
        return self.stem_kernel * last + 1

    def require(self, source: Joined, clips: Clips) -> None:
        """Refuse tags outside 0 to 1, which attention and mixture are meant for.

        Raises
        ------
        StoreError
            With the first clips, and how many there are.
        """
        if not self.takes_tags:
            return
        member = source.members[1]
        rows = member.source.read(member.at[clips])
        bad = np.flatnonzero(~((rows >= 0) & (rows <= 1)).all(axis=1))  # NaN is neither
        if len(bad):
            raise _no_tags(source, clips[bad], rows[bad], member.source.header.recipe.name)

    def _require_inputs(self, inputs: tuple[Layout, ...]) -> None:
        wanted = ("channel, time", "tag") if self.takes_tags else ("channel, time",)
        found = tuple(", ".join(axis.name for axis in layout.axes) for layout in inputs)
        if len(found) != len(wanted):
            sees = "a waveform and tags" if self.takes_tags else "a waveform and nothing else"
            alone = "Set features=waveform, or say by family.concatenation or family.attention what the tags are for."
            raise RecipeError(
                f"waveform_tag_resnet sees {sees} with these parameters.",
                differences=[Difference(field="recipes", expected=str(len(wanted)), found=str(len(found)))],
                todo="Set features=[waveform, tags]." if self.takes_tags else alone,
            )
        apart = [(n, w, f) for n, (w, f) in enumerate(zip(wanted, found, strict=True), start=1) if w != f]
        if apart:
            raise RecipeError(
                "waveform_tag_resnet cannot take these features.",
                differences=[Difference(field=f"axes of store {n}", expected=w, found=f) for n, w, f in apart],
                todo=f"Set features={'[waveform, tags]' if self.takes_tags else 'waveform'}, or choose another family.",
            )
        self._require_length(inputs[0].shape[-1])

    def _require_length(self, samples: int) -> None:
        if samples < self.smallest_length():
            least = f"at least {self.smallest_length()}"
            raise RecipeError(
                "waveform_tag_resnet cannot take clips this short: its last map would be empty.",
                differences=[Difference(field="samples", expected=least, found=str(samples))],
                todo="Take longer clips or a higher sample rate, fewer family.widths, or a smaller family.stem_kernel.",
            )


class ResidualBlock(nn.Module):
    """``pool(relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)))``: same length, then a third of it."""

    def __init__(self, inputs: int, outputs: int, slope: float) -> None:
        super().__init__()
        self.first, self.first_norm = _same(inputs, outputs), nn.BatchNorm1d(outputs)
        self.second, self.second_norm = _same(outputs, outputs), nn.BatchNorm1d(outputs)
        self.shortcut = nn.Identity() if inputs == outputs else _same(inputs, outputs)
        self.relu, self.pool = nn.LeakyReLU(slope, inplace=True), nn.MaxPool1d(POOL)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, n)`` to ``(B, C', n // 3)``."""
        inner = self.relu(self.first_norm(self.first(x)))
        inner = self.second_norm(self.second(inner))
        found: Tensor = self.pool(self.relu(inner + self.shortcut(x)))
        return found


class WaveformTagNetwork(nn.Module):
    """The network of a :class:`WaveformTagResnet` for C channels and as many tags as there are.

    Parameters
    ----------
    family : WaveformTagResnet
        Its parameters.
    channels, tags, n_classes : int
        Channels of the waveform, tags (0 for none), classes.
    """

    def __init__(self, family: WaveformTagResnet, channels: int, tags: int, n_classes: int) -> None:
        super().__init__()
        self.pre_emphasis, self.scale, self.heads = family.pre_emphasis, family.scale, family.heads
        self.concatenation, self.shared = family.concatenation, family.shared
        self.maps = _maps(family, channels)
        before, after = (tags if family.concatenation == at else 0 for at in ("before_code", "codecat"))
        self.transform = _transform(tags, family.transform_layers, family.slope)
        self.attention_transform = _transform(tags, family.attention_layers, family.slope)
        self.attention = nn.Linear(tags, family.filters) if family.attention else None
        self.code = nn.Linear(2 * family.filters + before, family.code)
        both = family.concatenation == "codecat_transform"
        self.joined = nn.Linear(family.code + tags, family.code) if both else None
        self.output = nn.Linear(family.code + after, n_classes, bias=family.output_bias)

    def forward(self, *features: Tensor) -> Tensor:
        """Logits ``(B, K)``."""
        logits: Tensor = self.output(self.codes(*features))
        return logits

    def codes(self, *features: Tensor) -> Tensor:
        """What the output layer, or another classifier, sees of a clip: its code, for ``codecat`` then its tags.

        Parameters
        ----------
        *features : Tensor
            Waveforms ``(B, C, n)``; tags ``(B, tags)`` where the family takes them.
        """
        tags = features[1] if len(features) > 1 else features[0].new_zeros(len(features[0]), 0)
        x = self.maps[1:](self.stem(features[0]))  # (B, 2, 480000) -> (B, 128, 39999) -> (B, 128, 18)
        before = self.transform(tags)
        if self.attention is not None:
            x = x * self.attended(before if self.shared else self.attention_transform(tags)).unsqueeze(-1)
        parts = [x.mean(-1), x.amax(-1), *([before] if self.concatenation == "before_code" else [])]
        code: Tensor = self.code(torch.cat(parts, dim=1))  # (B, 256 or 336) -> (B, 128)
        if self.concatenation not in ("codecat", "codecat_transform"):
            return code
        code = torch.cat([code, tags], dim=1)
        return code if self.joined is None else self.joined(code)

    def stem(self, x: Tensor) -> Tensor:
        """The first map, never in half precision: scaled samples have more digits than bf16, and sums of them overflow
        fp16."""
        with torch.autocast(x.device.type, enabled=False):
            first: Tensor = self.maps[0](self.emphasised(x))
        return first

    def emphasised(self, x: Tensor) -> Tensor:
        """``scale * (x[n + 1] - a x[n])``; linear, so that mixtures may be made before or after it."""
        return self.scale * (x[..., 1:] - self.pre_emphasis * x[..., :-1])

    def attended(self, tags: Tensor) -> Tensor:
        """A weight for each filter of the last map, ``(B, F)``: a softmax in each of the heads."""
        assert self.attention is not None
        logits = self.attention(tags).unflatten(1, (self.heads, -1))
        weights: Tensor = logits.softmax(dim=-1)
        return weights.flatten(1)


def _maps(family: WaveformTagResnet, channels: int) -> nn.Sequential:
    """All that comes before the global pools."""
    stem = nn.Conv1d(channels, family.stem_filters, family.stem_kernel, family.stem_kernel)
    layers: list[nn.Module] = [_normed(stem, family.slope)]
    layers += [ResidualBlock(i, o, family.slope) for i, o in pairwise((family.stem_filters, *family.widths))]
    if family.final_conv:
        layers.append(_normed(nn.Conv1d(family.widths[-1], family.final_conv, 1), family.slope))
    return nn.Sequential(*layers)


def _normed(conv: nn.Conv1d, slope: float) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm1d(conv.out_channels), nn.LeakyReLU(slope, inplace=True))


def _same(inputs: int, outputs: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, 3, padding=1)


def _transform(tags: int, layers: int, slope: float) -> nn.Sequential:
    return nn.Sequential(*(nn.Sequential(nn.Linear(tags, tags), nn.LeakyReLU(slope)) for _ in range(layers)))


def _no_tags(source: Joined, clips: Clips, rows: Values, name: str) -> StoreError:
    spans = [f"{row.min():g} to {row.max():g}" for row in rows[:NAMED]]
    named = [Difference(field=source.ids[c], expected="0 to 1", found=s) for c, s in zip(clips, spans, strict=False)]
    more = len(clips) - len(named)
    named += [Difference(field=f"and {more} more", expected="0 to 1", found="otherwise")] if more else []
    return StoreError(
        f"{source.members[1].source.place} holds tags that are no probabilities.",
        differences=named,
        todo=f"Give probabilities, such as a sigmoid of what these are, to `ascfeat extract --recipe {name} --tags …`.",
    )
