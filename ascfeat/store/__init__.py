"""The feature store, and the door to zarr: create it, write its units, seal it, open it, read clips, verify it."""

from ascfeat.store.coefficients import coefficient_place, read_coefficients, write_coefficients
from ascfeat.store.creating import build, create
from ascfeat.store.encoding import encoding
from ascfeat.store.places import Folder, Place, open_place
from ascfeat.store.reading import Statistics, Store, Values, find_stores, open_store, store_path, unit_rows
from ascfeat.store.table import clip_table, table_digest
from ascfeat.store.verifying import Part, Problem, ProblemKind, open_to_verify, root_problems, sound_root, verify
from ascfeat.store.views import View
from ascfeat.store.writing import Row, Writer, row

__all__ = [
    "Folder",
    "Part",
    "Place",
    "Problem",
    "ProblemKind",
    "Row",
    "Statistics",
    "Store",
    "Values",
    "View",
    "Writer",
    "build",
    "clip_table",
    "coefficient_place",
    "create",
    "encoding",
    "find_stores",
    "open_place",
    "open_store",
    "open_to_verify",
    "read_coefficients",
    "root_problems",
    "row",
    "sound_root",
    "store_path",
    "table_digest",
    "unit_rows",
    "verify",
    "write_coefficients",
]
