"""Repairing a store: exactly what ``verify`` finds broken is made again, and nothing else is touched."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ascfeat.audio import probe, sample_bits
from ascfeat.changes import facts
from ascfeat.datasets.tree import Tree
from ascfeat.extract import run
from ascfeat.jobs import job_for
from ascfeat.lock import exclusive
from ascfeat.plan import keeps_samples, plan
from ascfeat.store import Problem, Store, Writer, build, open_store, root_problems, sound_root, verify
from ascfeat.store.creating import document
from ascfeat.store.metadata import ROOT, SPARE
from ascfeat.store.places import Place
from ascfeat.store.reading import HEADER
from ascschemas.dataset import Manifest
from ascschemas.problems import Difference, StoreError, StoreMismatch, differences
from ascschemas.store import StoreHeader

Dataset = tuple[Tree, Manifest]


@dataclass(frozen=True)
class Repaired:
    """What was wrong with a store, and what became of it."""

    problems: tuple[Problem, ...]
    """What was found, the root's document first."""
    files: tuple[str, ...]
    """Files of the store's structure that were written again."""
    units: tuple[int, ...]
    """Units that were computed again."""
    same: bool
    """Whether the store now holds what it held when it was sealed, by its digest."""
    left: tuple[Problem, ...] = ()
    """What ``verify`` still finds: what nothing of ours made, a link say, is not ours to remove."""


def repair(
    place: Place,
    dataset: Dataset | None = None,
    *,
    device: str = "auto",
    threads: int = 1,
    wait: Callable[[str], None] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Repaired:
    """Make a sealed store whole again.

    The root is restored from its copy; the metadata and coordinates of arrays from header and dataset; units are
    computed again from their recordings; the seal is made again from the ledger.

    Parameters
    ----------
    place : Place
        The store.
    dataset : Tree and Manifest, optional
        What it was made from; not needed where only the root's document is damaged.
    device : str
        ``auto``, ``cpu`` or ``cuda:i``.
    threads : int
        Units read, and clips computed, at once.
    wait : callable, optional
        Waits for another writer of the store, and is told who it is; without it, that is an error.
    progress : callable
        Given the number of clips that are verified.

    Raises
    ------
    StoreError
        When neither the root nor its copy is whole, the dataset is needed and was not given, or the store is not
        sealed: then ``ascfeat extract`` finishes it.
    StoreMismatch
        When the dataset, or the software, is not what the store was made from and by.
    """
    with exclusive(place, wait=wait) as held:
        place.sweep()
        held.check()
        problems = [*root_problems(place)]
        restored = _restore_root(place) if problems else []
        store = open_store(place)
        sealed = store.seal
        problems += list(verify(store, threads=threads, progress=progress))
        if dataset is None:
            _refuse_without(place, problems)
        if dataset is None or not problems:
            return Repaired(tuple(problems), tuple(restored), (), same=True)
        _refuse_tags(store, problems)
        _refuse_other(store, *dataset, units=any(p.unit is not None for p in problems), device=device)
        held.check()
        if any(p.part == "structure" for p in problems):
            restored += _restore_structure(store, dataset[1], _sound(place))
        units = sorted({p.unit for p in problems if p.unit is not None})
        again = any(p.part in ("unit", "seal") for p in problems)
        if again:
            writer = Writer(place, sweep=False, still_ours=held.check)
            writer.unseal()
            writer.reopen(units)
    if again:
        run(*dataset, [job_for(*dataset, place, store.header)], device=device, threads=threads, wait=wait)
    healed = open_store(place)
    same = healed.seal is not None and sealed is not None and healed.seal.digest == sealed.digest
    left = tuple(verify(healed, threads=threads))
    return Repaired(tuple(problems), tuple(restored), tuple(units), same=same, left=left)


def described(place: Place) -> StoreHeader:
    """The header of a store, from the root's copy where the root is damaged.

    Raises
    ------
    StoreError
        When neither is whole.
    """
    if not place.exists(ROOT) and not place.exists(SPARE):
        return Store(place).header  # which says that there is none
    return StoreHeader.model_validate(json.loads(_sound(place))["attributes"][HEADER])


def _sound(place: Place) -> bytes:
    sound = sound_root(place)
    if sound is None:
        raise StoreError(
            f"{place} cannot be repaired: neither its {ROOT} nor the copy of it, {SPARE}, is whole.",
            todo="Restore it from a copy, or remove it and extract again.",
        )
    return sound


def _restore_root(place: Place) -> list[str]:
    """Write the root's document and its copy as whichever of them is whole; the keys that were written."""
    sound = _sound(place)
    wrong = [key for key in (SPARE, ROOT) if not place.exists(key) or place.read(key) != sound]
    for key in wrong:
        place.write(key, [sound])
    return wrong


def _restore_structure(store: Store, manifest: Manifest, root: bytes) -> list[str]:
    """Write metadata as the root has them, and coordinates as a new store; the keys that were written."""
    written = []
    copies = json.loads(root)["consolidated_metadata"]["metadata"]
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), store.header, manifest)
        for file in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
            key, data = file.relative_to(folder).as_posix(), file.read_bytes()
            if key.removesuffix("/zarr.json") in copies:
                data = document(copies[key.removesuffix("/zarr.json")])
            if key not in (ROOT, SPARE) and (not store.place.exists(key) or store.place.read(key) != data):
                store.place.write(key, [data])
                written.append(key)
    return written


