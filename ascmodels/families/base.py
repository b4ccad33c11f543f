"""What a model family promises: parameters that check themselves, and a network for a layout of features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

from torch import Tensor, nn

from ascmodels.joining import Joined
from ascmodels.source import Clips
from ascschemas.base import Frozen
from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.training import TrainingRecipe


class Family(Frozen, ABC):
    """A model family: a frozen, closed pydantic model whose fields are its parameters.

    Register the class in the entry-point table ``ascmodels.families``; ``ascmodels.testing.families`` holds the tests
    that it must pass.
    """

    head: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the keys, in a network's state dict, of the weights that belong to its classes, such as ``fc.``.

    A network that starts from given weights keeps its own there, unless they are of the same classes. Without any, all
    given weights must fit.
    """

    any_length: ClassVar[bool] = False
    """Whether its networks take clips of any length as they take those that they were trained on: as a tagger, such a
    run hears recordings whole."""

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
            no softmax. Where it has a method ``codes`` of the same tensors, its vectors ``(B, D)`` are what the trainer
            ``coded_svm`` fits a support vector machine to.

        Raises
        ------
        RecipeError
            When features of this layout cannot be its input; both sizes are named.
        """

    @abstractmethod
    def smallest(self) -> tuple[Layout, ...]:
        """Small legal inputs, for contract tests and examples."""

    def require(self, source: Joined, clips: Clips) -> None:
        """Refuse stored values that such a network cannot be trained on, before training begins; by default, none.

        Parameters
        ----------
        source : Joined
            The stores, as :meth:`build` has accepted their layouts.
        clips : array of int
            Every clip that trains, chooses or tests, as positions in the first store.

        Raises
        ------
        StoreError
            With the first clips, and what is wrong with them.
        """

    def agree(self, recipe: TrainingRecipe) -> None:
        """Refuse a training recipe that such a network makes no sense in; by default, none.

        Raises
        ------
        RecipeError
            With what the family needs and what the recipe says.
        """

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        """Parameters worth a test of their own, by name: ``default``, small ones of a large family, other networks.

        The contract is run over each of them.
        """
        return {"default": cls()}

    def adapted(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Weights from elsewhere under the keys, and in the shapes, of this family's networks.

        Parameters
        ----------
        state : mapping of str to Tensor
            A state dict as it was found, wrappers' prefixes removed.

        Returns
        -------
        mapping of str to Tensor
            The same here; a family whose layers have other names in common weights translates them.
        """
        return state

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
