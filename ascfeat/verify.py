"""Recomputing a sealed store: some of its clips again, from the recordings, in float64, on any machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ascfeat.certificate import Recomputed, Reference, comparisons, drawn, recompute, references
from ascfeat.datasets.tree import Tree
from ascfeat.store import Problem, Store
from ascschemas.certificate import Comparison
from ascschemas.dataset import Manifest
from ascschemas.problems import Difference, StoreError, StoreMismatch


@dataclass(frozen=True)
class Recomputation:
    """What came of computing some clips of a store again."""

    clips: int
    """Clips that were compared."""
    comparisons: tuple[Comparison, ...]
    """As in a certificate, over these clips; none where no clip could be compared."""
    problems: tuple[Problem, ...]
    """Clips whose recording is another or gone, and clips that are further off than the tolerance, by name."""


def recomputed(
    store: Store,
    tree: Tree,
    manifest: Manifest,
    share: float | int,
    *,
    threads: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Recomputation:
    """Compute a share of a store's clips again and compare; nothing is written, and no GPU is needed.

    Parameters
    ----------
    store : Store
        From ``open_store``, so that it is sealed.
    tree, manifest
        The dataset that it was made from.
    share : float or int
        A share of the usable clips between 0 and 1, or a number of them; the first in the order of the SHA-256 of
        their ids, which are those of the certificate and more. At least one.
    threads : int
        Clips under way at once.
    progress : callable
        Given the number of clips that are done.

    Raises
    ------
    StoreMismatch
        When the dataset lacks clips of the store.
    StoreError
        When the store holds what no recording gives: tags.
    """
    _refuse_tags(store)
    _refuse_other_dataset(store, tree, manifest)
    records = list(store.records())
    ways = references(store)
    order = drawn(store, records)
    sample = order[: count_of(share, len(order))]
    done = recompute(store, tree, sample, ways, records=records, threads=threads, progress=progress)
    apart = [found.apart for found in done if found.problem is None]
    return Recomputation(
        len(apart), comparisons(ways, apart), tuple(p for found in done for p in _problems(found, ways))
    )


def count_of(share: float | int, usable: int) -> int:
    """Clips that a share of the usable ones is, rounded up, or a number of them; at least one, at most all.

    Examples
    --------
    >>> count_of(0.01, 250), count_of(7, 250), count_of(7, 5)
    (3, 7, 5)
    """
    wanted = share if isinstance(share, int) else math.ceil(share * usable)
    return min(max(1, wanted), usable)


def _problems(found: Recomputed, ways: Sequence[Reference]) -> list[Problem]:
    if found.problem is not None:
        return [found.problem]
    return [
        Problem(
            "different",
            found.clip,
            f"relative difference {apart.relative:.3g} from {way.against}, at most {way.tolerance:g} is expected",
        )
        for way, apart in zip(ways, found.apart, strict=True)
        if way.tolerance is not None and apart.relative > way.tolerance
    ]


def _refuse_tags(store: Store) -> None:
    if store.header.recipe.representation.kind == "tags":
        raise StoreError(
            f"{store.place} holds tags, which are made elsewhere: no recording gives them again.",
            todo="Verify it without recomputing.",
        )


def _refuse_other_dataset(store: Store, tree: Tree, manifest: Manifest) -> None:
    here = {clip.id for clip in manifest.clips}
    gone = [clip for clip in store.ids if clip not in here]
    if gone:
        raise StoreMismatch(
            f"{tree.root} is not the dataset that {store.place} was made from.",
            differences=[
                Difference(
                    field="clips of the store",
                    expected=f"all {len(store.ids)} in {store.header.dataset}",
                    found=f"{len(gone)} not in {manifest.dataset}, first {gone[0]}",
                )
            ],
            todo=f"Give the folder of {store.header.dataset}.",
        )
