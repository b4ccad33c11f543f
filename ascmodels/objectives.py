"""What training minimises: cross-entropy and both forms of the focal loss, over a heated-up softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ascschemas.problems import Difference, RecipeError
from ascschemas.training import CrossEntropy, Focal

Loss = Callable[[Tensor, Tensor], Tensor]
"""``(logits (B, K), labels (B, K)) -> scalar``; labels are one-hot or mixtures that sum to 1."""


def focal_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    form: Literal["per_class", "target_probability"] = "per_class",
    gamma: float = 0.0,
    alpha: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    r"""Mean focal loss of a batch.

    With ``p = softmax(z / T)``:

    - ``per_class``: ``L = -sum_j alpha_j (1 - p_j)^gamma y_j ln p_j``;
    - ``target_probability``: ``L = -alpha_t (1 - p_t)^gamma ln p_t`` with ``p_t = sum_j y_j p_j`` and
      ``alpha_t = sum_j y_j alpha_j``.

    They are equal for one-hot labels and differ for mixtures. ``gamma = 0`` of the first is cross-entropy.

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
    weights = torch.ones_like(log_p[0]) if alpha is None else alpha
    if form == "target_probability":
        tiny = torch.finfo(log_p.dtype).tiny
        log_p = (labels * log_p.exp()).sum(1, keepdim=True).clamp_min(tiny).log()  # (B, 1)
        per_target = (labels * weights).sum(1, keepdim=True)  # (B, 1)
    else:
        per_target = labels * weights  # (B, K)
    return -(per_target * _missing(log_p, gamma) * log_p).sum(1).mean()


def objective(spec: Focal | CrossEntropy, n_classes: int, device: torch.device) -> Loss:
    """The loss that a training recipe asks for.

    Raises
    ------
    RecipeError
        When there are not as many class weights as classes.
    """
    if isinstance(spec, CrossEntropy):
        return lambda logits, labels: focal_loss(logits, labels, temperature=spec.temperature)
    alpha = _class_weights(spec.alpha, n_classes, device)
    return lambda logits, labels: focal_loss(
        logits, labels, form=spec.form, gamma=spec.gamma, alpha=alpha, temperature=spec.temperature
    )


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """``softmax(z / T)`` over classes, the last axis: the probabilities that the network was trained to give."""
    return torch.softmax(logits / temperature, dim=-1)


def _missing(log_p: Tensor, gamma: float) -> Tensor:
    """``(1 - p)^gamma``; ``expm1`` keeps the digits of p near 1, and the floor keeps its gradient finite at p = 1."""
    if gamma == 0:
        return torch.ones_like(log_p)
    return (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny) ** gamma


def _class_weights(alpha: tuple[float, ...] | None, n_classes: int, device: torch.device) -> Tensor | None:
    if alpha is None:
        return None
    if len(alpha) != n_classes:
        raise RecipeError(
            "The objective weighs another number of classes than the store has.",
            differences=[Difference(field="objective.alpha", expected=f"{n_classes} weights", found=str(len(alpha)))],
            todo="Give one weight per class in alphabetical class order, or none.",
        )
    return torch.tensor(alpha, dtype=torch.float32, device=device)
