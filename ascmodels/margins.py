"""What a fitted support vector machine computes: vectors standardised, decision values, probabilities; only numbers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ascmodels.pooling import Poolings
from ascschemas.problems import RunError

Vectors = npt.NDArray[np.float64]
"""Vectors of clips, or their decision values, ``(n, ...)``."""

COMMON, LINEAR = ("mean", "scale", "inverse_temperature", "intercept"), ("weights",)
RADIAL = ("support", "counts", "duals", "gamma")
SIGMOID = (*RADIAL, "offset")
AT_ONCE = 1024
"""Vectors decided at once."""
STEPS = 80
"""Halvings of the interval that the temperature lies in: more than its bits."""


class Machine(nn.Module):
    """A support vector machine as its numbers in float64: whoever has them needs no scikit-learn, and runs no pickle.

    Linear, one against the rest: ``d = W z + b`` with ``z = (v - mean) / scale``. With a kernel, one against one:
    ``f_ij = sum_s a_s k(z, s) + b_ij``, then votes and, to break ties, the squashed sum of a class's ``f``, as
    ``decision_function`` of scikit-learn's ``SVC`` has it. The kernel is radial, ``exp(-gamma |z - s|^2)``, or, where
    there is an ``offset``, ``tanh(gamma z . s + offset)``.

    Parameters
    ----------
    numbers : mapping of str to Tensor
        Float64 tensors: ``mean``, ``scale``, ``inverse_temperature``, ``intercept`` and ``weights``, or ``support``
        ``(S, D)`` in order of class, ``counts`` ``(K,)``, ``duals`` ``(K - 1, S)``, ``gamma`` and, for the sigmoid
        kernel, ``offset``.

    Raises
    ------
    RunError
        When these are not such numbers.
    """

    inverse_temperature: Tensor

    def __init__(self, numbers: Mapping[str, Tensor]) -> None:
        super().__init__()
        if {*numbers} not in ({*COMMON, *LINEAR}, {*COMMON, *RADIAL}, {*COMMON, *SIGMOID}):
            raise RunError(
                f"A checkpoint holds {', '.join(sorted(numbers))}, and no support vector machine.",
                todo="Restore it from a copy, or train again.",
            )
        for name, values in numbers.items():
            self.register_buffer(name, values)

    @property
    def kernel(self) -> str:
        """``linear``, ``rbf`` or ``sigmoid``."""
        return "sigmoid" if hasattr(self, "offset") else "rbf" if hasattr(self, "support") else "linear"

    def at(self, inverse_temperature: float) -> Machine:
        """The same machine at another temperature."""
        sharp = torch.tensor(inverse_temperature, dtype=torch.float64)
        return Machine({**self.state_dict(), "inverse_temperature": sharp})

    def decide(self, vectors: Tensor) -> Tensor:
        """Decision values ``(n, K)`` of vectors ``(n, D)``: the largest is the class."""
        z = (vectors - self.get_buffer("mean")) / self.get_buffer("scale")
        d = self._linear(z) if self.kernel == "linear" else self._against(z)
        return torch.cat([-d, d], dim=1) if d.shape[1] == 1 else d  # two classes have one value between them

    def forward(self, vectors: Tensor) -> Tensor:
        """Probabilities ``(n, K)``: ``softmax(d / T)``."""
        return torch.softmax(self.decide(vectors) * self.inverse_temperature, dim=1)

    def _linear(self, z: Tensor) -> Tensor:
        return z @ self.get_buffer("weights").T + self.get_buffer("intercept")

    def _against(self, z: Tensor) -> Tensor:
        """Decision values of one class against another, made one a class."""
        similar, counts = self._similar(z), [int(n) for n in self.get_buffer("counts").tolist()]
        duals, intercept = self.get_buffer("duals"), self.get_buffer("intercept")
        if len(counts) == 2:
            return similar @ duals.T + intercept
        parts = zip(torch.split(similar, counts, dim=1), torch.split(duals, counts, dim=1), strict=True)
        against = [k @ a.T for k, a in parts]  # of each class: its support vectors against each of the others
        pairs = combinations(range(len(counts)), 2)
        biased = zip(pairs, intercept, strict=True)
        return _voted({(i, j): against[i][:, j - 1] + against[j][:, i] + b for (i, j), b in biased})

    def _similar(self, z: Tensor) -> Tensor:
        """The kernel of vectors ``(n, D)`` and support vectors, ``(n, S)``."""
        support, gamma = self.get_buffer("support"), self.get_buffer("gamma")
        if self.kernel == "sigmoid":
            return torch.tanh(gamma * (z @ support.T) + self.get_buffer("offset"))
        squares = z.square().sum(1, keepdim=True) - 2 * z @ support.T + support.square().sum(1)
        return torch.exp(-gamma * squares.clamp(min=0))


class PooledMachine(nn.Module):
    """Features as stored in, probabilities out.

    Parameters
    ----------
    pooling : Poolings
        Maps features of each store, ``(B, *layout.shape)``, to vectors ``(B, D)``.
    machine : Machine
        Maps vectors to probabilities.
    """

    def __init__(self, pooling: Poolings, machine: Machine) -> None:
        super().__init__()
        self.pooling, self.machine = pooling, machine

    def forward(self, *features: Tensor) -> Tensor:
        """Probabilities ``(B, K)``, float32."""
        found: Tensor = self.machine(self.pooling([x.double() for x in features]))
        return found.float()


def inverse_temperature(decisions: Vectors, targets: npt.NDArray[np.int64]) -> float:
    """``1 / T`` of the softmax over decision values that held-off clips are likeliest under.

    Minimises ``mean_i -sum_k y_ik ln softmax(d_i / T)_k``, convex in ``1 / T``, where ``y`` is the one-hot label with
    ``1 / (n + 1)`` of it shared among all classes: of n clips without an error nothing follows that is surer than that.

    Parameters
    ----------
    decisions : array, shape ``(n, K)``
        Decision values of clips that the machine was not fitted to.
    targets : array of int, shape ``(n,)``
        Their classes.

    Returns
    -------
    float
        Between 1e-3, where values say nothing of the classes, and 1e3.

    References
    ----------
    Guo et al., *On Calibration of Modern Neural Networks*, 2017 (the temperature); Platt, *Probabilistic Outputs for
    Support Vector Machines*, 1999 (softened labels).
    """
    n, k = decisions.shape
    wanted = (np.eye(k)[targets] * n + 1 / k) / (n + 1)
    low, high = np.log(1e-3), np.log(1e3)
    for _ in range(STEPS):
        middle = (low + high) / 2
        p = np.exp(log_softmax(decisions * np.exp(middle)))
        steep = float(((p - wanted) * decisions).sum())
        low, high = (middle, high) if steep < 0 else (low, middle)
    return float(np.exp((low + high) / 2))


def decided(machine: Machine, vectors: Vectors) -> Vectors:
    """Decision values ``(n, K)`` of vectors ``(n, D)``, some at a time: each meets every support vector."""
    with torch.inference_mode():
        parts = [machine.decide(part) for part in torch.split(torch.from_numpy(vectors), AT_ONCE)]
    found: Vectors = torch.cat(parts).numpy()
    return found


def log_softmax(values: Vectors) -> Vectors:
    """Logarithms of probabilities whose rows sum to 1."""
    less = values - values.max(axis=1, keepdims=True)
    found: Vectors = less - np.log(np.exp(less).sum(axis=1, keepdims=True))
    return found


def _voted(pairs: Mapping[tuple[int, int], Tensor]) -> Tensor:
    """One value a class of one value a pair: votes, and less than a third for how sure they are."""
    classes = 1 + max(j for _, j in pairs)
    votes, sure = (next(iter(pairs.values())).new_zeros(classes, len(next(iter(pairs.values())))) for _ in "vs")
    for (i, j), value in pairs.items():
        votes[i] += value >= 0
        votes[j] += value < 0
        sure[i] += value
        sure[j] -= value
    return (votes + sure / (3 * (sure.abs() + 1))).T
