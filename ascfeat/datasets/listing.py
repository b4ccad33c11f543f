"""From what lists say to a manifest: paths normalised, every problem collected, splits checked."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from ascfeat.datasets.tree import Tree
from ascschemas.dataset import Clip, Manifest, Split
from ascschemas.problems import DatasetError, Difference

SHOWN_PROBLEMS = 20
"""How many problems an error lists; it says how many there are."""
MOST_PROBLEMS = 10_000
"""How many are looked for: a list of millions of wrong lines is refused before memory is full of reasons."""


@dataclass(frozen=True)
class Listed:
    """One recording as a list names it, before anything is checked."""

    path: str
    where: str
    label: str = ""
    device: str = ""
    city: str = ""
    location: str = ""
    segment: str = ""
    fold: str = ""


@dataclass(frozen=True)
class ListedSide:
    """One side of a split as a list names it: ``(path, where)``."""

    split: str
    side: str
    entries: tuple[tuple[str, str], ...]


def posix(path: str) -> str:
    """A listed path with forward slashes and without ``./`` and ``//``; ``..`` stays, to be refused.

    Examples
    --------
    >>> posix(r"audio\\a.wav"), posix("./audio//a.wav"), posix("../a.wav")
    ('audio/a.wav', 'audio/a.wav', '../a.wav')
    """
    clean = path.replace("\\", "/")
    parts = [part for part in clean.split("/") if part not in ("", ".")]  # pathlib takes seconds for 20,000 clips
    return "/" * clean.startswith("/") + "/".join(parts)


def safe_name(name: str) -> str:
    """A folder's name as a dataset's: characters that are not safe in a file name everywhere become ``_``.

    Where a name had to change, a few digits of its SHA-256 follow, so that no two names become one.

    Examples
    --------
    >>> safe_name("scenes"), safe_name("my scenes (2)")
    ('scenes', 'my_scenes_2-bf01d0')
    """
    safe = re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_.+-")[:80] or "dataset"
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:6]}"


def refuse(tree: Tree, kind: str, problems: Sequence[Difference]) -> None:
    """Raise one error for all problems, if there are any.

    Raises
    ------
    DatasetError
        When there are problems.
    """
    if problems:
        more = f", of which the first {SHOWN_PROBLEMS} follow" if len(problems) > SHOWN_PROBLEMS else ""
        many = f"{MOST_PROBLEMS} entries or more" if len(problems) >= MOST_PROBLEMS else f"{len(problems)} entries"
        entries = "1 entry" if len(problems) == 1 else many
        raise DatasetError(
            f"The lists of {tree.root}, read as {kind}, have {entries} that cannot be meant{more}:",
            differences=problems[:SHOWN_PROBLEMS],
            todo="Correct these lines; `ascfeat check` reads the lists again.",
        )


def clips_of(listed: Iterable[Listed]) -> tuple[tuple[Clip, ...], tuple[Difference, ...]]:
    """Clips of everything that is listed properly, and a problem for everything that is not."""
    clips: dict[str, Clip] = {}
    first: dict[str, str] = {}
    problems: list[Difference] = []
    for entry in listed:
        if len(problems) >= MOST_PROBLEMS:
            break
        clip = _clip(entry)
        if clip is None:
            problems.append(_outside(entry.path, entry.where))
        elif clip.id in clips:
            problems.append(_again(clip.id, entry.where, first[clip.id]))
        else:
            clips[clip.id], first[clip.id] = clip, entry.where
    return tuple(clips.values()), tuple(problems)


def splits_of(
    sides: Sequence[ListedSide], clips: Sequence[Clip]
) -> tuple[tuple[Split, ...], tuple[Difference, ...], tuple[str, ...]]:
    """Splits from their listed sides, a problem for every unknown clip, a note for every clip listed twice."""
    known = {clip.id for clip in clips}
    strangers = ((p, where) for side in sides for p, where in side.entries if posix(p) not in known)
    problems = [_unknown(path, where) for path, where in itertools.islice(strangers, MOST_PROBLEMS)]
    names = dict.fromkeys(side.split for side in sides)
    splits = tuple(Split(name=n, train=_ids(sides, n, "train"), test=_ids(sides, n, "test")) for n in names)
    return splits, tuple(problems), tuple(_repeated(sides))


def assemble(
    tree: Tree,
    kind: str,
    *,
    clips: Sequence[Clip],
    splits: Sequence[Split] = (),
    notes: Sequence[str] = (),
    problems: Sequence[Difference] = (),
) -> Manifest:
    """The manifest of a folder, or one error with every problem.

    Raises
    ------
    DatasetError
        When anything that is listed cannot be meant, or nothing is listed.
    """
    refuse(tree, kind, problems)
    if not clips:
        raise DatasetError(f"The lists of {tree.root}, read as {kind}, name no recording.", todo="Check the folder.")
    name = safe_name(tree.name)
    renamed = [f"The dataset is called {name}, after its folder {_shown(tree.name)}."] if name != tree.name else []
    return Manifest(dataset=name, kind=kind, clips=tuple(clips), splits=tuple(splits), notes=(*notes, *renamed))


def _clip(entry: Listed) -> Clip | None:
    try:
        return Clip(
            id=posix(entry.path),
            label=entry.label,
            device=entry.device,
            city=entry.city,
            location=entry.location,
            segment=entry.segment,
        )
    except ValidationError:
        return None


def _ids(sides: Sequence[ListedSide], split: str, side: str) -> tuple[str, ...]:
    found = (posix(path) for s in sides if (s.split, s.side) == (split, side) for path, _ in s.entries)
    return tuple(dict.fromkeys(found))


def _repeated(sides: Sequence[ListedSide]) -> Iterable[str]:
    for side in sides:
        twice = [path for path, n in Counter(posix(path) for path, _ in side.entries).items() if n > 1]
        if twice:
            yield f"{side.split} {side.side} lists {len(twice)} clips again, first {twice[0]}; each counts once."


def _outside(path: str, where: str) -> Difference:
    return Difference(field=_shown(where), expected="a file inside the dataset folder", found=_shown(path) or "nothing")


def _again(clip: str, where: str, first: str) -> Difference:
    return Difference(
        field=_shown(where), expected="every file once", found=f"{_shown(clip)} again, after {_shown(first)}"
    )


def _unknown(path: str, where: str) -> Difference:
    return Difference(field=_shown(where), expected="a clip of the dataset", found=_shown(path) or "nothing")


def _shown(text: str) -> str:
    """Text that any terminal can print."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return safe if safe.isprintable() else repr(safe)[1:-1]
