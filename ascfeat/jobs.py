"""What there is to do: recipes over a dataset against the stores that exist, found out without writing anything."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ascfeat.audio import probe, sample_bits
from ascfeat.changes import Changes, Recordings, done, facts, recorded, recordings
from ascfeat.datasets.tree import Tree
from ascfeat.digests import Digests, own_digests
from ascfeat.dsp.devices import resolve_device
from ascfeat.plan import clips_per_unit, keeps_samples, plan, stored_bytes
from ascfeat.reuse import Reuse, Source, before_places, fits, has_leftovers, set_aside
from ascfeat.store import Store, Writer, create, find_stores, store_path, unit_rows
from ascfeat.store.metadata import ROOT, SPARE, copy_mark
from ascfeat.store.places import Folder, Place, open_place, refuse_writing
from ascfeat.store.reading import Rewritten, lost_root, unfinished_copy
from ascfeat.tags import Given, TagSource, sources_for, with_tags
from ascschemas.dataset import Manifest
from ascschemas.problems import Difference, RecipeError, SpaceError, StoreError, StoreMismatch, differences
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord, StoreHeader

Reading = Callable[[int, int], None]
"""Told how many recordings have been read to compare them, of how many."""

LOOK_AGAIN_SECONDS = 0.2
"""Until a store is looked at again that was written anew while it was looked at."""


@dataclass(frozen=True)
class Job:
    """One store to be filled: what it will be, and what is missing of it."""

    place: Place
    header: StoreHeader
    pending: tuple[int, ...]
    """Units to write; none where the store is whole."""
    changed: tuple[str, ...] = ()
    """Clips whose recordings are not those that the store was made from."""
    gone: tuple[str, ...] = ()
    """Clips that the store holds and whose recordings are not there now; it keeps what it has of them."""
    sealed: bool = False
    tags: TagSource | None = None
    """Where the rows of a store of tags come from."""
    reuse: Reuse | None = None
    """Where values are that need not be computed."""
    changes: Changes = field(default_factory=Changes)
    """What differs between the store and the dataset."""
    anew: bool = False
    """Whether the store that is there makes place for a new one, which is filled from it as far as possible."""
    planned: StoreHeader | None = None
    """``header`` by the software that is here, where the store is to be what other software made of its clips."""
    reused: frozenset[int] = frozenset()
    """Positions of the clips that need not be computed."""
    leftovers: bool = False
    """Whether an older state of the store is still there that can go."""
    trusted: int = 0
    """Recordings taken for unchanged by their dates and size."""
    libraries: tuple[Place, ...] = ()
    """Stores of libraries that values are taken from; one that is used as it is, is ``place`` itself."""

    @property
    def clips(self) -> list[int]:
        """Positions of the clips of pending units, those that need not be computed included."""
        return [i for u in self.pending for i in range(*unit_rows(self.header, u))]

    @property
    def computing(self) -> list[int]:
        """Positions of the clips to compute."""
        return [i for i in self.clips if i not in self.reused]

    @property
    def bytes(self) -> int:
        """What the store will still take on disk."""
        return stored_bytes(self.header, len(self.clips))


def prepare(
    tree: Tree,
    manifest: Manifest,
    recipes: Sequence[FeatureRecipe],
    features: Place | Path | str,
    *,
    device: str = "auto",
    backend: str = "auto",
    tags: Given | None = None,
    libraries: Sequence[Place] = (),
    digests: Digests | None = None,
    reading: Reading = lambda done, total: None,
) -> list[Job]:
    """Find out what there is to do; nothing is written.

    Parameters
    ----------
    features : Place, path or URL
        Where the stores go.
    tags
        What recipes of kind ``tags`` take their rows from, as ``ascfeat.tags.open_tags`` understands it.
    libraries : sequence of Place
        Folders of stores to look for the same values in before any is computed. A store there that is wholly the same
        is used where it lies; from another the clips are taken whose recordings are the same.
    digests : Digests, optional
        What is known of recordings' contents; the person's own cache by default.
    reading : callable
        Told of recordings that have to be read for a comparison, as they are.

    Raises
    ------
    StoreMismatch
        When a store of that name was made from something else; the differing fields are named.
    AscError
        When recipe and recordings do not fit, no recording can be decoded, or ``features`` can only be read.
    """
    twice = [name for name, n in Counter(r.name for r in recipes).items() if n > 1]
    if twice:
        raise RecipeError(
            f"{len(recipes)} recipes were given, and several are called {', '.join(twice)}.",
            todo="Give each recipe once, and each a name of its own.",
        )
    if not (library := open_place(features)).writable:
        raise refuse_writing(library)
    at = resolve_device(device)
    audio = probe(tree, [c.id for c in manifest.clips])
    sources = sources_for(recipes, tags, [c.id for c in manifest.clips], audio, device=at)
    whole = [with_tags(r, s) for r, s in zip(recipes, sources, strict=True)]
    look = _Look(tree, manifest, digests or own_digests(), reading)
    bits = sample_bits(tree, [c.id for c in manifest.clips]) if any(keeps_samples(r, audio) for r in whole) else 0
    headers = [plan(r, manifest, audio, backend=backend, device=at, bits=bits) for r in whole]
    shelves = [*dict.fromkeys([library, *libraries])]
    jobs = [_job(look, store_path(features, h.dataset, h.recipe.name), h, shelves) for h in headers]
    return [replace(job, tags=source) for job, source in zip(jobs, sources, strict=True)]


def check_space(jobs: Sequence[Job]) -> int | None:
    """Bytes free where the stores go, after making sure that they hold what is planned; None where nobody knows.

    Raises
    ------
    SpaceError
        When they do not.
    """
    needed = sum(j.bytes for j in jobs)
    place = jobs[0].place
    free = place.free()
    if free is not None and free < needed:
        raise SpaceError(
            f"The disk of {place} cannot hold the features.",
            differences=[Difference(field="bytes", expected=f"{needed:,} free", found=f"{free:,} free")],
            todo="Free space there, or put the stores elsewhere with --features.",
        )
    return free


def job_for(
    tree: Tree,
    manifest: Manifest,
    place: Place,
    header: StoreHeader,
    *,
    libraries: Sequence[Place] = (),
    digests: Digests | None = None,
    reading: Reading = lambda done, total: None,
) -> Job:
    """What there is to do for one store, planned as ``header``, against what lies at ``place``.

    Parameters
    ----------
    libraries : sequence of Place
        Stores, not folders of them, whose values may be taken.
    """
    return _against(_Look(tree, manifest, digests or own_digests(), reading), place, header, libraries)


def ready(
    tree: Tree,
    manifest: Manifest,
    job: Job,
    *,
    digests: Digests | None = None,
    still_ours: Callable[[], None] = lambda: None,
) -> tuple[Writer, Job]:
    """Make a job's store ready to be written, for the one who holds its lock, and say what is to do by now.

    Another process may have written since ``prepare``. A store that makes place is moved aside first, and stays there
    until ``ascfeat.reuse.settle`` is called on the new one; a new one is created; units to be written are forgotten.
    """
    digests = digests or own_digests()

    def now() -> Job:
        planned = job.planned or job.header
        found = job_for(tree, manifest, job.place, planned, libraries=job.libraries, digests=digests)
        return replace(found, tags=job.tags)

    todo = now()
    if todo.anew:
        still_ours()
        set_aside(job.place, still_ours=still_ours)
        todo = now()
    if not job.place.exists(ROOT):
        still_ours()
        job.place.clear()  # of what an interrupted removal left there
        create(job.place, todo.header, manifest)
    writer = Writer(job.place, still_ours=still_ours)
    writer.reopen(todo.pending)
    return writer, todo


def units_of(clips: Sequence[str], store: Store) -> list[int]:
    """The units that hold some clips."""
    wanted = set(clips)
    return sorted({i // store.header.clips_per_unit for i, c in enumerate(store.ids) if c in wanted})


@dataclass(frozen=True)
class _Look:
    """What stores are held against."""

    tree: Tree
    manifest: Manifest
    digests: Digests
    reading: Reading

    def at(self, store: Store, *, of_list: bool = False, strange: bool = False) -> Recordings:
        """The recordings that a store was made from, as they are now; only those that are still listed if asked.

        A strange store is a library's: nobody knows whether it is a copy, and its files younger than its values.
        """
        ids = {c.id for c in self.manifest.clips} if of_list else None
        return recordings(self.tree, store, self.digests, among=ids, progress=self.reading, dated=not strange)


@dataclass(frozen=True)
class _Held:
    """An older state of a store, or a library's, and what may be taken from it."""

    store: Store
    clips: frozenset[str]
    """Clips that it has done, whose recordings are the same."""
    without: frozenset[str]
    """Clips that are not taken from it."""

    @property
    def source(self) -> Source:
        return Source(self.store.place, self.without)


