"""The store of a correction's coefficients: small, written at once, and refused when a byte of it is another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from pydantic import ValidationError

from ascfeat.store.creating import WHOLE, array, aside, document, root_document, strings
from ascfeat.store.metadata import CHECK, COEFFICIENTS, ROOT
from ascfeat.store.places import Place, open_place
from ascfeat.store.reading import root_of
from ascschemas.correction import Audit, Correction
from ascschemas.problems import StoreError

HELD: Final = "ascfeat_correction"
"""Attribute of the root that holds the correction, and the digest of every other file."""
AUDIT: Final = "audit.json"
"""The file that says how the coefficients came about."""
FORMAT_VERSION: Final = 1


def coefficient_place(features: Place | Path | str, dataset: str, name: str) -> Place:
    """Where the coefficients of a dataset's correction lie: ``<features>/<dataset>/coefficients+<name>.zarr``."""
    return open_place(features) / dataset / f"{COEFFICIENTS}{name}.zarr"


def write_coefficients(place: Place, correction: Correction, audit: Audit) -> bool:
    """Publish coefficients, built aside and moved into place; False where something is there already.

    Raises
    ------
    StoreError
        When the place cannot be written.
    """
    try:
        place.parent.make()
        with aside(place) as folder:
            _build(folder, correction, audit)
            return place.adopt(folder, ROOT)
    except OSError as error:
        raise StoreError(
            f"No coefficients can be kept at {place}: {error.strerror or error}.",
            todo="Check that the place can be written, or name another --features.",
        ) from error


def read_coefficients(place: Place | Path | str) -> tuple[Correction, Audit]:
    """The correction and the audit that a store holds, every byte of it checked.

    Raises
    ------
    StoreError
        When there is none, or it is damaged.
    """
    place = open_place(place)
    attributes = _attributes(place)
    held = attributes.get(HELD)
    if CHECK not in attributes or not isinstance(held, dict) or held.get("format_version") != FORMAT_VERSION:
        raise _damaged(place, "it holds no coefficients that this version reads")
    try:
        _refuse_other_files(place, dict(held["files"]))
        correction = Correction.model_validate(held["correction"])
        audit = Audit.model_validate_json(place.read(AUDIT))
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise _damaged(place, f"its description does not hold: {str(error).splitlines()[0]}") from error
    if place.read("coefficients/c/0/0")[:-4] != _matrix(correction).tobytes():
        raise _damaged(place, "its array is not the correction that it describes")
    return correction, audit


def _refuse_other_files(place: Place, files: dict[str, str]) -> None:
    for key, digest in {AUDIT: "", "coefficients/c/0/0": "", **files}.items():
        if not place.exists(key) or hashlib.sha256(place.read(key)).hexdigest() != digest:
            raise _damaged(place, f"{key} is not what was written")


def _attributes(place: Place) -> dict[str, Any]:
    """Those of the root, which matches the digest in it."""
    if not place.exists(ROOT):
        raise StoreError(
            f"There are no coefficients at {place}.", todo="Make them with `ascfeat correct --ref ABC DATASET`."
        )
    try:
        attributes: dict[str, Any] = root_of(place)["attributes"]
    except StoreError as error:
        raise _damaged(place, error.what.removeprefix(f"{place} cannot be used: ").rstrip(".")) from error
    return attributes


def _build(folder: Path, correction: Correction, audit: Audit) -> None:
    group = zarr.create_group(folder, zarr_format=3)
    values = _matrix(correction)
    said = {"long_name": "factor on the magnitude spectrum"}
    kept = array(group, "coefficients", values.shape, values.shape, "float64", ("device", "frequency"), attributes=said)
    kept.with_config(WHOLE)[:] = values
    strings(group, "device", correction.devices, "device")
    frequency = np.array(correction.grid.frequencies())
    axis = array(
        group, "frequency", frequency.shape, frequency.shape, "float64", ("frequency",), attributes={"units": "Hz"}
    )
    axis.with_config(WHOLE)[:] = frequency
    (folder / AUDIT).write_text(audit.model_dump_json(indent=1), encoding="utf-8")
    for file in folder.rglob("zarr.json"):
        file.write_bytes(document(json.loads(file.read_bytes())))
    inside = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / ROOT)
    files = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in inside}
    held: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "correction": correction.model_dump(mode="json"),
        "files": files,
    }
    members = {p.parent.name: json.loads(p.read_bytes()) for p in inside if p.name == ROOT}
    (folder / ROOT).write_bytes(root_document({HELD: held}, members))


def _matrix(correction: Correction) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``(device, frequency)``, little-endian."""
    return np.array([correction.of_device(d) for d in correction.devices], "<f8")


def _damaged(place: Place, why: str) -> StoreError:
    return StoreError(
        f"{place} is damaged: {why}.",
        todo="Remove it and run `ascfeat correct` again; a store that was corrected by it holds its own copy.",
    )
