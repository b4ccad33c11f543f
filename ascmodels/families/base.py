"""What a model family promises: parameters that check themselves, and a network for a layout of features."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from ascschemas.base import Frozen
from ascschemas.layout import Layout


class Family(Frozen, ABC):
    """A model family: a frozen, closed pydantic model whose fields are its parameters.

    Register the class in the entry-point table ``ascmodels.families``; ``ascmodels.testing.families`` holds the tests
    that it must pass.
    """

    @abstractmethod
    def build(self, inputs: Layout, n_classes: int) -> nn.Module:
        """A network with fresh weights, drawn from torch's current generator.

        Parameters
        ----------
        inputs : Layout
            Axes of one clip's features.
        n_classes : int
            Number of classes K.

        Returns
        -------
        nn.Module
            Maps normalised features ``(B, *inputs.shape)`` to logits ``(B, K)``; no softmax.

        Raises
        ------
        RecipeError
            When features of this layout cannot be its input; both sizes are named.
        """

    @abstractmethod
    def smallest(self) -> Layout:
        """A small legal input, for contract tests and examples."""