def _job(look: _Look, place: Place, header: StoreHeader, shelves: Sequence[Place]) -> Job:
    """What there is to do for one recipe, the libraries looked through where there is anything."""
    job = _against(look, place, header, ())
    if not job.pending or (job.sealed and not job.anew) or not job.computing:
        return job
    found = [s for s in _alike(shelves, header) if s.place != place]
    if not place.exists(ROOT):
        for store in found:
            if _is_same(store.header, header) and not (seen := look.at(store, strange=True)).changed:
                whole = Job(store.place, store.header, (), sealed=True, libraries=(store.place,))
                return replace(whole, **_told(store, seen))
    return _against(look, place, header, [s.place for s in found]) if found else job


def _alike(shelves: Sequence[Place], header: StoreHeader) -> Iterator[Store]:
    """Sealed stores of some libraries whose values are those that would be computed; damaged ones are passed over."""
    for shelf in shelves:
        try:
            places = find_stores(shelf)
        except (StoreError, OSError):  # a web server that cannot list, or is down
            places = []
        for place in dict.fromkeys([*places, store_path(shelf, header.dataset, header.recipe.name)]):
            store = _opened(place)
            if store is not None and store.seal is not None and fits(store.header, header):
                yield store


def _is_same(found: StoreHeader, header: StoreHeader) -> bool:
    """Whether a store that fits is the planned one but for the recipe's name and the size of its units."""
    names = ("dataset", "manifest", "table", "clips", "splits", "encoding")
    cut = found.recipe.patches == header.recipe.patches
    return cut and all(getattr(found, name) == getattr(header, name) for name in names)


