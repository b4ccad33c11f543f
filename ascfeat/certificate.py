"""Parity certificates: what lies in a store against the same features computed again in float64, by other code."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ascfeat.audio import decode, digest, read
from ascfeat.datasets.tree import Tree
from ascfeat.dsp.backends import fastest
from ascfeat.dsp.devices import cuda_version, device_name
from ascfeat.representations import Representation, representation
from ascfeat.store import Problem, ProblemKind, Store
from ascfeat.work import Target, ordered, transforms
from ascschemas.certificate import Certificate, Comparison
from ascschemas.problems import AudioError, Difference, StoreError
from ascschemas.recipe import Decode
from ascschemas.store import ClipRecord, StoreHeader

Values = npt.NDArray[np.float32]

REFERENCE = "librosa"
"""The backend that certificates are made with."""
SAMPLE, TRIES = 3, 12
"""Clips that a certificate compares, and those that are looked at to find as many unchanged; of a store that corrects
devices one of each device, where these are more."""
TOLERANCE = 1e-5
"""Largest relative difference of a backend that computes in full float32 (2e-6 measured); TF32 gives 4e-5 and more."""
WRONG = 1e-2
"""Relative difference of a store that is not sealed: no rounding gets there."""
SILENT = 1e-15
"""Values whose root mean square is below it are silence: rounding there is no difference."""
RELATED: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "cqt": {"librosa's recursive algorithm": {"algorithm": "recursive"}},
}
"""Kind -> what else its values are compared with, for information -> the parameters that make it."""


@dataclass(frozen=True)
class Reference:
    """One way to compute a store's features again."""

    against: str
    target: Target
    tolerance: float | None


@dataclass(frozen=True)
class Apart:
    """How far one clip's stored values lie from recomputed ones; the fields are those of ``Comparison``, unrounded."""

    max: float
    p99: float
    mean: float
    relative: float
    relative_max: float
    correlation: float | None


@dataclass(frozen=True)
class Recomputed:
    """One clip, computed again by every reference, or the problem that kept it from being compared."""

    clip: str
    apart: tuple[Apart, ...] = ()
    problem: Problem | None = None


def certify(store: Store, tree: Tree, *, device: str) -> Certificate | None:
    """The certificate of a whole store; None where no reference computes its representation.

    A recording that is no longer the one in the ledger is passed over.

    Parameters
    ----------
    store : Store
        Every unit done; it need not be sealed.
    tree : Tree
        The recordings that it was made from.
    device : str
        ``cpu`` or ``cuda:i``, where it was computed.

    Raises
    ------
    StoreError
        When its values are not those features: their difference from the reference is larger than any rounding.
    """
    if REFERENCE not in representation(store.header.recipe.representation).backends:
        return None
    records = list(store.records())
    size = max(SAMPLE, len({*store.recorders.values()}))
    sample = list(islice(_unchanged(store, tree, records, size - SAMPLE + TRIES), size))
    if not sample:
        return None
    ways = references(store)
    done = recompute(store, tree, sample, ways, records=records, threads=min(SAMPLE, os.cpu_count() or 1))
    _refuse_unread(store, done)
    found = comparisons(ways, [r.apart for r in done if r.problem is None])
    _refuse_wrong(store, found)
    return Certificate(
        reference=ways[0].against,
        clips=tuple(r.clip for r in done if r.problem is None),
        unit=store.header.layout.quantity,
        comparisons=found,
        backend=store.header.backend,
        device=device_name(device),
        software={**store.header.software, **_versions("librosa", "scipy"), **cuda_version(device)},
        tf32=_tf32(store.header),
    )


def _tf32(header: StoreHeader) -> Literal["off", "on"]:
    """State of TensorFloat-32 in what computed a store; only torch has such a thing."""
    if "torch" not in header.software:
        return "off"
    from ascfeat.dsp.torch_backend.arithmetic import tf32

    return tf32()


def drawn(store: Store, records: Sequence[ClipRecord | None]) -> list[int]:
    """Positions of the clips that hold values, in the order of their ids' SHA-256: any first few are a fair sample.

    Of a store that corrects devices, one of each device in turn: each has a transform of its own.
    """
    usable = [i for i, r in enumerate(records) if r is not None and not r.excluded]
    order = sorted(usable, key=lambda i: hashlib.sha256(store.ids[i].encode()).digest())
    if not (devices := store.recorders):
        return order
    seen, turn = Counter[str](), dict[int, int]()
    for i in order:
        device = devices[store.ids[i]]
        turn[i] = seen[device]
        seen[device] += 1
    return sorted(order, key=turn.__getitem__)


def references(store: Store) -> tuple[Reference, ...]:
    """Every way to compute a store's features again: in ``REFERENCE``, or by their own code where it does not."""
    header, devices = store.header, store.recorders
    kind = representation(header.recipe.representation)
    backend, name = fastest(kind.backends, "cpu"), "the recordings, by the same code"
    if REFERENCE in kind.backends:
        backend, name = REFERENCE, f"{REFERENCE} {version(REFERENCE)}, float64"

    def computed(kind: Representation) -> Target:
        plain, corrected = transforms(header, kind, device="cpu", backend=backend)
        return Target(header, plain, corrected=corrected, devices=devices)

    found = [Reference(name, computed(kind), getattr(kind, "tolerance", TOLERANCE))]
    for name, changes in RELATED.get(header.recipe.representation.kind, {}).items():
        other = representation(header.recipe.representation.model_copy(update=dict(changes)))
        if other != kind:
            found.append(Reference(name, computed(other), None))
    return tuple(found)


