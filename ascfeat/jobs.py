"""What there is to do: recipes over a dataset against the stores that exist, found out without writing anything."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ascfeat.audio import digest, probe, read
from ascfeat.datasets.tree import Tree
from ascfeat.dsp.torch_backend.arithmetic import resolve_device
from ascfeat.plan import plan, stored_bytes
from ascfeat.store import Store, store_path, unit_rows
from ascfeat.tags import Given, TagSource, sources_for, with_tags
from ascschemas.dataset import Manifest
from ascschemas.problems import AudioError, Difference, RecipeError, SpaceError, StoreError, StoreMismatch, differences
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord, StoreHeader

Records = dict[str, ClipRecord | None]
"""What the ledger says of each clip, by id, in store order."""
SPOT_CHECKS = 8
"""Recordings, about, whose content is compared with the store's at every start."""


@dataclass(frozen=True)
class Job:
    """One store to be filled: what it will be, and what is missing of it."""

    path: Path
    header: StoreHeader
    pending: tuple[int, ...]
    """Units to compute; none where the store is whole."""
    changed: tuple[str, ...] = ()
    """Clips whose recordings are not those that the store was made from."""
    sealed: bool = False
    tags: TagSource | None = None
    """Where the rows of a store of tags come from."""

    @property
    def clips(self) -> list[int]:
        """Positions of the clips to compute."""
        return [i for u in self.pending for i in range(*unit_rows(self.header, u))]

    @property
    def bytes(self) -> int:
        """What the store will still take on disk."""
        return stored_bytes(self.header, len(self.clips))


def prepare(
    tree: Tree,
    manifest: Manifest,
    recipes: Sequence[FeatureRecipe],
    features: Path,
    *,
    device: str = "auto",
    backend: str = "auto",
    tags: Given | None = None,
) -> list[Job]:
    """Find out what there is to do; nothing is written.

    ``tags`` is what recipes of kind ``tags`` take their rows from, as ``ascfeat.tags.open_tags`` understands it.

    Raises
    ------
    StoreMismatch
        When a store of that name was made from something else; the differing fields are named.
    AscError
        When recipe and recordings do not fit, or no recording can be decoded.
    """
    twice = [name for name, n in Counter(r.name for r in recipes).items() if n > 1]
    if twice:
        raise RecipeError(
            f"{len(recipes)} recipes were given, and several are called {', '.join(twice)}.",
            todo="Give each recipe once, and each a name of its own.",
        )
    at = resolve_device(device)
    audio = probe(tree, [c.id for c in manifest.clips])
    sources = sources_for(recipes, tags, [c.id for c in manifest.clips], audio, device=at)
    whole = [with_tags(r, s) for r, s in zip(recipes, sources, strict=True)]
    headers = [plan(r, manifest, audio, backend=backend, device=at) for r in whole]
    jobs = [job_for(tree, manifest, store_path(features, h.dataset, h.recipe.name), h) for h in headers]
    return [replace(job, tags=source) for job, source in zip(jobs, sources, strict=True)]


