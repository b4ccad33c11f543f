"""From a store of mean spectra to a correction and its audit, and the refusals that come before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ascfeat.audio import waveform_format
from ascfeat.correction.auditing import compared, devices_of
from ascfeat.correction.estimating import Float64, Spectra, estimate
from ascfeat.correction.pairing import Clips, clips_in, clips_of, select
from ascfeat.plan import refuse_other_grid
from ascfeat.representations import representation
from ascfeat.store import Store
from ascschemas.correction import Audit, Correction, Grid, Method
from ascschemas.dataset import AudioFormat, Manifest, Split
from ascschemas.problems import DatasetError, Difference, RecipeError, nearest
from ascschemas.recipe import FeatureRecipe

SEED = 0
"""What the recordings that the audit holds off are drawn by."""


@dataclass(frozen=True)
class Asked:
    """What a correction is to be."""

    reference: tuple[str, ...] = ("a", "b", "c")
    """Devices whose mean every device is brought to."""
    method: Method = "mean"
    """How coefficients are estimated."""
    split: str | None = None
    """Split whose training side they come from; ``fold1``, or the only one, where absent."""
    refuse_unseen: bool = False
    """Whether a device without coefficients is an error; else its clips stay as they are."""
    seed: int = SEED
    """What the recordings that the audit holds off are drawn by."""

    @property
    def spectra(self) -> str:
        """Recipe of the mean spectra that the method takes."""
        return "mean_log_spectrum" if self.method.startswith("geometric") else "mean_spectrum"

    @property
    def name(self) -> str:
        """Name of the correction: ``ref_abc``."""
        return (
            f"ref_{''.join(self.reference) if all(len(d) == 1 for d in self.reference) else '-'.join(self.reference)}"
        )


@dataclass(frozen=True)
class Made:
    """Coefficients, and how they came about."""

    correction: Correction
    audit: Audit


def reference_devices(text: str) -> tuple[str, ...]:
    """Devices of ``--ref``: letters, whatever their case, or longer names between commas; in alphabetical order.

    Examples
    --------
    >>> reference_devices("CAB"), reference_devices("s1,s2")
    (('a', 'b', 'c'), ('s1', 's2'))
    """
    named = [part.strip() for part in text.split(",")] if "," in text else list(text.lower())
    found = tuple(sorted({d for d in named if d}))
    if not found:
        raise RecipeError(f"--ref {text!r} names no device.", todo="Name some: --ref ABC, or --ref s1,s2.")
    return found


def refuse_beforehand(
    asked: Asked, manifest: Manifest, recipes: Sequence[FeatureRecipe], spectra: FeatureRecipe, audio: AudioFormat
) -> None:
    """Raise what the dataset's list and the recipes alone tell against a correction.

    Raises
    ------
    DatasetError
        When the dataset has no such split, the split contradicts itself, or there is nothing to estimate from.
    RecipeError
        When a recipe's spectra cannot be corrected by coefficients from those spectra, or they are of another kind.
    """
    split = split_of(manifest, asked.split)
    _refuse_both_sides(split)
    _refuse_other_kind(asked, spectra)
    chosen = select(clips_of(manifest, split), asked.reference, asked.method)
    if asked.refuse_unseen:
        refuse_unseen(clips_of(manifest, split).names, chosen.sets)
    for recipe in recipes:
        if recipe.correction is not None:
            raise RecipeError(f"{recipe.name} is corrected already.", todo="Name the recipe that it was made from.")
        refuse_other_grid(recipe, audio, grid_of(spectra, audio))


def make(asked: Asked, store: Store, split: str) -> Made:
    """Estimate the coefficients from a sealed store of mean spectra, and audit them.

    Raises
    ------
    DatasetError
        When there is nothing to estimate from: clips may have turned out not to be usable.
    """
    clips, grid = clips_in(store, split), grid_of(store.header.recipe, store.header.audio)
    chosen = select(clips, asked.reference, asked.method)
    if asked.refuse_unseen:
        refuse_unseen(clips.names, chosen.sets)
    spectra = _spectra(store)
    found = estimate(asked.method, chosen, asked.reference, spectra)
    correction = Correction.of(
        {d: c.tolist() for d, c in found.coefficients.items()},
        reference=asked.reference,
        method=asked.method,
        split=split,
        grid=grid,
    )
    used = [i for each in chosen.sets.values() for i in each]
    assert store.seal is not None
    audit = Audit(
        dataset=store.header.dataset,
        manifest=store.header.manifest,
        spectra=store.seal.digest,
        split=split,
        pairing=chosen.pairing,
        anchor=chosen.anchor,
        moments=len(clips.parallel),
        devices=devices_of(chosen, found, clips),
        without=tuple(d for d in clips.names if d not in chosen.sets),
        from_test=_from_test(clips, used),
        beside_test=len(clips.beside_test),
        excluded=len(clips.excluded),
        repeated=len(clips.repeated),
        identity=found.identity,
        held_out=compared(clips, asked.reference, asked.method, spectra, grid, seed=asked.seed),
    )
    return Made(correction, audit)


def split_of(manifest: Manifest, name: str | None) -> Split:
    """The split of that name; ``fold1``, or the only one, where none is named.

    Raises
    ------
    DatasetError
        When there is none, or several and none is meant.
    """
    known = [s.name for s in manifest.splits]
    wanted = split_name(known, name, manifest.dataset)
    split = manifest.split(wanted)
    assert split is not None
    return split


def split_name(known: Sequence[str], name: str | None, dataset: str) -> str:
    """The split that is meant, of those that a dataset has.

    Raises
    ------
    DatasetError
        As :func:`split_of`.
    """
    meant = name or ("fold1" if "fold1" in known else known[0] if len(known) == 1 else None)
    if meant is None or meant not in known:
        near = nearest(meant, known) if meant else f"it has {', '.join(known) or 'none'}."
        raise DatasetError(
            f"{dataset} has no split {meant!r}: {near}" if meant else f"{dataset} has no split that is meant: {near}",
            differences=[Difference(field="split", expected=meant or "one", found=", ".join(known) or "none")],
            todo="Name one with --split; a correction is estimated from its training side only.",
        )
    return meant


def grid_of(spectra: FeatureRecipe, audio: AudioFormat) -> Grid:
    """The transform that mean spectra of a recipe are of."""
    values, decoded = spectra.representation.values(), waveform_format(audio, spectra.decode)
    return Grid(
        sample_rate=decoded.sample_rate,
        n_fft=values["n_fft"],
        win_length=values.get("win_length") or values["n_fft"],
        hop_length=values["hop_length"],
        window=values.get("window", "hann"),
        remove_dc=spectra.decode.remove_dc,
    )


def refuse_unseen(devices: Sequence[str], having: object) -> None:
    """Raise where devices have no coefficients.

    Raises
    ------
    DatasetError
        With their names.
    """
    lacking = [d for d in devices if d not in having]  # type: ignore[operator]  # any container
    if lacking:
        raise DatasetError(
            f"{len(lacking)} devices would have no coefficients: {', '.join(lacking)}.",
            differences=[
                Difference(field="devices", expected="each parallel to others in training", found=", ".join(lacking))
            ],
            todo="Leave --unseen error out: their clips then stay as they are.",
        )


def _refuse_other_kind(asked: Asked, spectra: FeatureRecipe) -> None:
    """Refuse spectra that are no mean spectra, or of the other average than the method takes."""
    kind = representation(spectra.representation)
    wanted = "geometric" if asked.method.startswith("geometric") else "arithmetic"
    found = getattr(kind, "average", None)
    if found != wanted:
        raise RecipeError(
            f"Method {asked.method} takes no spectra of {spectra.name}.",
            differences=[
                Difference(field="kind", expected="mean_spectrum", found=spectra.representation.kind),
                Difference(field="average", expected=wanted, found=str(found or "none")),
            ],
            todo=f"Leave --spectra out, or start from `ascfeat recipes show {asked.spectra}`.",
        )


def _refuse_both_sides(split: Split) -> None:
    both = sorted({*split.train} & {*split.test})
    if both:
        raise DatasetError(
            f"Split {split.name} has {len(both)} clips on both of its sides, first {both[0]}.",
            differences=[Difference(field="clips on both sides", expected="0", found=str(len(both)))],
            todo="Correct the lists of the split: a correction must not see the test side.",
        )


def _from_test(clips: Clips, used: Sequence[int]) -> int:
    """Clips used that are not of the training side, or share a moment with the test side."""
    tested = {m for m, side in zip(clips.moments, clips.sides, strict=True) if side == "test" and m[3]}
    return sum(clips.sides[i] != "train" or clips.moments[i] in tested for i in used)


def _spectra(store: Store) -> Spectra:
    """Mean spectra of some clips in float64, ``(clip, bin)``, the mean over channels where there are several."""

    def read(clips: Sequence[int]) -> Float64:
        return np.asarray(store.read(clips).astype(np.float64).mean(axis=1))

    return read
