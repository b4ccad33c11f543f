"""How fast are stores written and read, and how large are they? Against memory-mapped .npy, plain zarr and HDF5.

Log-mels of textured noise, one channel, as nguyen2020 has them: 883 kB a clip in float32. Everybody reads the same
clips in the same order: batches drawn at random, and all in order. ``warm`` is from the page cache, ``cold`` after the
cache was told to forget the files. A ratio is the speed over that of memory-mapped .npy of the same number format,
measured in the same round; the median round counts.

``python tests/benchmarks/store.py`` prints the tables of docs/benchmarks.md.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for servers.py
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for `weed`

import plain  # noqa: F401  # first: it limits the threads, before NumPy is imported

# isort: split
import h5py
import numpy as np
import servers
import zarr

from ascfeat import share
from ascfeat.store import Store, Writer, clip_table, create, encoding, open_store, row, table_digest
from ascschemas.dataset import AudioFormat, Clip, Manifest
from ascschemas.layout import Axis, Layout, LogScale
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import ClipRecord, StoreHeader

WAYS = {
    "float32": {},
    "float32, compressed": {"compress": True},
    "float16": {"precision": "float16"},
    "float16, compressed": {"precision": "float16", "compress": True},
    "0.05dB": {"precision": "0.05dB"},
    "0.05dB, compressed": {"precision": "0.05dB", "compress": True},
}
"""Storage slots of recipes."""
LEVELS = np.log(1e-7)
Reader = Callable[[np.ndarray], None]


def spectrogram(draw: np.random.Generator, bands: int, frames: int) -> np.ndarray:
    """Natural logarithms of mel magnitudes of noise whose level wanders, as recordings' do; numbers of log-mels."""
    slope = np.linspace(-1, -7, bands)[:, None]
    wander = np.cumsum(draw.normal(0, 0.05, frames))[None]
    rayleigh = 0.5 * np.log(-np.log(draw.uniform(1e-6, 1, (bands, frames))))
    return np.maximum(slope + wander + rayleigh, LEVELS).astype(np.float32)[None]


