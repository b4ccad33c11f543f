"""``ascfeat correct``: bring recording devices together, by coefficients that are audited and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asccli.extract import FEATURES, carry_out, comparing, refuse_threads_and_workers
from asccli.libraries import LIBRARIES
from asccli.output import console, count, say, table
from asccli.workers import known_workers

if TYPE_CHECKING:
    from ascfeat.correction import Made
    from ascfeat.correction.correcting import Found
    from ascfeat.jobs import Job
    from ascfeat.store import Place
    from ascschemas.correction import HeldOut
    from ascschemas.recipe import FeatureRecipe

METHODS = ("mean", "pairs", "geometric", "geometric_unaligned")


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option(
    "--ref", "reference", required=True, metavar="ABC",
    help="Devices whose mean every device is brought to: letters, or names between commas.",
)  # fmt: skip
@click.option("--split", help="Split whose training side is used; fold1 or its only one where absent.")
@click.option("--method", type=click.Choice(METHODS), default="mean", show_default=True, help="How to estimate.")
@click.option(
    "--recipe", "recipes", multiple=True, help="Recipe to extract corrected; may be repeated.  [default: logmel256]"
)
@click.option("--coefficients-only", is_flag=True, help="Extract nothing but the mean spectra.")
@click.option("--spectra", metavar="RECIPE", help="Mean spectra to estimate from, for a --recipe of another transform.")
@click.option("--name", help="What the names of the stores end with.  [default: ref_ and the devices]")
@click.option(
    "--unseen", type=click.Choice(["keep", "error"]), default="keep", show_default=True,
    help="What becomes of clips of devices without coefficients.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True,
    help="What the recordings that the audit holds off are drawn by.",
)  # fmt: skip
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="PNG file to draw coefficients into.")
@FEATURES
@click.option("--dataset-kind", help="Loader of the dataset; recognised from the folder where absent.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:0 …")
@click.option("--backend", default="auto", show_default=True, help="auto, numba, torch, nnaudio or librosa.")
@click.option("--threads", "--jobs", type=click.IntRange(min=1), help="Clips at once; as many as CPUs where absent.")
@click.option("--workers", callback=known_workers, metavar="WHERE", help="Whole units at once, as for extract.")
@LIBRARIES
@click.option("--no-wait", is_flag=True, help="Fail where another process writes a store, instead of waiting for it.")
def correct(
    dataset: Path | None,
    reference: str,
    split: str | None,
    method: str,
    recipes: tuple[str, ...],
    coefficients_only: bool,
    spectra: str | None,
    name: str | None,
    unseen: str,
    seed: int,
    plot: Path | None,
    features: str,
    dataset_kind: str | None,
    device: str,
    backend: str,
    threads: int | None,
    workers: str | None,
    libraries: Sequence[str],
    no_wait: bool,
) -> None:
    """Estimate what brings DATASET's devices together, and extract features corrected by it.

    Coefficients come from parallel recordings of the training side. They are kept, with an audit of how they came
    about, in FEATURES/<dataset>/coefficients+ref_abc.zarr, and features corrected by them in
    FEATURES/<dataset>/<recipe>+ref_abc.zarr. DATASET may be left out where FEATURES holds one dataset.
    """
    from ascfeat.correction.correcting import find_dataset, made_from, publish, refuse_another
    from ascfeat.correction.making import Asked, reference_devices
    from ascfeat.jobs import prepare
    from ascfeat.recipes import load_recipe
    from ascfeat.store import coefficient_place, open_place, store_path

    if coefficients_only and recipes:
        raise click.UsageError("--coefficients-only extracts no --recipe.")
    refuse_threads_and_workers(threads, workers)
    asked = Asked(reference_devices(reference), method, split, refuse_unseen=unseen == "error", seed=seed)  # type: ignore[arg-type]  # click has checked it
    name = name or asked.name
    wanted = [load_recipe(r) for r in ([] if coefficients_only else dict.fromkeys(recipes or ["logmel256"]))]
    source, here = load_recipe(spectra or asked.spectra), find_dataset(features, dataset, dataset_kind)

    def planned(those: Sequence[FeatureRecipe]) -> list[Job]:
        shelves = [open_place(p) for p in libraries]
        return prepare(
            *here.opened(), those, open_place(features),
            device=device, backend=backend, libraries=shelves, reading=comparing(),
        )  # fmt: skip

    def extracted(jobs: Sequence[Job]) -> None:
        carry_out(*here.opened(), jobs, device=device, threads=threads, workers=workers, no_wait=no_wait)

    if here.tree is not None or wanted:
        _refuse_beforehand(here, asked, wanted, source)
        extracted(planned([source]))
    made = made_from(asked, store_path(features, here.name, source.name))
    place = coefficient_place(features, here.name, name)
    known = refuse_another(place, made)
    jobs = planned([r.corrected(made.correction, name) for r in wanted]) if wanted else []
    publish(place, made)
    _report(made, place, known)
    if plot is not None:
        from ascfeat.picture import draw_correction

        draw_correction(made.correction, made.audit, plot, title=f"{here.name}, {name}")
        say(f"picture: {plot}")
    if jobs:
        extracted(jobs)


def _refuse_beforehand(here: Found, asked: object, wanted: Sequence[FeatureRecipe], source: FeatureRecipe) -> None:
    """Everything that can be told before a recording is transformed."""
    from ascfeat.audio import probe
    from ascfeat.correction.making import refuse_beforehand

    tree, manifest = here.opened()
    refuse_beforehand(asked, manifest, wanted, source, probe(tree, [c.id for c in manifest.clips]))  # type: ignore[arg-type]


def _report(made: Made, place: Place, known: bool) -> None:
    """The audit, for a person."""
    audit = made.audit
    say(f"{place}: {'as it was' if known else 'new'}, {made.correction.digest[:16]}…")
    for line in _lines(made):
        say(f"  {line}")
    rows = [
        (d.device, len(d.clips), d.unpaired, len(d.guarded), f"{d.lowest:+.1f} to {d.highest:+.1f} dB")
        for d in audit.devices
    ]
    console().print(table("", ["device", "clips used", "not used", "bins guarded", "coefficients"], rows))
    if audit.held_out is None:
        say("  no residual: there are too few parallel recordings to hold any off")
    else:
        _residual(audit.held_out)


PAIRINGS = {
    "complete": "moments that every device recorded",
    "anchor": "each device over its own moments in common with {anchor}: moments that all recorded are few",
    "each": "of each device the moments that every reference device recorded, too",
    "none": "every training clip, unpaired",
}


def _lines(made: Made) -> Iterator[str]:
    audit, held = made.audit, made.correction
    yield f"reference {', '.join(held.reference)}; method {held.method}; training side of {held.split}"
    yield f"{count(audit.moments, 'parallel moment')}; used: {PAIRINGS[audit.pairing].format(anchor=audit.anchor)}"
    yield f"clips used that are from the test side: {audit.from_test}"
    left = {
        "with a partner on the test side": audit.beside_test,
        "that hold no values": audit.excluded,
        "of a device that has another one of that moment": audit.repeated,
    }
    for why, number in left.items():
        if number:
            yield f"training clips left out {why}: {number}"
    if audit.identity is not None:
        yield f"largest |mean of corrected spectra - R| / R: {audit.identity:.1e}"
    if audit.without:
        yield f"devices without coefficients, left as they are: {', '.join(audit.without)}"


def _residual(held: HeldOut) -> None:
    """How far devices lie apart, before and after, on the recordings that were held off."""
    of = f"{len(held.locations)} locations" if held.locations else "the one location"
    say(f"\n  devices {', '.join(held.devices)} on {count(len(held.stems), 'moment')} of {of} that were held off,")
    say(f"  by coefficients of the other {held.estimated_from} moments used, in dB (root mean square):")
    rows: list[tuple[object, ...]] = [
        (f"{b.low:.0f} – {b.high:.0f} Hz", f"{b.before:.2f}", f"{b.after:.2f}") for b in held.bands
    ]
    rows.append(("all bands", f"{held.before:.2f}", f"{held.after:.2f}"))
    rows.append(("single recordings", f"{held.each_before:.2f}", f"{held.each_after:.2f}"))
    console().print(table("", ["", "before", "after"], rows))
    say(f"  {100 * held.reduction:.1f} % of what lies between the devices' mean spectra is gone")