def _against(look: _Look, place: Place, header: StoreHeader, libraries: Sequence[Place]) -> Job:
    while True:
        try:
            return replace(_compared(look, place, header, libraries), planned=header)
        except Rewritten:  # by another writer, while it was looked at: what there is to do is found out anew
            time.sleep(LOOK_AGAIN_SECONDS)


def _compared(look: _Look, place: Place, header: StoreHeader, libraries: Sequence[Place]) -> Job:
    older = [s for p in before_places(place) if (s := _opened(p)) is not None]
    others = [s for p in libraries if (s := _opened(p)) is not None]
    if not place.exists(ROOT):
        _refuse_no_store(place)
        header, reuse, lacking = _taking(look, header, older, others)
        return _whole(look, place, header, reuse, lacking, libraries)
    store = Store(place)
    _refuse_other_recipe(store, header)
    header = _as_kept(store.header, header)
    if (store.header.manifest, store.header.table) == (header.manifest, header.table):
        if store.header.encoding == header.encoding:
            return _same_list(look, store, header, older, others)
        seen = look.at(store)
        _refuse_other_recordings(look, store, seen)
    else:
        _refuse_other_list(look, store)
        seen = look.at(store, of_list=True)
        _refuse_other_recordings(look, store, seen)
    return _anew(look, store, header, seen, older, others)


def _same_list(look: _Look, store: Store, header: StoreHeader, older: Sequence[Store], others: Sequence[Store]) -> Job:
    """A store of the same clips and labels: units are computed again in their place."""
    seen = look.at(store)
    _refuse_other_recordings(look, store, seen)
    changed = tuple(c for c in store.ids if c in seen.changed)
    pending = tuple(sorted({*store.pending(), *units_of(changed, store)}))
    if not pending:
        done = Job(store.place, store.header, (), sealed=store.seal is not None, leftovers=has_leftovers(store.place))
        return replace(done, **_told(store, seen))
    meant, reuse, lacking = _taking(look, header, older, others)
    if _made_by(store.header) != _made_by(meant):
        if store.seal is None and not older:
            raise _mismatch(store, differences(_made_by(meant), _made_by(store.header)))
        return _anew(look, store, header, seen, older, others)
    own = Source(store.place, seen.changed, _records(store, units_of(changed, store)))
    reuse = Reuse(store.header, [own, *reuse.sources], whole=reuse.whole)
    job = Job(store.place, store.header, pending, changed, sealed=store.seal is not None, reuse=reuse)
    known = {*(own.records or {})} - seen.changed
    if reuse.sources[1:]:
        known |= {c.id for c in look.manifest.clips} - lacking
    reused = frozenset(i for i in job.clips if store.ids[i] in known)
    changes, libraries = Changes(replaced=changed), tuple(s.place for s in others)
    return replace(job, reused=reused, changes=changes, libraries=libraries, **_told(store, seen))