def check_space(jobs: Sequence[Job]) -> int:
    """Bytes free where the stores go, after making sure that they hold what is planned.

    Raises
    ------
    SpaceError
        When they do not.
    """
    needed = sum(j.bytes for j in jobs)
    place = next(p for p in (jobs[0].path, *jobs[0].path.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise SpaceError(
            f"The disk of {place} cannot hold the features.",
            differences=[Difference(field="bytes", expected=f"{needed:,} free", found=f"{free:,} free")],
            todo="Free space there, or put the stores elsewhere with --features.",
        )
    return free


def job_for(tree: Tree, manifest: Manifest, path: Path, header: StoreHeader) -> Job:
    """What there is to do for one store, planned as ``header``, against what lies at ``path``."""
    if not path.exists():
        return Job(path, header, tuple(range(header.units)))
    if not (path / "zarr.json").is_file():
        raise StoreError(
            f"{path} is there and is not a feature store: it has no zarr.json.",
            todo="Move it away or remove it, then run the same command again.",
        )
    store = Store(path)
    _refuse_other(store, header, manifest)
    records = dict(zip(store.ids, store.records(), strict=True))
    changed = tuple(_changed(tree, store, records))
    _refuse_other_dataset(tree, store, records, changed)
    pending = sorted({*store.pending(), *units_of(changed, store)})
    return Job(path, store.header, tuple(pending), changed, store.seal is not None)


def units_of(clips: Sequence[str], store: Store) -> list[int]:
    """The units that hold some clips."""
    wanted = set(clips)
    return sorted({i // store.header.clips_per_unit for i, c in enumerate(store.ids) if c in wanted})


def _changed(tree: Tree, store: Store, records: Records) -> Iterator[str]:
    """Clips whose recording is not the one that was read: of another size, or of other content.

    Content is compared where a recording was written after its unit, and for a few recordings always: hashing all of
    a large dataset at every start would take minutes.
    """
    step = max(1, store.header.clips // SPOT_CHECKS)
    for position, (clip, record) in enumerate(records.items()):
        if record is None:
            continue
        size = tree.size(clip) if tree.exists(clip) else 0
        suspect = position % step == 0 or (size and tree.modified(clip) > store.written(position))
        if size != record.source_bytes or (suspect and record.source and _content(tree, clip) != record.source):
            yield clip


def _content(tree: Tree, clip: str) -> str | None:
    try:
        return digest(read(tree, clip))
    except AudioError:
        return None


def _refuse_other_dataset(tree: Tree, store: Store, records: Records, changed: Sequence[str]) -> None:
    """Refuse to overwrite a store of which no recording is left: it is another dataset's, of the same name."""
    made_from = [clip for clip, r in records.items() if r is not None and r.source]
    if len(made_from) < 2 or not set(made_from) <= set(changed):
        return
    raise StoreMismatch(
        f"{store.path} was made from other recordings: not one of {len(made_from)} is the one in {tree.root}.",
        todo="If this is another dataset, rename its folder or name another --features; else remove that store.",
    )


def _refuse_other(store: Store, header: StoreHeader, manifest: Manifest) -> None:
    """Refuse a store that was made from another recipe, dataset or, while it is unfinished, by other software."""
    found, expected = _identity(store.header), _identity(header)
    if store.seal is not None:
        for identity in (found, expected):
            identity.pop("software"), identity.pop("backend")
    apart = differences(expected, found)
    if store.header.manifest != header.manifest:
        apart += tuple(_manifest_differences(store, manifest))
    if apart:
        raise StoreMismatch(
            f"{store.path} was made from something else than this extraction.",
            differences=apart,
            todo="Give your recipe a name of its own, name another folder with --features, or remove that store.",
        )


def _identity(header: StoreHeader) -> dict[str, object]:
    dumped = header.model_dump(mode="json", include={"audio", "backend", "software"})
    recipe = header.recipe.model_dump(mode="json", include={"decode", "representation"})
    return {**recipe, **dumped}


def _manifest_differences(store: Store, manifest: Manifest) -> Iterator[Difference]:
    ids, now = set(store.ids), {c.id for c in manifest.clips}
    for name, clips in (("clips added", now - ids), ("clips removed", ids - now)):
        if clips:
            yield Difference(field=name, expected="none", found=f"{len(clips)}, first {min(clips)}")
    if ids == now:
        yield from _relabelled(store, manifest)
        yield from _resplit(store, manifest)


def _relabelled(store: Store, manifest: Manifest) -> Iterator[Difference]:
    """What the dataset says of clips and the store does not, by property: how many, and the first with both values."""
    said = {c.id: c for c in manifest.clips}
    labels, devices, places = store.labels, store.devices, store.locations
    for name, values in {"label": labels, "device": devices, "location": places}.items():
        told = [(i, getattr(said[i], name), v) for i, v in zip(store.ids, values, strict=True)]
        other = [(clip, expected, found) for clip, expected, found in told if expected != found]
        for clip, expected, found in other[:1]:
            field = f"{name} of {len(other)} clips, first {clip}"
            yield Difference(field=field, expected=expected or "none", found=found or "none")


def _resplit(store: Store, manifest: Manifest) -> Iterator[Difference]:
    now, then = (", ".join(names) or "none" for names in ([s.name for s in manifest.splits], store.header.splits))
    if now != then:
        yield Difference(field="splits", expected=now, found=then)
        return
    for split in manifest.splits:
        side = dict(zip((c.id for c in manifest.clips), manifest.sides(split), strict=True))
        stored = zip(store.ids, store.sides(split.name).tolist(), strict=True)
        moved = [(clip, found) for clip, found in stored if side[clip] != found]
        for clip, found in moved[:1]:
            field = f"side in {split.name} of {len(moved)} clips, first {clip}"
            yield Difference(field=field, expected=side[clip], found=found)
