"""What training minimises: cross-entropy and focal losses over a heated-up softmax, and binary ones of tags."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ascschemas.problems import Difference, RecipeError
from ascschemas.training import BinaryCrossEntropy, CrossEntropy, Focal

Objective = Focal | CrossEntropy | BinaryCrossEntropy
Loss = Callable[[Tensor, Tensor], Tensor]
"""``(logits (B, K), labels (B, K)) -> scalar``, the mean of a batch; labels are one-hot, mixtures that sum to 1, or
tags from 0 to 1. Of two heads, ``(B, 2, K)`` and ``(B, 2, K + 1)`` as ``ascmodels.tagging.by_head`` makes them."""


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    form: Literal["per_class", "target_probability"] = "per_class",
    gamma: float = 0.0,
    alpha: Tensor | None = None,
    eps: float = 0.0,
    temperature: float = 1.0,
) -> Tensor:
    r"""Mean focal loss of a batch.

    With ``p = softmax(z / T)``:

    - ``per_class``: ``L = -sum_j alpha_j (1 - p_j)^gamma y_j ln p_j``;
    - ``target_probability``: ``L = -alpha_t (1 - p_t)^gamma ln p_t`` with ``p_t = sum_j y_j p_j`` and
      ``alpha_t = sum_j y_j alpha_j``.

    They are equal for one-hot labels and differ for mixtures, of which the first is the mixture of the losses.
    ``gamma = 0`` of the first is cross-entropy. With ``eps``, ``1 - p + eps`` and ``ln(p + eps)``.

    Parameters
    ----------
    logits : Tensor, shape ``(B, K)``
        The network's outputs z.
    labels : Tensor, shape ``(B, K)``
        One-hot labels or mixtures of them.
    form : str
        Which of the two.
    gamma : float
        Focusing exponent, at least 0.
    alpha : Tensor, shape ``(K,)``, optional
        A weight per class; without it, 1.
    eps : float
        Added to p inside the power and the logarithm; with 0 both are computed without cancellation.
    temperature : float
        T > 0 of the heated-up softmax.

    Returns
    -------
    Tensor, scalar
        Mean over the batch.

    Examples
    --------
    >>> z = torch.tensor([[0.9, 0.1]]).log()
    >>> round(float(focal_loss(z, torch.tensor([[1.0, 0.0]]), gamma=1.0)), 7)
    0.0105361

    References
    ----------
    nguyen2020 Eq. 2 (per class); yang2018 Eq. 3-5 and ye2019 Eq. 3 (target probability).
    """
    log_p = torch.log_softmax(logits / temperature, dim=1)  # (B, K)
    weights = torch.ones_like(log_p[0]) if alpha is None else alpha.to(log_p.dtype)
    if form == "target_probability":
        tiny = torch.finfo(log_p.dtype).tiny
        log_p = (labels * log_p.exp()).sum(1, keepdim=True).clamp_min(tiny).log()  # (B, 1)
        per_target = (labels * weights).sum(1, keepdim=True)  # (B, 1)
    else:
        per_target = labels * weights  # (B, K)
    if eps:
        p = log_p.exp()
        return -(per_target * (1 - p + eps).clamp_min(0) ** gamma * (p + eps).log()).sum(1).mean()
    return -(per_target * _missing(log_p, gamma) * log_p).sum(1).mean()


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """``mean_bk (ln(1 + exp(z_bk)) - y_bk z_bk)``, or the sum of it over two heads.

    Of two heads, labels hold for each head h the tags ``t_bhk`` and, last, how much ``w_bh`` of a clip is its own; then
    it is ``2 mean_bk sum_h (w_bh ln(1 + exp(z_bhk)) - t_bhk z_bhk)``. As the loss is linear in labels, a mixture of
    clips costs what its parts do, each at its own head; and where half of the clips are each head's, it is the sum of
    the means over either half.

    Parameters
    ----------
    logits : Tensor, shape ``(B, K)`` or ``(B, 2, K)``
        The network's outputs z.
    labels : Tensor, shape ``(B, K)`` or ``(B, 2, K + 1)``
        Tags y from 0 to 1.

    References
    ----------
    akiyama2019: the loss of curated labels at one head, and of noisy ones at another.
    """
    if logits.dim() == 2:
        return (softplus(logits) - labels * logits).mean()
    tags, own = labels[..., :-1], labels[..., -1:]
    return 2 * (own * softplus(logits) - tags * logits).sum(dim=1).mean()


def objective(spec: Objective, classes: Sequence[str], device: torch.device) -> Loss:
    """The loss that a training recipe asks for.

    Parameters
    ----------
    spec : Focal, CrossEntropy or BinaryCrossEntropy
        The objective.
    classes : sequence of str
        Labels in the order of the network's outputs.
    device : torch.device
        Where logits are.

    Raises
    ------
    RecipeError
        When a class has no weight, or a list has another number of them.
    """
    if isinstance(spec, BinaryCrossEntropy):
        return binary_cross_entropy
    if isinstance(spec, CrossEntropy):
        return lambda logits, labels: focal_loss(logits, labels, temperature=spec.temperature)
    alpha = _class_weights(spec.alpha, classes, device)
    return lambda logits, labels: focal_loss(
        logits, labels, form=spec.form, gamma=spec.gamma, alpha=alpha, eps=spec.eps, temperature=spec.temperature
    )


def probabilities(logits: Tensor, spec: Objective) -> Tensor:
    """What a network was trained to give: ``softmax(z / T)`` over classes, the last axis; of tags, ``sigmoid(z)``."""
    if isinstance(spec, BinaryCrossEntropy):
        return torch.sigmoid(logits)
    return torch.softmax(logits / spec.temperature, dim=-1)


def _missing(log_p: Tensor, gamma: float) -> Tensor:
    """``(1 - p)^gamma``; ``expm1`` keeps the digits of p near 1, and the floor keeps its gradient finite at p = 1."""
    if gamma == 0:
        return torch.ones_like(log_p)
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny) ** gamma


def _class_weights(
    alpha: tuple[float, ...] | dict[str, float] | None, classes: Sequence[str], device: torch.device
) -> Tensor | None:
    if alpha is None:
        return None
    if isinstance(alpha, dict):
        without = [name for name in classes if name not in alpha]
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        expected, found = "a weight for every class", f"none for {', '.join(without[:5])}{more}"
    else:
        without = [*classes] if len(alpha) != len(classes) else []
        expected, found = f"{len(classes)} weights", str(len(alpha))
    if without:
        raise RecipeError(
            "The objective weighs other classes than the store has.",
            differences=[Difference(field="objective.alpha", expected=expected, found=found)],
            todo="Give one weight per class, by name or in alphabetical order, or none: --set objective.alpha=none.",
        )
    weights = [alpha[name] for name in classes] if isinstance(alpha, dict) else alpha
    return torch.tensor(weights, dtype=torch.float32, device=device)
