"""From a dataset to its coefficients and corrected stores: found, estimated, published and applied, in this order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ascfeat.audio import probe
from ascfeat.correction.making import SEED, Asked, Made, make, refuse_beforehand, split_name
from ascfeat.datasets import open_dataset
from ascfeat.datasets.tree import Tree
from ascfeat.extract import run
from ascfeat.jobs import check_space, prepare
from ascfeat.recipes import load_recipe, names
from ascfeat.store import (
    Folder,
    Place,
    Store,
    coefficient_place,
    find_stores,
    open_place,
    open_store,
    read_coefficients,
    store_path,
    write_coefficients,
)
from ascfeat.store.views import needing
from ascschemas.correction import Method
from ascschemas.dataset import Manifest
from ascschemas.problems import AscError, DatasetError, Difference, StoreError, StoreMismatch, differences
from ascschemas.recipe import FeatureRecipe

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Found:
    """A dataset by its folder, or by its stores alone."""

    name: str
    tree: Tree | None = None
    manifest: Manifest | None = None

    def opened(self) -> tuple[Tree, Manifest]:
        """The folder and what it says.

        Raises
        ------
        DatasetError
            When only stores of it were found.
        """
        if self.tree is None or self.manifest is None:
            raise DatasetError(
                f"The recordings of {self.name} are needed, and a store does not say where they are.",
                differences=[Difference(field="folder", expected=f"one called {self.name}", found="none here")],
                todo=f"Name it: `ascfeat correct … <folder of {self.name}>`, or ask for --coefficients-only.",
            )
        return self.tree, self.manifest


def correct(
    dataset: Path | str | None = None,
    *,
    reference: Sequence[str] = ("a", "b", "c"),
    split: str | None = None,
    method: Method = "mean",
    features: Place | Path | str = "features",
    recipes: Sequence[str] = ("logmel256",),
    spectra: str | None = None,
    name: str | None = None,
    unseen: str = "keep",
    seed: int = SEED,
    kind: str | None = None,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
) -> xarray.DataArray:
    """Estimate what brings the spectra of recording devices together, and extract features corrected by it.

    ``c_d[k] = R[k] / D_d[k]``, or as another ``method`` has it, from parallel recordings of the training side; a
    spectrum is corrected to ``c_d[k] |X[k, t]|``.

    Parameters
    ----------
    dataset : path, optional
        The dataset folder; may be left out where ``features`` holds one dataset, of whose name a folder is near.
    reference : sequence of str
        Devices whose mean every device is brought to.
    split : str, optional
        ``fold1``, or the only one, by default.
    method : str
        ``mean`` (nguyen2020), ``pairs``, ``geometric`` or ``geometric_unaligned``.
    features : path, URL or Place
        Where the stores lie, and will: ``<dataset>/coefficients+<name>.zarr``, ``<dataset>/<recipe>+<name>.zarr``.
    recipes : sequence of str
        Names or files of the recipes to extract corrected; none for coefficients only.
    spectra : str, optional
        Recipe of the mean spectra, where another transform is to be corrected than one of 2048 samples at 44.1 kHz.
    name : str, optional
        What the stores' names end with; ``ref_abc`` for reference devices a, b and c.
    unseen : str
        ``keep`` leaves clips of devices without coefficients as they are, ``error`` refuses them.
    seed : int
        What the recordings that the audit holds off are drawn by.

    Returns
    -------
    xarray.DataArray, dimensions ``(device, frequency)``, float64
        The coefficients; frequencies are in Hz, and the attribute ``audit`` holds what ``Audit`` describes.

    Raises
    ------
    AscError
        When there is nothing to estimate from, or something else is there already; nothing is then written but mean
        spectra.
    """
    asked = Asked(tuple(sorted({*reference})), method, split, refuse_unseen=unseen == "error", seed=seed)
    here = find_dataset(features, dataset, kind)
    wanted, source = [load_recipe(r) for r in recipes], load_recipe(spectra or asked.spectra)
    if here.tree is not None or wanted:
        tree, manifest = here.opened()
        refuse_beforehand(asked, manifest, wanted, source, probe(tree, [c.id for c in manifest.clips]))
        jobs = prepare(tree, manifest, [source], features, device=device, backend=backend)
        check_space(jobs)
        run(tree, manifest, jobs, device=device, threads=threads)
    made = made_from(asked, store_path(features, here.name, source.name))
    place = coefficient_place(features, here.name, name or asked.name)
    refuse_another(place, made)
    if wanted:
        corrected = [r.corrected(made.correction, name or asked.name) for r in wanted]
        jobs = prepare(tree, manifest, corrected, features, device=device, backend=backend)
        check_space(jobs)
        publish(place, made)
        run(tree, manifest, jobs, device=device, threads=threads)
    publish(place, made)
    return as_array(made)


def find_dataset(features: Place | Path | str, dataset: Path | str | None, kind: str | None = None) -> Found:
    """A dataset by its folder; or the only one that a feature folder holds, with the folder of its name nearby.

    A folder is nearby in the working folder, or beside the feature folder; it must hold the clips of the stores.

    Raises
    ------
    DatasetError
        When no folder is named, and the stores are not of one dataset.
    """
    if dataset is not None:
        tree, manifest = open_dataset(Path(dataset), kind)
        return Found(manifest.dataset, tree, manifest)
    library = open_place(features)
    stores = find_stores(library)
    names = sorted({p.parent.name for p in stores})
    if len(names) != 1:
        raise DatasetError(
            f"No dataset is named, and {library} holds stores of {len(names)}.",
            differences=[Difference(field="datasets", expected="one", found=", ".join(names) or "none")],
            todo="Name the dataset's folder: `ascfeat correct --ref ABC DATASET`.",
        )
    return next(_nearby(library, names[0], stores, kind), Found(names[0]))


def recipe_of(name: str, features: Place | Path | str, dataset: str) -> FeatureRecipe:
    """A recipe by its name or file; ``logmel256+ref_abc`` by the store of that name, or by the coefficients' own.

    Raises
    ------
    UnknownName, RecipeError
        As ``load_recipe``.
    """
    base, plus, correction = name.partition("+")
    if not plus or base not in names():
        return load_recipe(name)
    held = _store(store_path(features, dataset, name))
    if held is not None and held.header.recipe.correction is not None:
        return held.header.recipe
    place = coefficient_place(features, dataset, correction)
    return load_recipe(base).corrected(read_coefficients(place)[0], correction)


def made_from(asked: Asked, place: Place) -> Made:
    """The coefficients from the sealed store of mean spectra at a place.

    Raises
    ------
    StoreError
        When there is no such store, or it is not whole.
    """
    store = open_store(place)
    return make(asked, store, split_name(store.header.splits, asked.split, store.header.dataset))


def refuse_another(place: Place, made: Made) -> bool:
    """Whether a place holds these coefficients already.

    Raises
    ------
    StoreError
        When it holds others, or is damaged.
    """
    if not place.exists("zarr.json"):
        if isinstance(place, Folder) and place.path.exists():
            raise StoreError(
                f"{place} is there and is no store of coefficients.", todo="Move it away, or give --name another."
            )
        return False
    there, _ = read_coefficients(place)
    if there.digest != made.correction.digest:
        raise StoreMismatch(
            f"{place} holds other coefficients than these.",
            differences=differences(made.correction.words(), there.words()),
            todo="Keep both by giving these a --name of their own; or remove that store, and those corrected by it.",
        )
    return True


def publish(place: Place, made: Made) -> None:
    """Keep coefficients at a place, whole or not at all; of several who do so at once, all find the same.

    Raises
    ------
    StoreError
        When the place cannot be written, or holds something else.
    """
    if not refuse_another(place, made) and not write_coefficients(place, made.correction, made.audit):
        refuse_another(place, made)


def as_array(made: Made) -> xarray.DataArray:
    """Coefficients with named dimensions ``(device, frequency)``, and the audit among their attributes."""
    with needing("xarray"):
        import xarray
    held = made.correction
    return xarray.DataArray(
        np.array([held.of_device(d) for d in held.devices]),
        dims=("device", "frequency"),
        coords={
            "device": list(held.devices),
            "frequency": ("frequency", np.array(held.grid.frequencies()), {"units": "Hz"}),
        },
        name="coefficients",
        attrs={**held.words(), "audit": made.audit.model_dump(mode="json")},
    )


def _nearby(library: Place, name: str, stores: Sequence[Place], kind: str | None) -> Iterator[Found]:
    """Folders of a dataset's name that hold the clips of one of its stores."""
    beside = [library.path.absolute().parent / name] if isinstance(library, Folder) else []
    known = {held.header.manifest for p in stores if (held := _store(p)) is not None}
    for folder in dict.fromkeys([Path(name).absolute(), *beside]):
        try:
            tree, manifest = open_dataset(folder, kind)
        except AscError:
            continue
        if manifest.fingerprint in known:
            yield Found(manifest.dataset, tree, manifest)


def _store(place: Place) -> Store | None:
    try:
        return Store(place)
    except StoreError:
        return None