def planned(storage: dict, clips: int, shape: tuple[int, int]) -> tuple[StoreHeader, Manifest]:
    """A header and a list of clips for such features."""
    axes = (
        Axis(name="channel", size=1),
        Axis(name="frequency", size=shape[0], unit="Hz"),
        Axis(name="time", size=shape[1], unit="s", step=512 / 44_100),
    )
    layout = Layout(axes=axes, quantity="ln(mel)", log=LogScale(decibels=20 / np.log(10), lowest=LEVELS))
    manifest = Manifest(
        dataset="made", kind="made", clips=tuple(Clip(id=f"{i:05}.wav", label="bus") for i in range(clips))
    )
    recipe = FeatureRecipe.model_validate({"name": "made", "representation": {"kind": "made"}, "storage": storage})
    how = encoding(recipe.storage, layout)
    each = layout.clip_bytes * np.dtype(how.dtype).itemsize // 4
    header = StoreHeader(
        dataset="made",
        dataset_kind="made",
        manifest=manifest.fingerprint,
        table=table_digest(clip_table(manifest)),
        recipe=recipe,
        recipe_fingerprint=recipe.fingerprint,
        audio=AudioFormat(sample_rate=44_100, channels=1, frames=441_000),
        layout=layout,
        encoding=how,
        clips=clips,
        clips_per_unit=min(1 << max(0, ((32 << 20) // each).bit_length() - 1), clips),
        classes=("bus",),
        splits=(),
        backend="none",
        software={},
    )
    return header, manifest


def write_store(path: Path, storage: dict, values: np.ndarray) -> Store:
    """A sealed store of values."""
    header, manifest = planned(storage, len(values), values.shape[2:])
    create(path, header, manifest)
    writer = Writer(path)
    for unit in range(header.units):
        at = slice(unit * header.clips_per_unit, (unit + 1) * header.clips_per_unit)
        writer.write(unit, [row(ClipRecord(), v, header) for v in values[at]])
    writer.finish()
    return open_store(path)


def write_plain(path: Path, values: np.ndarray, unit: int) -> zarr.Array:
    """The same by zarr-python alone: shards, a clip a chunk, crc32c; unit by unit."""
    shape = values.shape[1:]
    array = zarr.create_array(
        path, shape=values.shape, chunks=(1, *shape), shards=(min(unit, len(values)), *shape), dtype=values.dtype,
        fill_value=np.nan, compressors=zarr.codecs.Crc32cCodec(), config={"write_empty_chunks": True},
    )  # fmt: skip
    for start in range(0, len(values), unit):
        array[start : start + unit] = values[start : start + unit]
    return array


def write_hdf5(path: Path, values: np.ndarray) -> h5py.Dataset:
    """The same in HDF5: a clip a chunk, Fletcher's checksum."""
    file = h5py.File(path, "w")
    file.create_dataset("features", data=values, chunks=(1, *values.shape[1:]), fletcher32=True)
    file.close()
    return h5py.File(path, "r")["features"]


def seconds(function: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def size(path: Path) -> int:
    """Bytes of a file or of all files of a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def forget(path: Path) -> None:
    """Drop a file or a folder from the page cache."""
    for file in [path] if path.is_file() else (p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def readers(folder: Path, values: np.ndarray, batch: int) -> dict[str, tuple[str, Path, Callable[[], Reader]]]:
    """By name: number format, where it lies, and what opens it and then reads clips into memory that it keeps."""
    shape = values.shape[1:]
    kept = {d: np.empty((batch, *shape), d) for d in ("float32", "float16", "int16")}

    def mapped(name: str, dtype: str) -> Callable[[], Reader]:
        def opened() -> Reader:
            array = np.load(folder / name, mmap_mode="r")  # anew: pages that are mapped are not forgotten
            return lambda clips: _drop(np.take(array, clips, axis=0, out=kept[dtype][: len(clips)], mode="clip"))

        return opened

    def stored(name: str, dtype: str) -> Callable[[], Reader]:
        def opened() -> Reader:
            store = open_store(folder / f"{name}.zarr")
            return lambda clips: _drop(store.read(clips, out=kept[dtype][: len(clips)]))

        return opened

    def zarr_loop() -> Reader:
        array = zarr.open_array(folder / "plain.zarr", mode="r")

        def read(clips: np.ndarray) -> None:
            for i, clip in enumerate(clips.tolist()):
                kept["float32"][i] = array[clip]

        return read

    def zarr_fancy() -> Reader:
        array = zarr.open_array(folder / "plain.zarr", mode="r")
        return lambda clips: _drop(array.oindex[np.sort(clips)])

    def hdf5() -> Reader:
        array = h5py.File(folder / "plain.h5", "r")["features"]

        def read(clips: np.ndarray) -> None:
            for i, clip in enumerate(clips.tolist()):
                array.read_direct(kept["float32"], np.s_[clip], np.s_[i])

        return read

    found: dict[str, tuple[str, Path, Callable[[], Reader]]] = {
        "memory-mapped .npy, float32": ("float32", folder / "float32.npy", mapped("float32.npy", "float32")),
        "memory-mapped .npy, float16": ("float16", folder / "float16.npy", mapped("float16.npy", "float16")),
    }
    for name in WAYS:
        found[f"Store.read, {name}"] = ("float32", folder / f"{name}.zarr", stored(name, "float32"))
    found["Store.read, float16 as it is"] = ("float16", folder / "float16.zarr", stored("float16", "float16"))
    found["zarr, clip by clip"] = ("float32", folder / "plain.zarr", zarr_loop)
    found["zarr, oindex"] = ("float32", folder / "plain.zarr", zarr_fancy)
    found["HDF5, clip by clip"] = ("float32", folder / "plain.h5", hdf5)
    return found


def _drop(_: object) -> None:
    """Nothing: what was read is in the caller's memory."""


def measure(name: str, found: dict, order: np.ndarray, batch: int, *, cold: bool) -> float:
    """Clips a second."""
    _, path, opened = found[name]
    if cold:
        forget(path)
    read = opened()
    spent = seconds(lambda: [read(order[i : i + batch]) for i in range(0, len(order), batch)])
    return len(order) / spent


def writing(folder: Path, values: np.ndarray, rounds: int) -> None:
    """The table of writing and size."""
    unit = planned({}, len(values), values.shape[2:])[0].clips_per_unit
    ways: dict[str, tuple[Path, Callable[[], object]]] = {
        ".npy, float32": (folder / "float32.npy", lambda: save(folder / "float32.npy", values)),
        ".npy, float16": (folder / "float16.npy", lambda: save(folder / "float16.npy", values.astype(np.float16))),
    }
    for name, storage in WAYS.items():
        path = folder / f"{name}.zarr"
        ways[f"store, {name}"] = path, lambda p=path, s=storage: write_store(p, s, values)
    ways["zarr, float32"] = folder / "plain.zarr", lambda: write_plain(folder / "plain.zarr", values, unit)
    ways["HDF5, float32"] = folder / "plain.h5", lambda: write_hdf5(folder / "plain.h5", values)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (path, write) in ways.items():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            times[name].append(seconds(write))
    base = size(folder / "float32.npy")
    print("| written as | clips/s | / .npy | size / float32 |\n|---|--:|--:|--:|")
    for name, (path, _) in ways.items():
        ratio = statistics.median(a / b for a, b in zip(times[".npy, float32"], times[name], strict=True))
        rate = len(values) / statistics.median(times[name])
        print(f"| {name} | {rate:.0f} | {ratio:.2f} | {size(path) / base:.2f} |", flush=True)


def save(path: Path, values: np.ndarray) -> None:
    """As ``numpy.save``, and to the disk, as all others."""
    with path.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


def reading(folder: Path, values: np.ndarray, given: argparse.Namespace) -> None:
    """The table of reading."""
    found = readers(folder, values, given.batch)
    draw = np.random.default_rng(0)
    orders = {"shuffled": draw.permutation(len(values)), "in order": np.arange(len(values))}
    cells: dict[str, dict[str, tuple[float, float]]] = {name: {} for name in found}
    for label, order, cold in (
        ("shuffled, warm", orders["shuffled"], False),
        ("in order, warm", orders["in order"], False),
        ("shuffled, cold", orders["shuffled"], True),
    ):
        if not cold:
            for name in found:
                measure(name, found, order, given.batch, cold=False)
        rates = [
            {name: measure(name, found, order, given.batch, cold=cold) for name in found} for _ in range(given.rounds)
        ]
        for name, (kind, _, _) in found.items():
            base = f"memory-mapped .npy, {kind}"
            ratio = statistics.median(r[name] / r[base] for r in rates)
            cells[name][label] = statistics.median(r[name] for r in rates), ratio
    labels = list(next(iter(cells.values())))
    print("| read by | " + " | ".join(f"{label}, clips/s | / mapped" for label in labels) + " |")
    print("|---|" + "--:|--:|" * len(labels))
    for name, by in cells.items():
        print(f"| {name} | " + " | ".join(f"{by[x][0]:.0f} | {by[x][1]:.2f}" for x in labels) + " |", flush=True)


def remote(folder: Path, values: np.ndarray, given: argparse.Namespace) -> None:
    """The table of reading over HTTP and S3, from real servers on loopback."""
    order = {"shuffled": np.random.default_rng(0).permutation(len(values)), "in order": np.arange(len(values))}
    kept = np.empty((given.batch, *values.shape[1:]), np.float32)
    with servers.object_store() as weed, servers.web_server() as nginx:
        os.environ.update(weed.environment())
        shutil.copytree(folder / "float32.zarr", nginx.files / "made" / "float32.zarr")
        bucket = f"s3://{servers.SHARED}"
        share.run(share.transfer(folder / "float32.zarr", f"{bucket}/made/float32.zarr"))
        print("| from | " + " | ".join(f"{label}, clips/s | zarr-python" for label in order) + " |")
        print("|---|" + "--:|--:|" * len(order))
        for name, library in {"HTTP (nginx)": nginx.url, "S3 (SeaweedFS)": bucket}.items():
            store = open_store(f"{library}/made/float32.zarr")
            array = zarr.open_array(store.place.zarr(), path="features", mode="r")
            cells = [f"{_rate(store, x, kept, given):.0f} | {_zarr_rate(array, x, given):.0f}" for x in order.values()]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def _rate(store: Store, clips: np.ndarray, kept: np.ndarray, given: argparse.Namespace) -> float:
    """Clips a second by our reader."""

    def read() -> None:
        for i in range(0, len(clips), given.batch):
            store.read(clips[i : i + given.batch], out=kept[: len(clips[i : i + given.batch])])

    return len(clips) / statistics.median(seconds(read) for _ in range(given.rounds))


def _zarr_rate(array: zarr.Array, clips: np.ndarray, given: argparse.Namespace) -> float:
    """Clips a second by zarr-python, one by one."""
    few = clips[: given.batch].tolist()
    return len(few) / statistics.median(seconds(lambda: [array[i] for i in few]) for _ in range(given.rounds))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--clips", type=int, default=512)
    words.add_argument("--bands", type=int, default=256)
    words.add_argument("--frames", type=int, default=862)
    words.add_argument("--batch", type=int, default=64)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--servers", action="store_true", help="also over HTTP and S3, from servers started for it")
    words.add_argument("--folder", type=Path, help="on the disk to be measured")
    given = words.parse_args()
    draw = np.random.default_rng(0)
    values = np.stack([spectrogram(draw, given.bands, given.frames) for _ in range(given.clips)])
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        print(
            f"{os.cpu_count()} CPUs; {given.clips} clips of {values[0].nbytes / 1e3:.0f} kB in float32, "
            f"batches of {given.batch}; zarr {zarr.__version__}, h5py {h5py.__version__}; median of {given.rounds}\n"
        )
        writing(folder, values, min(given.rounds, 3))
        print()
        reading(folder, values, given)
        if given.servers:
            print()
            remote(folder, values, given)


if __name__ == "__main__":
    main()
