"""What a network says of a whole clip: the vote of its patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ascmodels.inputs import Input, examples

Vote = Literal["majority", "mean"]
EXAMPLES_AT_ONCE = 256
"""Patches that go through a network together while scoring."""


def every_example(inputs: Sequence[Input], features: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """All patches of clips, of each store ``(n * count, ...)``; a whole clip stands beside each patch of another's."""
    count = examples(tuple(inputs))
    cut = (given.every(x) for given, x in zip(inputs, features, strict=True))
    return tuple(
        x.repeat_interleave(count, dim=0) if given.count < count else x for given, x in zip(inputs, cut, strict=True)
    )


def logits_of_clips(
    network: Callable[[tuple[Tensor, ...]], Tensor], inputs: Sequence[Input], features: Sequence[Tensor]
) -> Tensor:
    """Logits of every patch of some clips, ``(n, count, K)``, some clips at a time.

    Parameters
    ----------
    network : callable
        Features of examples, as ``Input.every`` gives them of each store, to logits ``(B, K)``.
    inputs : sequence of Input
        What the network sees of each store.
    features : sequence of Tensor
        Clips of each store, ``(n, *layout.shape)``.
    """
    count = examples(tuple(inputs))
    found = torch.cat([network(every_example(inputs, some)) for some in _few(features, EXAMPLES_AT_ONCE // count)])
    return found.view(-1, count, found.shape[-1])


def voted(probabilities: Tensor, how: Vote) -> Tensor:
    """Class probabilities of clips, ``(n, K)``, of those of their patches, ``(n, patch, K)``; rows sum to 1.

    ``mean``: ``q = mean_p p``. ``majority``: ``q = (v + mean_p p / 2) / (P + 1/2)`` with the number of patches ``v_k``,
    of P, whose likeliest class is k: the largest is the class with most votes, and of several with as many, the one
    with the largest sum of probabilities. One patch, or a whole clip, is not voted on.

    References
    ----------
    huang2019, section 3: every patch votes; ties are not spoken of there.
    """
    mean = probabilities.mean(dim=1)
    patches, classes = probabilities.shape[1:]
    if how == "mean" or patches == 1:
        return mean
    votes = one_hot(probabilities.argmax(dim=2), classes).sum(dim=1)
    return (votes + mean / 2) / (patches + 0.5)


def _few(features: Sequence[Tensor], clips: int) -> Iterator[tuple[Tensor, ...]]:
    size = max(1, clips)
    for start in range(0, max(1, len(features[0])), size):
        yield tuple(x[start : start + size] for x in features)
