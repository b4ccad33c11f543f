"""Copying a sealed store from one place to another: resumed where it was broken off, checked, whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ascfeat.lock import Held, exclusive
from ascfeat.store import contents, metadata
from ascfeat.store.chunks import Damaged, text_of
from ascfeat.store.metadata import ROOT, SPARE, copy_mark
from ascfeat.store.places import Folder, Place, open_place
from ascfeat.store.reading import HEADER, Store, open_store, root_of, store_path
from ascfeat.work import ordered
from ascschemas.base import canonical_json
from ascschemas.problems import Difference, StoreError, StoreMismatch

THREADS = 4
"""Files under way at once; each is as large as a shard."""
ATTEMPTS = 3
"""Times that a file is sent before the way there is called unfit."""


@dataclass(frozen=True)
class Transfer:
    """A sealed store, and where a copy of it is to lie."""

    source: Store
    target: Place
    root: bytes
    """The source's ``zarr.json``, which comes last."""

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Every file but the root and its spare, in the order in which they are copied."""
        return tuple(contents.files(self.root))

    @cached_property
    def arrays(self) -> contents.Arrays:
        """What the root says of each array."""
        return contents.members(self.root)

    @cached_property
    def digest(self) -> str:
        """The seal's."""
        assert self.source.seal is not None
        return self.source.seal.digest

    @property
    def mark(self) -> str:
        """Which store an unfinished copy is of; without it, files found at the target are nobody's."""
        return copy_mark(self.target)


@dataclass(frozen=True)
class Copied:
    """What became of a transfer."""

    target: Place
    files: int
    """Files of the store, its root and the spare of that left out."""
    sent: int
    """Those that were not there yet."""
    bytes: int
    """Their size."""
    made: bool
    """Whether the copy was no store before."""


def transfer(source: Place | Path | str, to: Place | Path | str) -> Transfer:
    """Look at a store and at where it shall go; nothing is written.

    Parameters
    ----------
    source : Place, path or URL
        A sealed store.
    to : Place, path or URL
        A library, below which the copy lies as ``<dataset>/<recipe>.zarr``; or the copy itself, if it ends so.

    Raises
    ------
    StoreError
        When there is no sealed store, or its metadata do not hold.
    """
    store = open_store(source)
    to = open_place(to)
    header = store.header
    target = to if to.name.endswith(".zarr") else store_path(to, header.dataset, header.recipe.name)
    if target.absolute == store.place.absolute:
        raise StoreError(f"{target} is the store itself.", todo="Name another place for the copy.")
    for where, problem in metadata.problems(store.place, store.header):
        raise _source_damaged(store.place, f"{where}: {problem}")
    return Transfer(store, target, store.place.read(ROOT))


