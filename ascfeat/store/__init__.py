"""The feature store, and the door to zarr: create it, write its units, seal it, open it, read clips."""

from ascfeat.store.creating import create
from ascfeat.store.reading import Statistics, Store, Values, find_stores, open_store, store_path, unit_rows
from ascfeat.store.writing import Writer, sweep

__all__ = [
    "Statistics",
    "Store",
    "Values",
    "Writer",
    "create",
    "find_stores",
    "open_store",
    "store_path",
    "sweep",
    "unit_rows",
]
