"""A network tried before it is trained: what it cannot take is refused before anything is read or written."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ascmodels import recipes
from ascmodels.augment import require_possible
from ascmodels.evaluate import trainable
from ascmodels.inputs import Input
from ascmodels.objectives import objective
from ascmodels.sides import second_head
from ascmodels.trainers.failure import is_out_of_memory
from ascschemas.layout import Layout
from ascschemas.problems import Difference, RecipeError
from ascschemas.run import RunData
from ascschemas.training import TrainingRecipe


def require_network(recipe: TrainingRecipe, data: RunData, examples: int = 1) -> None:
    """Refuse what no network of the recipe can be trained on, before anything is read or written.

    Parameters
    ----------
    recipe : TrainingRecipe
        What is trained, every default written out.
    data : RunData
        Which stores and classes it is trained on.
    examples : int
        Patches that a clip gives, or one.

    Raises
    ------
    RecipeError
        When the family cannot take these features, whole, as they are augmented or one at a time; a class has no
        weight; or no memory holds the network.
    """
    objective(recipe.objective, data.classes, torch.device("cpu"))
    seen = [Input.of(store.header).seen for store in data.stores]
    try:
        trainable(recipe, data)
        require_possible(recipe.augmentation, seen)
        _require_long_enough(recipe, seen, len(data.classes))
        _require_heads(recipe, seen, len(data.classes))
        _require_company(recipe, seen, len(data.classes), data.clips["train"] * examples)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RecipeError(
            f"The network of {recipe.name} does not fit into the memory that there is.",
            differences=[Difference(field="family", expected="fewer weights", found=recipe.family.kind)],
            todo="Set the family's parameters lower, or train where there is more memory.",
        ) from None


def _require_long_enough(recipe: TrainingRecipe, seen: Sequence[Layout], n_classes: int) -> None:
    """Refuse stretches of clips that a network which takes whole ones has no layers for."""
    crop = recipe.augmentation.crop
    if crop is None:
        return
    try:
        _forward_one(recipe, seen, n_classes, training=False)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        wanted = f"more, up to {max(s.shape[-1] for s in seen if len(s.shape) > 1)}"
        raise RecipeError(
            f"{recipe.family.kind} cannot take clips that are cut this short.",
            differences=[Difference(field="augmentation.crop.length", expected=wanted, found=str(crop.length))],
            todo="Set augmentation.crop.length to more, or augmentation.crop to none.",
        ) from error


def _require_company(recipe: TrainingRecipe, seen: Sequence[Layout], n_classes: int, examples: int) -> None:
    """Refuse batches, last ones or parts of one example where norms see one value of a channel: it has no deviation."""
    size, said = recipe.batch_size, recipe.trainer.values().get("accumulate")
    parts = said if isinstance(said, int) else 1
    if min(n // min(n, parts) for n in (size, examples % size or size)) > 1:
        return
    try:
        _forward_one(recipe, seen, n_classes, training=True)
    except ValueError as error:
        other = next((n for n in range(size + 1, examples + 1) if examples % n != 1), examples)
        rows = [Difference(field="batch_size", expected=f"no single one left of {examples}", found=str(size))]
        rows += [Difference(field="trainer.accumulate", expected="two in each part", found=str(parts))] * (parts > 1)
        raise RecipeError(
            f"{recipe.family.kind} cannot be trained on a single clip or patch, which a batch here comes to.",
            differences=rows,
            todo=f"Train with --set batch_size={other}{', and trainer.accumulate lower' * (parts > 1)}.",
        ) from error


def _require_heads(recipe: TrainingRecipe, seen: Sequence[Layout], n_classes: int) -> None:
    """Refuse labels for a second head of a network that has one."""
    wanted = second_head(recipe)
    if wanted is None or _forward_one(recipe, seen, n_classes, training=True, clips=2).dim() == 3:
        return
    raise RecipeError(
        f"{recipe.family.kind} has no second head that could learn the labels of {wanted}.",
        differences=[Difference(field="objective.second_head", expected="none", found=wanted)],
        todo="Set objective.second_head=none, or take a family with two heads, such as tagger_resnet34.",
    )


def _forward_one(
    recipe: TrainingRecipe, seen: Sequence[Layout], n_classes: int, *, training: bool, clips: int = 1
) -> Tensor:
    """Logits of one example of nothing, or more, as long as those of training, by a network that is then forgotten."""
    crop = recipe.augmentation.crop
    shapes = [(*s.shape[:-1], crop.length) if crop and len(s.shape) > 1 else s.shape for s in seen]
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = recipes.family(recipe).build(tuple(seen), n_classes).train(training)
        logits: Tensor = network(*(torch.zeros(clips, *shape) for shape in shapes))
    return logits