def _anew(
    look: _Look, store: Store, header: StoreHeader, seen: Recordings, older: Sequence[Store], others: Sequence[Store]
) -> Job:
    """A store that makes place for a new one, which takes from it what it can."""
    meant, reuse, lacking = _taking(look, header, [store, *older], others, {store.place: seen})
    if store.seal is None and not older and _made_by(store.header) != _made_by(meant):
        raise _mismatch(store, differences(_made_by(meant), _made_by(store.header)))
    now, then = {c.id for c in look.manifest.clips}, {*store.ids}
    apart = differences(_made_by(meant), _made_by(store.header)) if lacking else ()
    changes = Changes(
        added=tuple(c.id for c in look.manifest.clips if c.id not in then),
        removed=tuple(c for c in store.ids if c not in now),
        replaced=tuple(c for c in store.ids if c in seen.changed),
        facts=tuple(facts(store, look.manifest)),
        storage=differences(header.encoding.model_dump(mode="json"), store.header.encoding.model_dump(mode="json")),
        software=apart,
    )
    job = _whole(look, store.place, meant, reuse, lacking, [s.place for s in others])
    return replace(job, changed=changes.replaced, changes=changes, anew=True, **_told(store, seen))


def _whole(
    look: _Look,
    place: Place,
    header: StoreHeader,
    reuse: Reuse,
    lacking: frozenset[str],
    libraries: Sequence[Place],
) -> Job:
    """A store to be written from its first unit to its last."""
    reused = frozenset(i for i, c in enumerate(look.manifest.clips) if c.id not in lacking) if reuse else frozenset()
    return Job(place, header, tuple(range(header.units)), reuse=reuse, reused=reused, libraries=tuple(libraries))


def _taking(
    look: _Look,
    header: StoreHeader,
    older: Sequence[Store],
    others: Sequence[Store],
    seen: dict[Place, Recordings] | None = None,
) -> tuple[StoreHeader, Reuse, frozenset[str]]:
    """The header of the new store, what its values are taken from, and the clips that must be computed.

    Values of different software are never mixed in a store. Where older states made by one other software hold
    every clip, nothing has to be computed, and the new store is what that software would make.
    """
    ids = frozenset(c.id for c in look.manifest.clips)
    held = [_held(look, s, (seen or {}).get(s.place)) for s in older]
    held += [_held(look, s, None, strange=True) for s in others]
    choices = [header, *(_as_made_by(s.header, header) for s in older)]
    best: tuple[StoreHeader, Reuse, frozenset[str]] | None = None
    for choice in choices:
        fitting = [h for h in held if fits(h.store.header, choice)]
        lacking = ids.difference(*(h.clips for h in fitting))
        if best is None or not lacking:
            foreign = _made_by(choice) != _made_by(header)
            best = choice, Reuse(choice, [h.source for h in fitting], whole=foreign), lacking
        if not lacking:
            break
    assert best is not None
    return best


def _held(look: _Look, store: Store, seen: Recordings | None, *, strange: bool = False) -> _Held:
    """What may be taken from a store; of a library's, nothing that no recording here speaks for."""
    seen = seen or look.at(store, of_list=True, strange=strange)
    without = seen.changed | seen.gone if strange else seen.changed
    without |= _recorded_otherwise(look, store)
    return _Held(store, frozenset(clip for _, clip, _ in done(store) if clip not in without), without)


def _recorded_otherwise(look: _Look, store: Store) -> frozenset[str]:
    """Clips of a store that corrects devices whose device is another by the dataset: their values are not taken."""
    said = {c.id: c.device for c in look.manifest.clips}
    return frozenset(clip for clip, device in store.recorders.items() if said.get(clip, device) != device)