def run(
    task: Transfer,
    *,
    threads: int = THREADS,
    wait: Callable[[str], None] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Copied:
    """Make the copy, or finish it. What is there already is checked, and kept where it is right.

    Every file is read back and held against its checksums, and the ledger against the seal, before the root's
    ``zarr.json`` makes a store of them. Interrupted at any moment, the same call goes on.

    Parameters
    ----------
    task : Transfer
        From ``transfer``.
    threads : int
        Files under way at once.
    wait : callable, optional
        As in ``ascfeat.lock.exclusive``: told who is writing there; without it, that is an error.
    progress : callable
        Given the number of files that are done.

    Raises
    ------
    StoreMismatch
        When another store is there, or an unfinished one; both digests are named.
    StoreError
        When the source is damaged, or files do not arrive as they were sent.
    """
    with exclusive(task.target, wait=wait) as held:
        _open_target(task, held)
        one = _OneFile(task, held)
        sizes: list[int] = []
        for size in ordered(one, task.keys, threads=threads):
            sizes.append(size)
            progress(len(sizes))
        _check_ledger(task)
        made = _publish(task, held)
    sent = [size for size in sizes if size]
    return Copied(task.target, len(task.keys), len(sent), sum(sent), made)


@dataclass(frozen=True)
class _OneFile:
    """The work on one file: bytes sent, 0 where it was there."""

    task: Transfer
    held: Held

    def __call__(self, key: str) -> int:
        task, source, target = self.task, self.task.source.place, self.task.target
        size = _bounded_size(task, key)
        if contents.has_checksum(key) and _arrived(task, key, size, None):
            return 0
        data = source.read(key)
        if why := self._refusal(key, data):
            raise _source_damaged(source, f"{key}: {why}")
        if not contents.has_checksum(key) and _arrived(task, key, size, data):
            return 0
        for _ in range(ATTEMPTS):
            self.held.check()
            target.write(key, [data])
            if isinstance(target, Folder) and key.startswith(f"{metadata.LEDGER}/"):
                target.undate(key)
            if _arrived(task, key, size, data):
                return size
        raise StoreError(
            f"{target}: {key} does not read back as it was written, {ATTEMPTS} times.",
            todo="Check the disk or the server there, then run the same command again: it goes on where it stopped.",
        )

    def _refusal(self, key: str, data: bytes) -> str:
        return contents.refusal(key, data, self.task.arrays) if contents.has_checksum(key) else ""


def _open_target(task: Transfer, held: Held) -> None:
    """Make sure that the target is free, ours, or an unfinished copy of the same."""
    target, beside = task.target, task.target.parent
    if target.exists(ROOT):
        _refuse_other(task)
        return
    marked = _read(beside, task.mark)
    if marked != task.digest.encode():
        if marked is None and (found := list(target.files())):
            raise StoreError(
                f"{target} holds {len(found)} files, first {found[0]}, and is no feature store.",
                todo="Remove them or name another place.",
            )
        held.check()
        target.clear()
        beside.write(task.mark, [task.digest.encode()])
    target.make()


def _refuse_other(task: Transfer) -> None:
    """Refuse a target that holds another store, or one that is being extracted."""
    there = Store(task.target)
    if there.seal is not None and there.seal.digest == task.digest:
        return
    found = there.seal.digest if there.seal else "not sealed: an extraction that is not finished"
    raise StoreMismatch(
        f"Another store is at {task.target}.",
        differences=[Difference(field="digest", expected=task.digest, found=found)],
        todo="See in what they differ with `ascfeat diff`; name another place, or remove the one that is there.",
    )


def _arrived(task: Transfer, key: str, size: int, data: bytes | None) -> bool:
    """Whether a file is at the target and right: as it was sent, or, of what lay there, by its size and checksums."""
    found = _read(task.target, key)
    if found is None or len(found) != size:
        return False
    return found == data if data is not None else not contents.refusal(key, found, task.arrays)


def _bounded_size(task: Transfer, key: str) -> int:
    """Size of a file at the source; refused where no file of a store is so large, before it is read."""
    name, _, at = key.rpartition("/c/")
    most = metadata.most_bytes(task.source.header, name) if at else metadata.ARRAY_BYTES
    try:
        size = task.source.place.size(key)
    except FileNotFoundError:
        raise _source_damaged(task.source.place, f"there is no file {key}") from None
    if size > most:
        raise _source_damaged(task.source.place, f"{key} has {size:,} bytes, and can have {most:,}")
    return size


def _check_ledger(task: Transfer) -> None:
    """Hold the ledger at the target against the seal."""
    header = root_of(task.source.place)["attributes"][HEADER]
    whole = hashlib.sha256(canonical_json(header).encode())
    try:
        for text in _records(task):
            whole.update(text.encode())
    except Damaged as error:
        raise _source_damaged(task.source.place, f"its ledger: {error}") from error
    if whole.hexdigest() != task.digest:
        raise StoreError(
            f"The ledger at {task.target} is not the one that {task.source.place} was sealed with.",
            differences=[Difference(field="digest", expected=task.digest, found=whole.hexdigest())],
            todo=f"Run `ascfeat verify {task.source.place}`: the store may be damaged, or have changed meanwhile.",
        )


def _records(task: Transfer) -> Iterator[str]:
    for unit in range(task.source.header.units):
        yield text_of(task.target.read(task.source.header.chunk(metadata.LEDGER, unit)))


def _publish(task: Transfer, held: Held) -> bool:
    """Write the root, which makes the files a store, and forget that it was unfinished; whether it was."""
    source, target = task.source.place, task.target
    if source.read(ROOT) != task.root:
        raise StoreError(
            f"{source} has changed while it was copied.", todo="Run the same command again when nobody writes it."
        )
    held.check()
    if _read(target, SPARE) != task.root:
        target.write(SPARE, [task.root])  # late: a root can be restored from it
    new = not target.exists(ROOT)
    if new:
        held.check()
        if not target.create(ROOT, task.root):
            raise StoreError(f"Somebody else made {target} meanwhile.", todo="Run the same command again.")
    target.parent.remove(task.mark)
    return new


def _read(place: Place, key: str) -> bytes | None:
    try:
        return place.read(key)
    except FileNotFoundError:
        return None


def _source_damaged(place: Place, why: str) -> StoreError:
    return StoreError(
        f"{place} is not copied: {why}.",
        todo=f"See what is wrong with `ascfeat verify {place}`, and heal it with `ascfeat repair` where it was made.",
    )