def recompute(
    store: Store,
    tree: Tree,
    positions: Sequence[int],
    ways: Sequence[Reference],
    *,
    records: Sequence[ClipRecord | None],
    threads: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Recomputed]:
    """Compute clips again from their recordings and compare them with what the store holds, in the order given."""

    def one(position: int) -> Recomputed:
        clip, record = store.ids[position], records[position]
        try:
            data = read(tree, clip)
            if record is None or digest(data) != record.source:
                raise AudioError("different", f"{clip} is not the recording that it was made from.", todo="")
            recording, cache = decode(data, clip), dict[Decode, Values]()
            expected = [way.target.features(recording, clip, cache) for way in ways]
            stored = store.read([position])[0]
        except AudioError as error:
            return Recomputed(clip, problem=_problem(clip, error))
        except StoreError as error:
            return Recomputed(clip, problem=Problem("damaged", clip, error.what))
        return Recomputed(clip, tuple(apart(stored, e, rounding=allowed) for e in expected))

    allowed, found = rounding(store.header), []
    with warnings.catch_warnings():  # librosa warns of clips shorter than its window, which it computes well
        warnings.simplefilter("ignore")
        for done, clip in enumerate(ordered(one, positions, threads=threads), start=1):
            found.append(clip)
            progress(done)
    return found


def rounding(header: StoreHeader) -> float:
    """How far a store's precision may move a value, in the features' unit; 0 where it keeps them exactly."""
    log, off = header.layout.log, header.encoding.tolerance
    return off / log.decibels if log is not None and off is not None else 0.0


def apart(stored: Values, expected: Values, *, rounding: float = 0.0) -> Apart:
    """How far two arrays of one clip's features lie apart; ``relative`` leaves out what the precision rounds."""
    x, y = stored.astype(np.float64), expected.astype(np.float64)
    difference = np.abs(x - y)
    rms, p99, largest = np.sqrt(np.mean(y**2)), np.quantile(difference, 0.99), difference.max()
    return Apart(
        max=float(largest),
        p99=float(p99),
        mean=float(difference.mean()),
        relative=float(max(p99 - rounding, 0.0) / max(rms, SILENT)),
        relative_max=float(largest / np.abs(y).max() if rms else largest),
        correlation=_correlation(x, y, float(rms)),
    )


def comparisons(ways: Sequence[Reference], clips: Sequence[Sequence[Apart]]) -> tuple[Comparison, ...]:
    """The worst of several clips, for each reference; none where there are no clips."""
    return tuple(_worst(way, [clip[i] for clip in clips]) for i, way in enumerate(ways if clips else ()))


def _worst(way: Reference, clips: Sequence[Apart]) -> Comparison:
    correlations = [c.correlation for c in clips if c.correlation is not None]
    return Comparison(
        against=way.against,
        max=_significant(max(c.max for c in clips)),
        p99=_significant(max(c.p99 for c in clips)),
        mean=_significant(max(c.mean for c in clips)),
        relative=_significant(max(c.relative for c in clips)),
        relative_max=_significant(max(c.relative_max for c in clips)),
        correlation=round(min(correlations), 9) if correlations else None,
        tolerance=way.tolerance,
    )


def _refuse_unread(store: Store, done: Sequence[Recomputed]) -> None:
    for clip in done:
        if clip.problem is not None and clip.problem.kind == "damaged":
            raise StoreError(
                f"{store.place} is not sealed: what it holds of {clip.clip} does not read: {clip.problem.detail}",
                todo="Remove it and extract again; if that happens again, check the disk.",
            )


def _refuse_wrong(store: Store, found: Sequence[Comparison]) -> None:
    for comparison in found:
        if comparison.tolerance is not None and comparison.relative > max(WRONG, comparison.tolerance):
            raise StoreError(
                f"{store.place} is not sealed: its values are not {store.header.layout.quantity}.",
                differences=[
                    Difference(
                        field=f"relative difference from {comparison.against}",
                        expected=f"at most {comparison.tolerance:g}",
                        found=f"{comparison.relative:g}",
                    )
                ],
                todo=f"Remove it and extract with another --backend than {store.header.backend.split('-')[0]}.",
            )


def _unchanged(store: Store, tree: Tree, records: Sequence[ClipRecord | None], tries: int) -> Iterator[int]:
    """Of the first clips drawn, those whose recordings still are what the ledger says."""
    for position in drawn(store, records)[:tries]:
        record = records[position]
        try:
            if record is not None and digest(read(tree, store.ids[position])) == record.source:
                yield position
        except AudioError:
            continue


def _problem(clip: str, error: AudioError) -> Problem:
    kinds: dict[str, ProblemKind] = {"missing": "missing", "different": "different"}
    return Problem(kinds.get(error.reason, "damaged"), clip, error.what.removeprefix(f"{clip} "))


def _correlation(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], rms: float) -> float | None:
    """Correlation of all values; None where either hardly varies, because then only rounding would be correlated."""
    if min(x.std(), y.std()) <= 1e-3 * rms:
        return None
    return float(np.clip(np.corrcoef(x.ravel(), y.ravel())[0, 1], -1, 1))


def _significant(value: float) -> float:
    """A number of three significant digits: sums in another order must not change a certificate's bytes."""
    return float(f"{value:.3g}")


def _versions(*packages: str) -> dict[str, str]:
    return {name: version(name).split("+")[0] for name in packages}