def _told(store: Store, seen: Recordings) -> dict[str, Any]:
    """What a job says of recordings that were not compared."""
    return {"trusted": seen.trusted, "gone": tuple(c for c in store.ids if c in seen.gone)}


def _records(store: Store, units: Sequence[int]) -> dict[str, tuple[int, ClipRecord]]:
    """Positions and records of the clips of some units that are done, by id."""
    found = {}
    for unit in units:
        record = recorded(store, unit)
        for position, clip in enumerate(record.clips if record else (), unit_rows(store.header, unit)[0]):
            found[store.ids[position]] = (position, clip)
    return found


def _opened(place: Place) -> Store | None:
    """A store to take values from; None where it is gone or damaged: its clips are then computed."""
    try:
        store = Store(place)
        return store if store.ids else None
    except (StoreError, OSError):
        return None


def _as_kept(old: StoreHeader, header: StoreHeader) -> StoreHeader:
    """The plan with the precision and compression of the store that is there, where none was asked for.

    So two people who share a store, of whom one names a precision, do not make it anew in turns.
    """
    asked, kept = header.recipe.storage, old.recipe.storage
    if asked.precision != "auto" or asked.compress or (kept.precision, kept.compress) == ("auto", False):
        return header
    storage = asked.model_copy(update={"precision": kept.precision, "compress": kept.compress})
    recipe = header.recipe.model_copy(update={"storage": storage})
    again = header.model_copy(update={"recipe": recipe, "encoding": old.encoding})
    return again.model_copy(update={"clips_per_unit": clips_per_unit(recipe, again.number_bytes, again.clips)})


def _made_by(header: StoreHeader) -> dict[str, object]:
    return {"backend": header.backend, "software": dict(header.software)}


def _as_made_by(old: StoreHeader, header: StoreHeader) -> StoreHeader:
    return header.model_copy(update={"backend": old.backend, "software": old.software})


def _refuse_no_store(place: Place) -> None:
    if place.parent.exists(copy_mark(place)):
        raise unfinished_copy(place)
    if isinstance(place, Folder) and place.exists(SPARE):
        raise lost_root(place)
    if isinstance(place, Folder) and place.path.exists():
        raise StoreError(
            f"{place} is there and is not a feature store: it has no zarr.json.",
            todo="Move it away or remove it, then run the same command again.",
        )


def _refuse_other_recordings(look: _Look, store: Store, seen: Recordings) -> None:
    """Refuse to overwrite a store of whose recordings none is there: it is another dataset's, of the same name."""
    if seen.compared < 2 or not seen.unlike or seen.unlike + len(seen.gone) < seen.compared:
        return
    raise StoreMismatch(
        f"{store.place} was made from other recordings: not one of {seen.compared} is the one in {look.tree.root}.",
        todo="If this is another dataset, rename its folder or name another --features; else remove that store.",
    )


def _refuse_other_list(look: _Look, store: Store) -> None:
    """Refuse a store that has no clip in common with the dataset."""
    now = {c.id for c in look.manifest.clips}
    if now.isdisjoint(store.ids):
        expected, found = (f"{len(ids)}, first {min(ids)}" for ids in (now, {*store.ids}))
        raise StoreMismatch(
            f"{store.place} is another dataset's of that name: it has no clip in common with {look.tree.root}.",
            differences=[Difference(field="clips", expected=expected, found=found)],
            todo="Rename the dataset's folder, name another --features, or remove that store.",
        )


def _refuse_other_recipe(store: Store, header: StoreHeader) -> None:
    """Refuse a store that was made by another recipe of that name, or from recordings of another format."""
    apart = differences(_identity(header), _identity(store.header))
    if apart:
        raise _mismatch(store, apart)


def _identity(header: StoreHeader) -> dict[str, object]:
    recipe = header.recipe.model_dump(mode="json", include={"decode", "representation"})
    corrected = {"correction": held.words()} if (held := header.recipe.correction) else {}
    return {**recipe, **corrected, **header.model_dump(mode="json", include={"audio"})}


def _mismatch(store: Store, apart: Sequence[Difference]) -> StoreMismatch:
    return StoreMismatch(
        f"{store.place} was made from something else than this extraction.",
        differences=apart,
        todo="Give your recipe a name of its own, name another folder with --features, or remove that store.",
    )
