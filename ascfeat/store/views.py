"""A store, or some of its clips, as people's tools know arrays: numpy, torch, dask and xarray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ascfeat.store.table import PROPERTIES
from ascschemas.problems import Difference, StoreError, nearest

if TYPE_CHECKING:
    import dask.array
    import torch
    import xarray

    from ascfeat.store.reading import Store, Values

SCENE = "scene"
"""Another word for ``label``: what acoustic scene classification calls it."""
Wanted = str | Iterable[str]


@dataclass(frozen=True, eq=False)
class View:
    """Some clips of a store, in the order of their positions; get one from ``Store.sel`` or ``Store.view``.

    Every way of reading verifies checksums. Values are float32; clips that the store excluded are NaN.
    """

    store: Store
    """The store."""
    clips: npt.NDArray[np.int64]
    """Positions in the store."""

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the clips."""
        return tuple(self.store.ids[i] for i in self.clips)

    @property
    def labels(self) -> tuple[str, ...]:
        """Scene class of each clip."""
        return tuple(self.store.labels[i] for i in self.clips)

    def numpy(self) -> Values:
        """All values in memory, ``(len(view), *layout.shape)``."""
        return self.store.read(self.clips)

    def torch(self) -> TorchClips:
        """A map-style dataset for ``torch.utils.data.DataLoader``: item ``i`` is the tensor of clip ``i`` of the view.

        It reads whole batches at once where the loader asks for batches, and can be sent to spawned workers.
        """
        return TorchClips(self)

    def dask(self) -> dask.array.Array:
        """The values as a lazy array, a unit of the store a chunk: what is computed is read then, and checked.

        Raises
        ------
        StoreError
            When dask is not installed.
        """
        with needing("dask"):
            from dask.array import from_array
        units = self.clips // self.store.header.clips_per_unit
        edges = np.flatnonzero(np.diff(units)) + 1
        sizes = tuple(np.diff([0, *edges.tolist(), len(self.clips)]).tolist()) if len(self.clips) else (0,)
        shape = self.store.layout.shape
        seal = self.store.seal
        name = f"ascfeat-{seal.digest if seal else id(self.store)}-{hash(self.clips.tobytes()):x}"
        chunks = (sizes, *((n,) for n in shape))
        lazy: dask.array.Array = from_array(  # type: ignore[no-untyped-call]
            _Sliced(self), chunks=chunks, name=name, asarray=False
        )
        return lazy

    def xarray(self) -> xarray.Dataset:
        """The values and all that the store knows of the clips, named: ``features``, ``mean``, ``variance``.

        Dimensions are ``clip`` and the axes of the layout; coordinates are Hz and seconds, ids, labels, devices,
        places, sides of splits and ``usable``. Values are lazy (dask).

        Raises
        ------
        StoreError
            When xarray or dask is not installed.
        """
        with needing("xarray"):
            import xarray
        layout, header = self.store.layout, self.store.header
        dims, bands = ["clip", *(a.name for a in layout.axes)], ["clip", *(a.name for a in layout.bands)]
        mean, variance = (array[self.clips] for array in self.store.statistics())
        coordinates = {
            a.name: (a.name, np.array(a.coordinates()), {"units": a.unit} if a.unit else {}) for a in layout.axes
        }
        table = {n: ("clip", np.array([self.store.table[n][i] for i in self.clips])) for n in self.store.table}
        said = {"long_name": layout.quantity}
        return xarray.Dataset(
            {"features": (dims, self.dask(), said), "mean": (bands, mean), "variance": (bands, variance)},
            coords={**coordinates, **table, "usable": ("clip", self.store.usable[self.clips])},
            attrs={"dataset": header.dataset, "recipe": header.recipe.name, "fingerprint": header.recipe_fingerprint},
        )


class TorchClips:
    """Clips of a view as tensors; what ``torch.utils.data.DataLoader`` takes for a dataset."""

    def __init__(self, view: View) -> None:
        self.view = view

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Features of one clip, ``layout.shape``, float32."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indexes: Sequence[int]) -> list[torch.Tensor]:
        """Features of some clips, read together."""
        from torch import from_numpy  # here: who reads numpy arrays does not wait for torch

        return list(from_numpy(self.view.store.read(self.view.clips[list(indexes)])))


class _Sliced:
    """What dask slices: values of a view, read when they are asked for."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.shape = (len(view), *view.store.layout.shape)
        self.dtype, self.ndim = np.dtype(np.float32), len(self.shape)

    def __getitem__(self, key: tuple[Any, ...]) -> Values:
        first, *rest = key if isinstance(key, tuple) else (key,)
        chosen = self.view.clips[first]
        values: Values = self.view.store.read(np.atleast_1d(chosen))[(slice(None), *rest)]
        return values if np.ndim(chosen) else values[0]


def select(store: Store, split: str | None, side: str | None, wanted: dict[str, Wanted]) -> npt.NDArray[np.int64]:
    """Positions of the usable clips that have every wanted property.

    Raises
    ------
    StoreError
        When there is no such property, split or value; the nearest is named.
    """
    chosen = store.usable.copy()
    for name, values in wanted.items():
        chosen &= _having(store, name, values)
    if (split is None) != (side is None):
        raise StoreError("A side is one of a split, and only one of both was given.", todo="Give split= and side=.")
    if split is not None and side is not None:
        sides = store.sides(split)
        _known(store, f"side of {split}", side, sorted({"train", "test", "unused", *sides.tolist()}))
        chosen &= sides == side
    return np.flatnonzero(chosen)


def _having(store: Store, name: str, wanted: Wanted) -> npt.NDArray[np.bool_]:
    names = [SCENE, "clip", *PROPERTIES]
    _known(store, "property", name, names)
    column = store.table["label" if name == SCENE else name]
    values = [wanted] if isinstance(wanted, str) or not isinstance(wanted, Iterable) else [*wanted]
    for value in values:
        if not isinstance(value, str):
            raise StoreError(
                f"{name}={wanted!r} selects no clips: {value!r} is no text.", todo="Give a word, or several."
            )
        _known(store, name, value, sorted({*column}))
    return np.isin(np.array(column), list(values))


def _known(store: Store, what: str, value: str, known: Sequence[str]) -> None:
    if not any(known):
        raise StoreError(f"The clips of {store.place} have no {what}.", todo="Select by something else.")
    if value not in known:
        shown = ", ".join(repr(k) for k in known[:8]) + (", …" if len(known) > 8 else "")
        raise StoreError(
            f"{store.place} has no {what} {value!r}: {nearest(value, known)}",
            differences=[Difference(field=what, expected=f"one of {shown}", found=repr(value))],
            todo="Select by one of these.",
        )


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Say what to install where an optional library is not there."""
    try:
        yield
    except ImportError as error:
        raise StoreError(
            f"This view needs {extra}, which is not installed: {error}.",
            todo=f"Install it: pip install 'ascfeat[{extra}]'.",
        ) from error
