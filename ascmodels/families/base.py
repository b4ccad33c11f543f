"""What a model family promises: parameters that check themselves, and a network for a layout of features."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from ascschemas.base import Frozen
from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError


class Family(Frozen, ABC):
    """A model family: a frozen, closed pydantic model whose fields are its parameters.

    Register the class in the entry-point table ``ascmodels.families``; ``ascmodels.testing.families`` holds the tests
    that it must pass.
    """

    @abstractmethod
    def build(self, inputs: tuple[Layout, ...], n_classes: int) -> nn.Module:
        """A network with fresh weights, drawn from torch's current generator.

        Parameters
        ----------
        inputs : tuple of Layout
            Axes of what it sees of each store: a clip's features, or a patch of them. Nearly always one;
            :meth:`only` refuses several.
        n_classes : int
            Number of classes K.

        Returns
        -------
        nn.Module
            Maps normalised features, one tensor ``(B, *layout.shape)`` for each of ``inputs``, to logits ``(B, K)``;
            no softmax.

        Raises
        ------
        RecipeError
            When features of this layout cannot be its input; both sizes are named.
        """

    @abstractmethod
    def smallest(self) -> tuple[Layout, ...]:
        """Small legal inputs, for contract tests and examples."""

    def only(self, inputs: tuple[Layout, ...]) -> Layout:
        """The one input of a family that sees one store.

        Raises
        ------
        RecipeError
            When there are several.
        """
        if len(inputs) == 1:
            return inputs[0]
        raise RecipeError(
            f"{type(self).__name__} cannot see several stores at once.",
            differences=[Difference(field="features", expected="one recipe", found=f"{len(inputs)} recipes")],
            todo="Name one recipe of features, or choose a family that takes several.",
        )
