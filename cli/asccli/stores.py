"""``ascfeat info``, ``ls`` and ``show``: look at what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from asccli.output import console, size, table
from ascschemas.problems import StoreError

if TYPE_CHECKING:
    from ascfeat.store import Store


@click.command()
@click.argument("store")
@click.option("--json", "as_json", is_flag=True, help="Print the store's header and seal as JSON.")
def info(store: str, as_json: bool) -> None:
    """Say what STORE holds, what made it, and which recordings it could not use."""
    from ascfeat.store import Store

    opened = Store(store)
    if as_json:
        click.echo(_as_json(opened))
        return
    for name, value in _facts(opened):
        console().print(Text(f"{name:<12} {value}"), soft_wrap=True)
    excluded = [(clip, r.excluded, r.detail) for clip, r in opened.excluded().items()]
    if excluded:
        columns = ["recording", "reason", "detail"]
        console().print(table(f"\n{len(excluded)} recordings hold no values", columns, excluded))


@click.command()
@click.argument("folder", default="features", envvar="ASC_FEATURES")
def ls(folder: str) -> None:
    """List the feature stores in FOLDER, a folder or URL (or ASC_FEATURES, or ./features)."""
    from ascfeat.store import Store, find_stores

    rows = []
    for place in find_stores(folder, broken=True):
        try:
            rows.append(_row(Store(place)))
        except StoreError as error:
            rows.append((place.parent.name, place.stem, "-", "-", "-", _broken(error.what)))
    if not rows:
        raise StoreError(f"There are no feature stores in {folder}.", todo="Make one with `ascfeat extract`.")
    console().print(table("", ["dataset", "recipe", "clips", "shape", "size", "state"], rows))


def _broken(what: str) -> str:
    return "not finished: a copy" if "a copy that is not finished" in what else f"damaged: {what}"


@click.command()
@click.argument("store")
@click.argument("clip")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="PNG file to write.")
def show(store: str, clip: str, out: Path) -> None:
    """Draw the features of CLIP as a picture with real axes.

    CLIP is a clip id (audio/x.wav), what only one ends with, or a position in the store.
    """
    from ascfeat.picture import draw
    from ascfeat.store import open_store

    opened = open_store(store)
    position = _find(opened, clip)
    _refuse_excluded(opened, position)
    draw(opened, position, out)
    console().print(Text(f"{opened.ids[position]} -> {out}"), soft_wrap=True)


def _find(store: Store, clip: str) -> int:
    if clip.isdigit() and int(clip) < len(store.ids):
        return int(clip)
    found = [i for i, name in enumerate(store.ids) if name == clip] or _ending(store.ids, clip)
    if len(found) == 1:
        return found[0]
    known = ", ".join(store.ids[i] for i in found[:3]) if found else _near(clip, store.ids)
    raise StoreError(
        f"{store.place} has {len(found) or 'no'} clips called {clip!r}: {known}",
        todo=f"Give one whole clip id, or a position from 0 to {len(store.ids) - 1}.",
    )


def _refuse_excluded(store: Store, position: int) -> None:
    if store.usable[position]:
        return
    record = store.excluded()[store.ids[position]]
    raise StoreError(
        f"{store.ids[position]} holds no values: {record.excluded}, {record.detail}",
        todo="Restore the recording and extract again, or show another clip.",
    )


def _ending(ids: Sequence[str], clip: str) -> list[int]:
    return [i for i, name in enumerate(ids) if name.endswith((clip, f"{clip}.wav"))]


def _near(clip: str, ids: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(clip, ids, n=3, cutoff=0.3) or list(ids[:3])
    return f"it has for example {', '.join(close)}."


def _facts(store: Store) -> list[tuple[str, str]]:
    h, recipe = store.header, store.header.recipe
    axes = ", ".join(f"{a.name} {a.size}" for a in h.layout.axes)
    facts = [
        ("store", str(store.place)),
        ("state", _state(store)),
        (
            "dataset",
            f"{h.dataset} ({h.dataset_kind}), {h.clips} clips, {len(h.classes)} classes, recordings of {h.audio}",
        ),
        ("recipe", f"{recipe.name}: {recipe.description or recipe.representation.kind}"),
        ("fingerprint", h.recipe_fingerprint),
        ("a clip", f"{axes}; {h.layout.quantity}, {_numbers(store)}"),
        ("corrected", _correction(store)),
        ("patches", _patches(store)),
        ("on disk", f"{_size(store)} in {h.units} shards of {h.clips_per_unit} clips"),
        ("splits", ", ".join(_sides(store, s) for s in h.splits) or "none"),
        ("devices", ", ".join(f"{d or 'unknown'} {n}" for d, n in sorted(Counter(store.devices).items()))),
        ("made by", ", ".join([h.backend, *(f"{k} {v}" for k, v in h.software.items())])),
        ("seal", store.seal.digest if store.seal else "none"),
        *[("certificate", line) for line in _certificate(store)],
    ]
    return [(name, value) for name, value in facts if value]


def _certificate(store: Store) -> Iterator[str]:
    """A line a comparison: how far a sample of the values lies from recomputed ones."""
    certificate = store.seal.certificate if store.seal else None
    for c in certificate.comparisons if certificate else ():
        assert certificate is not None
        made = f"{len(certificate.clips)} clips on {certificate.device}, TF32 {certificate.tf32}"
        bound = "" if c.tolerance is None else f", {'within' if c.holds else 'BEYOND'} {c.tolerance:g}"
        informs = ", for information" if c.tolerance is None else ""
        apart = f"p99 {c.p99:g}, max {c.max:g} in its unit"
        yield f"relative difference {c.relative:g}{bound}, from {c.against}{informs}; {apart}; {made}"


def _patches(store: Store) -> str:
    """How many patches a clip gives; empty where the recipe has none."""
    from ascfeat.patches import count

    patches = store.header.recipe.patches
    if patches is None:
        return ""
    each, whole = count(store.layout, patches)
    rows = patches.resize or store.layout.shape[-2]
    return f"{whole} a clip, {each} of each channel: {rows} x {patches.width}, every {patches.hop} frames"


def _correction(store: Store) -> str:
    """What devices were corrected by; empty where none was."""
    held = store.header.recipe.correction
    if held is None:
        return ""
    plain = sorted({d or "unknown" for d in store.devices} - {*held.devices})
    left = f"; left as they are: {', '.join(plain)}" if plain else ""
    by = f"reference {', '.join(held.reference)}, method {held.method}, training side of {held.split}"
    return f"devices {', '.join(held.devices)} by {held.digest[:16]}…, {by}{left}"


def _sides(store: Store, split: str) -> str:
    count = Counter(store.sides(split).tolist())
    return f"{split} {count['train']}/{count['test']}" + (f" ({count['unused']} unused)" if count["unused"] else "")


def _state(store: Store) -> str:
    if store.seal is None:
        done = sum(store.unit_record(u) is not None for u in range(store.header.units))
        return f"not finished: {done} of {store.header.units} units"
    reasons = ", ".join(f"{n} {reason}" for reason, n in store.seal.excluded.items())
    return f"sealed, {store.seal.usable} clips usable" + (f", excluded: {reasons}" if reasons else "")


def _row(store: Store) -> tuple[object, ...]:
    h = store.header
    shape = "x".join(str(n) for n in h.layout.shape)
    return (store.place.parent.name, store.place.stem, h.clips, shape, _size(store), _state(store))


def _numbers(store: Store) -> str:
    """How values are kept: number format, size of a clip, compression and error."""
    how, h = store.header.encoding, store.header
    off = "" if how.tolerance is None else f", at most {how.tolerance:g} dB off"
    worst = f" (found: {store.seal.error:g})" if store.seal and store.seal.error is not None else ""
    return f"{how.dtype}, {size(h.number_bytes)}{', compressed' * how.compress}{off}{worst}"


def _size(store: Store) -> str:
    """Size of all files; a web server is asked for none of them."""
    total = store.place.total()
    return "unknown" if total is None else size(total)


def _as_json(store: Store) -> str:
    import json

    facts = {
        "header": store.header.model_dump(mode="json"),
        "seal": store.seal.model_dump(mode="json") if store.seal else None,
        "excluded": {clip: r.model_dump(mode="json") for clip, r in store.excluded().items()},
    }
    return json.dumps(facts, indent=2, ensure_ascii=False)
