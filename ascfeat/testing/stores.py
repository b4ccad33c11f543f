"""Small stores of made-up values, in every way in which a store can keep them, without any audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ascfeat.store import Folder, Store, Writer, clip_table, create, encoding, open_store, row, table_digest, unit_rows
from ascschemas.dataset import AudioFormat, Clip, Manifest, Split
from ascschemas.layout import Axis, Layout, LogScale
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord, StoreHeader

CLIPS, UNIT, EXCLUDED = 11, 4, 6
"""Three units, the last one short; one clip holds no values."""
LN = 20 / np.log(10)
"""Decibels of a neper."""

WAYS: Mapping[str, tuple[dict[str, object], int]] = {
    "float32": ({}, 0),
    "float32-lz4": ({"compress": True}, 0),
    "float16": ({"precision": "float16"}, 0),
    "float16-lz4": ({"precision": "float16", "compress": True}, 0),
    "0.05dB": ({"precision": "0.05dB"}, 0),
    "0.05dB-lz4": ({"precision": "0.05dB", "compress": True}, 0),
    "int16": ({}, 16),
    "int16-lz4": ({"compress": True}, 16),
    "int24": ({}, 24),
    "int24-lz4": ({"compress": True}, 24),
}
"""Every codec that a store can write: its storage slot, and the bits of its samples where it keeps samples."""


def log_layout() -> Layout:
    """Natural logarithms of magnitudes, two channels of five bands and seven frames."""
    axes = (
        Axis(name="channel", size=2, values=("left", "right")),
        Axis(name="frequency", size=5, unit="Hz", values=(100, 200, 300, 400, 500)),
        Axis(name="time", size=7, unit="s", step=0.01),
    )
    return Layout(axes=axes, quantity="ln(magnitude)", log=LogScale(decibels=LN, lowest=float(np.log(1e-7))))


def wave_layout() -> Layout:
    """Samples of two channels."""
    axes = (Axis(name="channel", size=2), Axis(name="time", size=50, unit="s", step=1e-4))
    return Layout(axes=axes, quantity="amplitude, full scale 1")


def values_for(layout: Layout, bits: int) -> npt.NDArray[np.float32]:
    """Values of every clip; where samples are kept, integers of so many bits, both ends of their range among them."""
    draw = np.random.default_rng(0)
    shape = (CLIPS, *layout.shape)
    if not bits:
        return draw.uniform(-16.1, 8, shape).astype(np.float32)
    most = 1 << (bits - 1)
    steps = draw.integers(-most, most, shape)
    steps[:, 0, 0], steps[:, 0, 1] = -most, most - 1
    return (steps / most).astype(np.float32)


def manifest_of(count: int = CLIPS) -> Manifest:
    """Labelled clips of two devices and one split."""
    clips = tuple(
        Clip(id=f"audio/{i:02}.wav", label=("bus", "tram")[i % 2], device="ab"[i % 2], location=f"oslo-{i}")
        for i in range(count)
    )
    split = Split(name="fold1", train=tuple(c.id for c in clips[::2]), test=tuple(c.id for c in clips[1::2]))
    return Manifest(dataset="made", kind="made_up", clips=clips, splits=(split,))


def header_of(layout: Layout, manifest: Manifest, storage: dict[str, object], bits: int = 0) -> StoreHeader:
    """A header that says how values are kept."""
    said = {"name": "made", "representation": {"kind": "made_up"}, "storage": storage}
    recipe = FeatureRecipe.model_validate(said)
    return StoreHeader(
        dataset=manifest.dataset,
        dataset_kind=manifest.kind,
        manifest=manifest.fingerprint,
        table=table_digest(clip_table(manifest)),
        recipe=recipe,
        recipe_fingerprint=recipe.fingerprint,
        audio=AudioFormat(sample_rate=8000, channels=2, frames=50),
        layout=layout,
        encoding=encoding(recipe.storage, layout, bits=bits),
        clips=len(manifest.clips),
        clips_per_unit=UNIT,
        classes=manifest.classes,
        splits=("fold1",),
        backend="none",
        software={},
    )


def make_store(path: Path, way: str = "float32", *, seal: bool = True) -> Store:
    """A store of ``values_for`` in one of ``WAYS``, clip ``EXCLUDED`` left out."""
    storage, bits = WAYS[way]
    layout, manifest = wave_layout() if bits else log_layout(), manifest_of()
    header, values = header_of(layout, manifest, storage, bits), values_for(layout, bits)
    Folder(path).parent.make()
    create(path, header, manifest)
    writer = Writer(path)
    for unit in range(header.units):
        rows = range(*unit_rows(header, unit))
        why = ["silent" if i == EXCLUDED else "" for i in rows]
        clips = [(ClipRecord(excluded=w), None if w else values[i]) for i, w in zip(rows, why, strict=True)]
        writer.write(unit, [row(r, v, header) for r, v in clips])
    if seal:
        writer.finish()
    return open_store(path) if seal else Store(path)
