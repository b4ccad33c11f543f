"""Clips with several tags: labels as rows of zeros and ones, and label-weighted label-ranking average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ascmodels.metrics import Z95, mean_accuracy
from ascmodels.source import Clips, ClipTable
from ascschemas.dataset import tags_of
from ascschemas.report import Accuracies, Score

Rows = npt.NDArray[np.floating]
AT_ONCE = 256
"""Clips that are ranked together: each takes the square of the number of tags."""


def multi_hot(labels: Sequence[str], classes: Sequence[str]) -> npt.NDArray[np.float32]:
    """Which tags each label lists, ``(n, K)``; a tag that is no class is left out.

    Examples
    --------
    >>> multi_hot(["b,a", "c", ""], ["a", "b"]).tolist()
    [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    number = {name: k for k, name in enumerate(classes)}
    rows = np.zeros((len(labels), len(classes)), dtype=np.float32)
    for row, label in zip(rows, labels, strict=True):
        row[[number[tag] for tag in tags_of(label) if tag in number]] = 1
    return rows


def by_head(tags: Tensor, second: Tensor) -> Tensor:
    """What each of two heads learns of clips: ``(B, 2, K + 1)``, a head's tags and then how much the clip counts.

    A clip is one head's alone: in the other's row all is 0. Mixtures of such rows say of each head how much of the
    mixture is its own, and which tags that part has.

    Parameters
    ----------
    tags : Tensor, shape ``(B, K)``
        Zeros and ones.
    second : Tensor of bool, shape ``(B,)``
        Which clips are the second head's.
    """
    whole = torch.cat([tags, torch.ones_like(tags[:, :1])], dim=1)
    own = torch.stack([~second, second], dim=1).to(tags)  # (B, 2)
    return own.unsqueeze(2) * whole.unsqueeze(1)


def precisions(scores: Tensor, tags: Tensor) -> Tensor:
    """Of each tag that a clip has, the share of the clip's tags among all that are scored as high or higher.

    ``q_bk = #{j: y_bj = 1, s_bj >= s_bk} / #{j: s_bj >= s_bk}`` where ``y_bk = 1``, else 0. The sum over clips and tags
    divided by the number of ones is the label-weighted label-ranking average precision (lwlrap); divided tag by tag it
    is each tag's.

    Parameters
    ----------
    scores : Tensor, shape ``(B, K)``
        The higher, the likelier: logits or probabilities.
    tags : Tensor, shape ``(B, K)``
        More than 0 where the clip has the tag.

    References
    ----------
    Fonseca et al., *Audio tagging with noisy labels and minimal supervision*, DCASE 2019, section 4.1;
    ``sklearn.metrics.label_ranking_average_precision_score`` treats ties so.

    Examples
    --------
    >>> precisions(torch.tensor([[0.9, 0.5, 0.2]]), torch.tensor([[1, 0, 1]]))
    tensor([[1.0000, 0.0000, 0.6667]])
    """
    has = (tags > 0).to(scores.dtype)
    higher = (scores.unsqueeze(1) >= scores.unsqueeze(2)).to(scores.dtype)  # (B, k, j): s_j >= s_k
    own = torch.einsum("bkj,bj->bk", higher, has)
    return has * own / higher.sum(dim=2)


def ranked(logits: Tensor, tags: Tensor) -> tuple[float, float]:
    """Sum of a batch's precisions, and how many there are, of one head ``(B, K)`` or of both, ``(B, 2, K)``."""
    if logits.dim() == 3:
        logits, tags = logits.flatten(0, 1), tags[..., :-1].flatten(0, 1)  # the other head's rows have no tag
    return float(precisions(logits.double(), tags).sum()), float((tags > 0).sum())


def lwlrap(name: str, precise: Rows, has: Rows) -> Score:
    """Label-weighted label-ranking average precision of some clips, with its interval.

    Parameters
    ----------
    name : str
        Which clips, or which tag.
    precise, has : arrays, shape ``(n, K)``
        As :func:`precisions` gives them, and which tags clips have; at least one.

    Returns
    -------
    Score
        ``correct`` is the sum of precisions, ``total`` the number of labels. The interval is the normal one of a
        ratio of sums over clips: ``R ± 1.96 s``, ``s² = n/(n-1) sum_c (a_c - R m_c)² / (sum_c m_c)²`` with a clip's sum
        of precisions ``a_c`` and its number of tags ``m_c``. Two clips that are all right and two that are all wrong
        are counted in, so that a few clips that are all right do not make a tag certain.

    References
    ----------
    Cochran, *Sampling Techniques*, 1977, section 2.11: the variance of a ratio. Agresti, Coull, *Approximate is better
    than "exact" for interval estimation of binomial proportions*, 1998: the four that are counted in.
    """
    of_clips = has.sum(axis=1) > 0
    a, m = precise[of_clips].sum(axis=1, dtype=np.float64), has[of_clips].sum(axis=1, dtype=np.float64)
    total = int(m.sum())
    value = min(1.0, float(a.sum()) / total)
    low, high = _interval(np.r_[a, m.mean() * np.array([1, 1, 0, 0])], np.r_[m, [m.mean()] * 4])
    return Score(
        name=name,
        correct=value * total,
        total=total,
        accuracy=value,
        low=max(0.0, min(low, value)),
        high=min(1.0, max(high, value)),
    )


def _interval(a: npt.NDArray[np.float64], m: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The normal 95 % interval of ``sum a / sum m``."""
    n, ratio = len(m), a.sum() / m.sum()
    reach = Z95 * math.sqrt(((a - ratio * m) ** 2).sum() * n / (n - 1)) / m.sum()
    return float(ratio - reach), float(ratio + reach)


def lwlraps(source: ClipTable, clips: Clips, probabilities: Rows, classes: Sequence[str]) -> Accuracies:
    """Every lwlrap of some scored clips: of all, of each tag that they have, and by device and city.

    Parameters
    ----------
    source : ClipTable
        Where their labels, devices and cities are.
    clips : array of int
        Positions.
    probabilities : array, shape ``(n, K)``
        Of each tag.
    classes : sequence of str
        The tags in the order of these columns.
    """
    has = multi_hot([source.labels[c] for c in clips], classes)
    said, own = torch.from_numpy(np.asarray(probabilities, np.float64)), torch.from_numpy(has)
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(has), AT_ONCE)]
    precise = torch.cat([precisions(said[part], own[part]) for part in parts]).numpy()
    per_tag = tuple(
        lwlrap(name, precise[:, k : k + 1], has[:, k : k + 1]) for k, name in enumerate(classes) if has[:, k].any()
    )
    return Accuracies(
        overall=lwlrap("overall", precise, has),
        classes=per_tag,
        devices=_by_group([source.devices[c] for c in clips], precise, has),
        cities=_by_group([source.cities[c] for c in clips], precise, has),
        class_mean=mean_accuracy(per_tag),
        confusion=None,
    )


def _by_group(groups: Sequence[str], precise: Rows, has: Rows) -> tuple[Score, ...]:
    of = np.asarray(groups)
    return tuple(lwlrap(name, precise[of == name], has[of == name]) for name in sorted({*groups} - {""}))
