"""Small sealed stores of made-up features and a recipe for them, for the tests of families and trainers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ascfeat.store import Folder, Store, Writer, clip_table, create, open_store, row, table_digest, unit_rows
from ascmodels import recipes
from ascschemas.correction import Correction
from ascschemas.dataset import AudioFormat, Clip, Manifest, Split
from ascschemas.layout import Axis, Layout
from ascschemas.recipe import FeatureRecipe, Patches
from ascschemas.store import ClipRecord, StoreHeader
from ascschemas.training import TrainingRecipe

CLASSES = ("bus", "park", "tram")


def scene_clips(locations: int = 6, devices: tuple[str, ...] = ("a", "b")) -> tuple[Clip, ...]:
    """Labelled clips: per class some locations in two cities, per location two segments on every device."""
    return tuple(_clips(locations, devices))


def scene_split(clips: tuple[Clip, ...], name: str = "fold1") -> Split:
    """Every third location tests."""
    places = sorted({c.location for c in clips})
    tested = set(places[::3])
    sides = ([c.id for c in clips if (c.location in tested) == test] for test in (False, True))
    return Split(name=name, train=tuple(next(sides)), test=tuple(next(sides)))


def layout(bands: int = 21, frames: int = 25, channels: int = 1) -> Layout:
    """Axes of one clip's made-up features."""
    axes = (Axis(name="channel", size=channels), Axis(name="frequency", size=bands), Axis(name="time", size=frames))
    return Layout(axes=axes, quantity="made up")


def small_recipe() -> TrainingRecipe:
    """A training recipe that such a store is enough for: a small five-conv network, three epochs."""
    values = {
        "name": "small",
        "features": "made_up",
        "family": {"kind": "five_conv", "widths": [4, 4, 8, 8, 8], "norm_momentum": 0.1},
        "objective": {"kind": "focal", "gamma": 1, "temperature": 2},
        "optimiser": {"kind": "adam", "lr": 0.01},
        "augmentation": {"mixup": {"alpha": 0.2}},
        "batch_size": 16,
        "epochs": 3,
        "headline_devices": ["b"],
    }
    return recipes.resolve(TrainingRecipe.model_validate(values))


def make_store(
    path: Path,
    clips: tuple[Clip, ...] | None = None,
    *,
    splits: tuple[Split, ...] | None = None,
    shape: Layout | None = None,
    excluded: tuple[int, ...] = (),
    clips_per_unit: int | None = None,
    seal: bool = True,
    patches: Patches | None = None,
    correction: Correction | None = None,
) -> Store:
    """Write a store whose classes differ in one band each, over noise, so that little training tells them apart.

    Parameters
    ----------
    path : Path
        Where; its name less ``.zarr`` is the name of the feature recipe, its folder's that of the dataset.
    clips : tuple of Clip, optional
        ``scene_clips()`` by default.
    splits : tuple of Split, optional
        ``scene_split(clips)`` by default.
    shape : Layout, optional
        ``layout()`` by default.
    excluded : tuple of int
        Clips that hold no values.
    clips_per_unit : int, optional
        Clips in a shard; all where absent.
    seal : bool
        Whether to finish it.
    patches : Patches, optional
        How its recipe cuts clips.
    correction : Correction, optional
        What its recipe corrects devices by.
    """
    clips = scene_clips() if clips is None else clips
    splits = (scene_split(clips),) if splits is None else splits
    manifest = Manifest(dataset=path.parent.name, kind="made_up", clips=clips, splits=splits)
    made = {"name": path.stem, "representation": {"kind": "made_up"}, "patches": patches, "correction": correction}
    recipe = FeatureRecipe.model_validate(made)
    header = _header(recipe, manifest, shape or layout(), clips_per_unit or len(clips))
    Folder(path).parent.make()
    create(path, header, manifest)
    writer = Writer(path)
    values = features(manifest, header.layout)
    records = [ClipRecord(excluded="silent" if i in excluded else "") for i in range(len(clips))]
    rows = [row(r, None if r.excluded else v, header) for r, v in zip(records, values, strict=True)]
    for unit in range(header.units):
        writer.write(unit, rows[slice(*unit_rows(header, unit))])
    if seal:
        writer.finish()
    return open_store(path) if seal else Store(path)


def features(manifest: Manifest, shape: Layout) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Noise around a level of -5, one band of the clip's class raised by 2: of the last axis before time."""
    draw = np.random.default_rng(0)
    values = draw.normal(-5, 1, size=(len(manifest.clips), *shape.shape)).astype(np.float32)
    over_bands = np.moveaxis(values, len(shape.bands), 1)  # (clip, band, …), a view
    for i, clip in enumerate(manifest.clips):
        band = 3 + 5 * manifest.classes.index(clip.label) if clip.label else 0
        over_bands[i, band % shape.band_shape[-1]] += 2
    return values


def _clips(locations: int, devices: tuple[str, ...]) -> Iterator[Clip]:
    for label in CLASSES:
        for place in range(locations):
            city = ("lisbon", "vienna")[place % 2]
            for segment in range(2):
                stem = f"{label}-{city}-{place}-{segment}"
                for device in devices:
                    yield Clip(
                        id=f"audio/{stem}-{device}.wav",
                        label=label,
                        device=device,
                        city=city,
                        location=f"{label}-{city}-{place}",
                        segment=stem,
                    )


def _header(recipe: FeatureRecipe, manifest: Manifest, shape: Layout, clips_per_unit: int) -> StoreHeader:
    return StoreHeader(
        table=table_digest(clip_table(manifest)),
        dataset=manifest.dataset,
        dataset_kind=manifest.kind,
        manifest=manifest.fingerprint,
        recipe=recipe,
        recipe_fingerprint=recipe.fingerprint,
        audio=AudioFormat(sample_rate=8000, channels=1, frames=8000),
        layout=shape,
        clips=len(manifest.clips),
        clips_per_unit=clips_per_unit,
        classes=manifest.classes,
        splits=tuple(s.name for s in manifest.splits),
        backend="none",
        software={},
    )
