"""The feature store, and the door to zarr: create it, write its units, seal it, open it, read clips, verify it."""

from ascfeat.store.creating import create
from ascfeat.store.reading import Statistics, Store, Values, find_stores, open_store, store_path, unit_rows
from ascfeat.store.table import clip_table, table_digest
from ascfeat.store.verifying import Problem, ProblemKind, verify
from ascfeat.store.writing import Row, Writer, row, sweep

__all__ = [
    "Problem",
    "ProblemKind",
    "Row",
    "Statistics",
    "Store",
    "Values",
    "Writer",
    "clip_table",
    "create",
    "find_stores",
    "open_store",
    "row",
    "store_path",
    "sweep",
    "table_digest",
    "unit_rows",
    "verify",
]