def _refuse_tags(store: Store, problems: Iterable[Problem]) -> None:
    """Refuse before anything is touched: tags are made elsewhere, and no recording gives them again."""
    if store.header.recipe.representation.kind == "tags" and any(p.unit is not None for p in problems):
        raise StoreError(
            f"{store.place} holds tags, which no recording gives again.",
            todo="Restore it from a copy, or remove it and extract it again with --tags.",
        )


def _refuse_without(place: Place, problems: Iterable[Problem]) -> None:
    left = [p for p in problems if p.part != "root"]
    if left:
        raise StoreError(
            f"{place} has {len(left)} problems that only its recordings can heal, first {left[0].where}: "
            f"{left[0].detail}.",
            todo="Name the dataset that it was made from: `ascfeat repair STORE --dataset DIR`.",
        )


def _refuse_other(store: Store, tree: Tree, manifest: Manifest, *, units: bool, device: str) -> None:
    """Refuse a dataset with other clips, and to compute single units by other software than the rest."""
    apart: Sequence[Difference] = ()
    if manifest.fingerprint != store.header.manifest:
        apart = _other_clips(store, manifest)
    elif units:
        here = _planned(store.header, tree, manifest, device)
        apart = differences(_made_by(store.header), _made_by(here))
    if apart:
        raise StoreMismatch(
            f"{store.place} was made from or by something else than what is here.",
            differences=apart,
            todo="Give the dataset as it was, on a machine with that software; or extract the whole store again.",
        )


def _other_clips(store: Store, manifest: Manifest) -> list[Difference]:
    """In what a list of clips is not the one that a store was made from."""
    then, now = {*store.ids}, {c.id for c in manifest.clips}
    apart = [Difference(field="list of clips", expected=store.header.manifest[:16], found=manifest.fingerprint[:16])]
    for field, clips in (("only in the store", then - now), ("only in the dataset", now - then)):
        if clips:
            apart.append(Difference(field=field, expected="no clip", found=f"{len(clips)}, first {min(clips)}"))
    return apart + list(facts(store, manifest))


def _planned(header: StoreHeader, tree: Tree, manifest: Manifest, device: str) -> StoreHeader:
    """The header that an extraction here would write."""
    clips = [c.id for c in manifest.clips]
    backend, _, made_on = header.backend.partition("-")
    audio = probe(tree, clips)
    bits = sample_bits(tree, clips) if keeps_samples(header.recipe, audio) else 0
    on = device if device != "auto" else made_on or "cpu"
    return plan(header.recipe, manifest, audio, backend=backend if made_on else "auto", device=on, bits=bits)


def _made_by(header: StoreHeader) -> dict[str, object]:
    said = header.model_dump(mode="json", include={"audio", "backend", "software", "encoding"})
    return {**said, "recipe": header.recipe_fingerprint}
