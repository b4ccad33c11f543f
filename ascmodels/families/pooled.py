"""Features pooled over time and one linear layer: the simplest model there is, of any features."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator
from torch import Tensor, nn

from ascmodels.families.base import Family
from ascmodels.pooling import Moment, Pooling, Poolings
from ascschemas.layout import Axis, Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.units import Fraction


class Pooled(Family):
    """Each band and channel summed up over time; features without time (tags, codes) are taken as they are.

    The trainer ``svm`` fits a support vector machine to the same vectors; ``supervised`` the linear layer.
    """

    head: ClassVar[tuple[str, ...]] = ("dense.",)

    moments: tuple[Moment, ...] = ("mean", "deviation")
    """Moments over time: ``mean``, ``deviation``."""
    quantiles: tuple[Fraction, ...] = ()
    """Quantiles over time, such as 0.1, 0.5 and 0.9."""
    deltas: bool = False
    """Whether the same is taken of the differences from frame to frame, too."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.moments or self.quantiles):
            raise ValueError("nothing is taken over time: name moments or quantiles")
        if len({*self.moments}) < len(self.moments) or len({*self.quantiles}) < len(self.quantiles):
            raise ValueError("name each of moments and quantiles once")
        return self

    def pooling(self, inputs: tuple[Layout, ...]) -> Poolings:
        """What makes a vector of a clip's features, those of one store after those of the other.

        Raises
        ------
        RecipeError
            When there are no frames to take differences of.
        """
        still = [layout.shape[-1] for layout in inputs if layout.timed and layout.shape[-1] < 2]
        if self.deltas and still:
            raise RecipeError(
                "One frame has no difference from frame to frame.",
                differences=[Difference(field="time", expected="at least 2", found=str(still[0]))],
                todo="Leave family.deltas false, or take features of more frames.",
            )
        return Poolings(tuple(Pooling(layout=layout, **self.model_dump()) for layout in inputs))

    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """The vectors and a linear layer with torch's first weights."""
        return PooledNetwork(self.pooling(inputs), n_classes)

    def smallest(self) -> tuple[Layout, ...]:
        """As many bands as a few clips take to tell apart, four frames."""
        axes = tuple(Axis(name=n, size=s) for n, s in (("channel", 1), ("frequency", 64), ("time", 4)))
        return (Layout(axes=axes, quantity="any"),)


class PooledNetwork(nn.Module):
    """``Linear(pool(x))``.

    Parameters
    ----------
    pooling : Poolings
        Maps features of each store, ``(B, *layout.shape)``, to vectors ``(B, D)``.
    n_classes : int
        Number of classes K.
    """

    def __init__(self, pooling: Poolings, n_classes: int) -> None:
        super().__init__()
        self.pooling = pooling
        self.dense = nn.Linear(pooling.size, n_classes)

    def forward(self, *features: Tensor) -> Tensor:
        """Logits ``(B, K)`` of normalised features of each store."""
        logits: Tensor = self.dense(self.pooling(features))
        return logits
