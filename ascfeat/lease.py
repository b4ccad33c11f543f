"""The right to write a place in a bucket: an object that its holder renews, and others take over if it does not."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from typing_extensions import override

from ascfeat.holder import Holder
from ascfeat.lock import Held
from ascfeat.store.objects import Marked
from ascfeat.store.places import PlaceError
from ascfeat.store.remote import Bucket
from ascschemas.problems import StoreError

LEASE: Final = "ASCFEAT_LEASE_SECONDS"
"""Environment variable: how long a lease lives without being renewed, in seconds."""
LEASE_SECONDS: Final = 60.0
RENEWALS: Final = 4
"""Renewals in the life of a lease."""
CLOCK_STEP: Final = 1.0
"""Seconds to which servers round their times."""
MARGIN: Final = 0.5
"""Share of a lease's life after which its holder asks before it believes: the rest is for the write that follows."""


@dataclass(frozen=True)
class Lease:
    """What the object says."""

    holder: Holder
    seconds: float
    """How long it lives from its last renewal; 0 where it was given back."""
    beat: int = 0
    """Renewals so far: every version of the object is another, and so has another tag."""

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The lease that an object holds; one that does not read lives as long as others do: it may be a newer kind."""
        try:
            said: dict[str, Any] = json.loads(data)
            known = {k: v for k, v in said["holder"].items() if k in Holder.model_fields}
            return cls(Holder.model_validate(known), float(said["seconds"]), int(said["beat"]))
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls(Holder(), LEASE_SECONDS)

    def data(self) -> bytes:
        """As JSON."""
        said = {"holder": self.holder.facts(), "seconds": self.seconds, "beat": self.beat}
        return json.dumps(said, indent=1).encode()


def lease_seconds() -> float:
    """How long this process's leases live.

    Raises
    ------
    StoreError
        When ``ASCFEAT_LEASE_SECONDS`` is no number from 2 to 86,400.
    """
    said = os.environ.get(LEASE, "")
    try:
        seconds = float(said) if said else LEASE_SECONDS
    except ValueError:
        seconds = -1.0
    if not 2 <= seconds <= 86400:
        raise StoreError(f"{LEASE} is {said!r}.", todo="Set it to seconds, 2 to 86400, or not at all: it is 60 then.")
    return seconds


@contextmanager
def leased(place: Bucket, name: str) -> Iterator[Held | Holder]:
    """The lease of a place, or who holds it; it is renewed in the background and given back at the end."""
    beside = place.parent
    found = _taken(beside, name, Lease(Holder.here(), lease_seconds()))
    if isinstance(found, Holder):
        yield found
        return
    found.begin()
    try:
        yield found
    finally:
        found.end()


def _taken(beside: Bucket, key: str, mine: Lease) -> _Leased | Holder:
    """Make the lease, or take over one that has ended; else who has it."""
    asked, tag = _now(), beside.swap(key, mine.data(), None)
    if tag is not None:
        return _Leased(beside, key, mine, tag, asked)
    try:
        there = beside.marked(key)
    except FileNotFoundError:  # nobody of ours removes it; a person may
        return Holder()
    theirs, age = Lease.read(there.data), _age(beside, key, there)
    if not _has_ended(theirs, age):
        return theirs.holder.model_copy(update={"age": _held(theirs, age)})
    asked, tag = _now(), beside.swap(key, mine.data(), there.tag)
    return Holder() if tag is None else _Leased(beside, key, mine, tag, asked)


def _age(beside: Bucket, key: str, there: Marked) -> float:
    """Seconds since a lease was renewed, by the clock of the server alone."""
    return beside.clock(f"{key}.clock") - there.modified


def _has_ended(lease: Lease, age: float) -> bool:
    """Whether a lease was given back, was not renewed in its life, or is a dead process's."""
    return not lease.seconds or age > lease.seconds + CLOCK_STEP or lease.holder.dead


def _held(lease: Lease, age: float) -> float:
    """For how long, about: renewals come at equal distances."""
    return lease.beat * lease.seconds / RENEWALS + age


class _Leased(Held):
    """A lease that this process holds."""

    def __init__(self, beside: Bucket, key: str, lease: Lease, tag: str, renewed: float) -> None:
        self._beside, self._key, self._lease, self._tag = beside, key, lease, tag
        self._renewed = renewed  # when the last successful renewal was sent: it cannot have arrived before
        self._lost: Holder | None = None
        self._one = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="ascfeat lease", daemon=True)

    @override
    def check(self) -> None:
        self._renew(self._lease.seconds * MARGIN)
        if self._lost is not None:
            raise StoreError(
                f"This process has lost the right to write: it was stopped or cut off for more than "
                f"{self._lease.seconds:g} s, and {self._beside}/{self._key} is now held by {self._lost}.",
                todo="Let the other one finish, then run the same command again: it does what is still missing.",
            )

    def begin(self) -> None:
        """Start to renew it."""
        self._thread.start()

    def end(self) -> None:
        """Give it back, so that the next one need not wait."""
        self._ended.set()
        with self._one, suppress(PlaceError):  # it ends by itself where the server does not listen
            if self._lost is None:
                given_back = Lease(self._lease.holder, 0.0, self._lease.beat + 1)
                self._beside.swap(self._key, given_back.data(), self._tag)

    def _renew_for_ever(self) -> None:
        while not self._ended.wait(self._lease.seconds / RENEWALS):
            with suppress(PlaceError):  # the server may be back for the next one; `check` knows
                self._renew()
            if self._lost is not None:
                return

    def _renew(self, older: float = 0.0) -> None:
        """Renew it by compare-and-swap, unless it was within so many seconds: who took it over meanwhile keeps it."""
        if older and _now() - self._renewed < older:
            return
        with self._one:
            if self._ended.is_set() or self._lost is not None or (older and _now() - self._renewed < older):
                return
            renewed = Lease(self._lease.holder, self._lease.seconds, self._lease.beat + 1)
            asked, tag = _now(), self._beside.swap(self._key, renewed.data(), self._tag)
            if tag is not None:
                self._lease, self._tag, self._renewed = renewed, tag, asked
                return
            try:
                self._lost = Lease.read(self._beside.marked(self._key).data).holder
            except FileNotFoundError:
                self._lost = Holder(user="nobody: somebody removed it")


def _now() -> float:
    """Seconds that go on while the process is stopped and while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
