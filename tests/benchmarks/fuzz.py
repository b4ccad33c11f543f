"""Whatever bytes a store, recipe, list, recording or archive has: are they read or refused in words, never more?

Each target makes a good file, bends it, and hands it to the code that a person's command would hand it to. Right are
an ``AscError``, or a result that is what was stored. Wrong are any other exception, a wrong value that nobody names,
more than ``MEMORY`` of memory or ``SECONDS`` for one case, and a dead process.

``python tests/benchmarks/fuzz.py`` runs 10,000 cases a target, each target in a process of its own, and exits 1 where
anything was wrong. ``--engine atheris`` lets libFuzzer choose the bytes of recordings and archives, by coverage.
"""

import argparse
import contextlib
import copy
import functools
import inspect
import io
import itertools
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import soundfile
import yaml
from hypothesis import strategies as st

from ascfeat.audio import decode, probe, read, waveform
from ascfeat.datasets.opening import loaders, open_dataset
from ascfeat.datasets.tree import Tree
from ascfeat.recipes import load_recipe, names
from ascfeat.representations import representation
from ascfeat.store import chunks, open_store, verify
from ascfeat.store.creating import CHECK, document, root_digest
from ascfeat.testing.stores import make_store
from ascschemas.dataset import AudioFormat
from ascschemas.problems import AscError
from ascschemas.recipe import Decode

MEMORY = 400 << 20
"""Bytes by which one case may raise the process's peak: a dozen times what the largest of these files decodes to."""
SECONDS = 20
"""For one case; the usual one takes milliseconds."""
AUDIO = AudioFormat(sample_rate=8000, channels=1, frames=400)
LENIENT = Decode(other_rate="resample", other_channels="accept", other_length="fit")

Case = Any
Accept = Callable[[Case], None]
"""Hands one case to the code; returns where it was taken, raises AscError where it was refused."""


class Wrong(Exception):
    """A case that was taken and should not have been."""


class TooSlow(BaseException):
    """Raised by the timer inside a case; nothing that catches Exception swallows it."""


@dataclass
class Tally:
    """What became of the cases of one target."""

    taken: int = 0
    refused: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    """Where and what, with the smallest case that shows it."""


# --- bending -----------------------------------------------------------------------------------------------------

ABSURD = [None, True, [], {}, "", "NaN", "../../etc/passwd", "/etc/passwd", "a\0b", "é" * 300, -1, 0, 1, 2.5, 1e308]
ABSURD += [1e-320, 2**31 - 1, 2**31, 2**40, 2**63, 2**64, 10**12, 10**30, "gzip", "numcodecs.pickle", [10**12] * 4]
NUMBERS = [b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0", b"\0\x10\0\0", b"\xff" * 8]
JSON_OPS = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.sampled_from(["put", "delete", "rename", "wrap", "twice", "swap"]),
              st.sampled_from(ABSURD) | st.integers() | st.floats() | st.text(max_size=20)),
    min_size=1, max_size=3,
)  # fmt: skip
BYTE_OPS = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from(["flip", "put", "insert", "delete", "cut", "copy"]),
              st.sampled_from(NUMBERS) | st.binary(max_size=12)),
    min_size=1, max_size=5,
)  # fmt: skip


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, v in list(inner) for place in [(value, key), *leaves(v)]]


def bent(value: Any, operations: list[tuple[int, str, Any]]) -> Any:
    """A JSON value after some operations on places in it."""
    value = copy.deepcopy(value)
    for at, how, drawn in operations:
        places, what = leaves(value), copy.deepcopy(drawn)  # what is put in may be bent next
        if not places:
            return what
        box, key = places[at % len(places)]
        other, other_key = places[(at // 7) % len(places)]
        if how == "put":
            box[key] = what
        elif how == "delete":
            del box[key]
        elif how == "rename" and isinstance(box, dict):
            box[str(what)] = box.pop(key)
        elif how == "wrap":
            box[key] = [box[key], what]
        elif how == "twice":
            box[key] = copy.deepcopy(value) if len(str(value)) < 5000 else [box[key]] * 2
        else:
            box[key] = copy.deepcopy(other[other_key])
    return value


def broken(data: bytes, operations: list[tuple[int, str, bytes]]) -> bytes:
    """Bytes after some operations on places in them."""
    for at, how, what in operations:
        i = at % (len(data) + 1)
        if how == "flip":
            data = data[:i] + bytes([(data[i] if i < len(data) else 0) ^ (1 << at % 8)]) + data[i + 1 :]
        elif how == "put":
            data = data[:i] + what + data[i + len(what) :]
        elif how == "insert":
            data = data[:i] + what + data[i:]
        elif how == "delete":
            data = data[:i] + data[i + 1 + len(what) :]
        elif how == "cut":
            data = data[:i]
        else:
            data = data[:i] + data[i // 2 : i] + data[i:]
    return data


EXTENTS = [("clips",), ("clips_per_unit",), ("layout", "axes", 0, "size"), ("layout", "axes", 1, "size")]
EXTENTS += [("layout", "axes", 2, "size"), ("layout", "axes", 2, "step"), ("encoding", "scale"), ("audio", "frames")]
"""Numbers of a header that memory and time follow."""


# --- stores ------------------------------------------------------------------------------------------------------


class Kept:
    """A sealed store, and a check that what can be read of it is what was stored."""

    def __init__(self, room: Path, way: str) -> None:
        self.path = room / "made" / f"{way}.zarr"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        store = make_store(self.path, way)
        self.keys = sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())
        self.good = {key: (self.path / key).read_bytes() for key in self.keys}
        self.values, self.ids = store.read(range(len(store.ids))), store.ids

    def judge(self, changed: dict[str, bytes]) -> None:
        """Open, read and verify the store with other bytes in some files; then put the good ones back."""
        try:
            for key, data in changed.items():
                (self.path / key).write_bytes(data)
            store = open_store(self.path)
            problems = list(verify(store))
            values, ids = store.read(range(store.header.clips)), store.ids
            store.statistics(), store.usable, store.excluded(), [store.sides(s) for s in store.header.splits]
            same = ids == self.ids and np.array_equal(values, self.values, equal_nan=True)
            if not problems and not same:
                raise Wrong("other values or names than were stored, and verify finds nothing")
        finally:
            for key in changed:
                (self.path / key).write_bytes(self.good[key])


def metadata(room: Path) -> tuple[st.SearchStrategy[Case], Accept]:
    """Documents of a store: bent as JSON, with digests that match as an attacker would make them, or as bytes."""
    kept = Kept(room, "0.05dB-lz4")
    keys = [key for key in kept.keys if key.endswith(".json")] + ["zarr.json"] * 6

    def accept(case: tuple[str, Any, str]) -> None:
        key, operations, how = case
        if how == "bytes":
            return kept.judge({key: broken(kept.good[key], operations)})
        value = json.loads(kept.good[key])
        if how == "extents":
            for number, count in operations:
                *path, last = EXTENTS[number]
                functools.reduce(lambda box, at: box[at], path, value["attributes"]["ascfeat"])[last] = count
        else:
            value = bent(value, operations)
        if key == "zarr.json" and isinstance(value, dict) and isinstance(value.get("attributes"), dict):
            with contextlib.suppress(ValueError):  # NaN, lone surrogates
                value["attributes"][CHECK] = root_digest(value)
        data = document(value)
        changed = {key: data} | ({"ledger/root.json": data} if key == "zarr.json" else {})
        return kept.judge(changed)

    asked = st.sampled_from(keys)
    count = st.sampled_from([0, 1, 5, 10, 12, 65_536, 10**6, 10**7, 10**8, 2**20, 2**26, 2**40, -1, 11.0, True, "11"])
    extents = st.lists(st.tuples(st.integers(0, len(EXTENTS) - 1), count), min_size=1, max_size=3)
    sealed = st.tuples(st.just("zarr.json"), extents, st.just("extents"))
    whole = st.tuples(asked, JSON_OPS, st.just("json")) | st.tuples(asked, BYTE_OPS, st.just("bytes"))
    return whole | sealed, accept


def ledger(room: Path) -> tuple[st.SearchStrategy[Case], Accept]:
    """Records of the ledger and the seal, bent as JSON or as text, with checksums and digests that match."""
    kept = Kept(room, "float16-lz4")
    records = [key for key in kept.keys if key.startswith("ledger/record/c/")]

    def accept(case: tuple[int, Any, bool]) -> None:
        which, operations, as_json = case
        if which >= len(records):
            root = json.loads(kept.good["zarr.json"])
            root["attributes"]["ascfeat_seal"] = bent(root["attributes"]["ascfeat_seal"], operations if as_json else [])
            with contextlib.suppress(ValueError):
                root["attributes"][CHECK] = root_digest(root)
            return kept.judge(dict.fromkeys(["zarr.json", "ledger/root.json"], document(root)))
        text = chunks.text_of(kept.good[records[which]])
        said = json.dumps(bent(json.loads(text), operations)).encode() if as_json else broken(text.encode(), operations)
        held = (1).to_bytes(4, "little") + len(said).to_bytes(4, "little") + said
        return kept.judge({records[which]: held + chunks.checksum(held)})

    asked = st.integers(0, len(records) + 1)
    return st.tuples(asked, JSON_OPS, st.just(True)) | st.tuples(asked, BYTE_OPS, st.just(False)), accept


def shards(room: Path) -> tuple[st.SearchStrategy[Case], Accept]:
    """Chunks and shards, bent as bytes, with checksums that match again: lengths, indexes and packed sizes that lie."""
    kept = [Kept(room, way) for way in ("float32", "0.05dB-lz4", "int24-lz4")]

    def accept(case: tuple[int, int, Any, bool]) -> None:
        which, number, operations, sealed = case
        store = kept[which]
        keys = [key for key in store.keys if "/c/" in key]
        key = keys[number % len(keys)]
        data, index = store.good[key], 16 * 4 + 4
        if not sealed:
            return store.judge({key: broken(data, operations)})
        if key.startswith("features/") and number % 2:
            body, tail = data[:-index], broken(data[-index:-4], operations)
            return store.judge({key: body + tail + chunks.checksum(tail)})
        if key.startswith("features/"):
            start, size = struct.unpack("<QQ", data[-index : 16 - index])
            inner = broken(data[start : start + size - 4], operations)[: size - 4].ljust(size - 4, b"\0")
            return store.judge({key: data[:start] + inner + chunks.checksum(inner) + data[start + size :]})
        held = broken(data[:-4], operations)
        return store.judge({key: held + chunks.checksum(held)})

    return st.tuples(st.integers(0, 2), st.integers(0, 1 << 10), BYTE_OPS, st.booleans()), accept


# --- recipes -----------------------------------------------------------------------------------------------------

YAML_WORDS = ["&a ", "*a", "!!python/object/apply:os.system [id]", "!!python/name:os.system", "<<: *a", "? ", "- " * 40]
YAML_WORDS += ["{" * 400, "[" * 400, "9" * 5000, "0x" + "f" * 5000, ".nan", "-.inf", "1e999", "!!int ''", "!!bool x"]
YAML_WORDS += [
    "2024-13-45",
    "1:59:59",
    "!!binary aGk=",
    "!!timestamp x",
    "!!set {a}",
    "\t",
    "---\n",
    "...\n",
    "%YAML 9\n",
]
YAML_WORDS += ["name: x\nname: y\n", "\ufeff", "\x85", "a: &a [*a]\n", "'" * 3, '"\\ud800"', "!<x> y", "|9\n", "@", "`"]


def recipe(room: Path) -> tuple[st.SearchStrategy[Case], Accept]:
    """Recipe files: values bent, words of YAML put in, and plain text; read, and its layout computed."""
    good = [load_recipe(name).model_dump(mode="json") for name in names()]
    file = room / "mine.yaml"

    def accept(case: tuple[int, Any, list[tuple[int, str]]]) -> None:
        which, operations, words = case
        if which < 0:
            text = "".join(word for _, word in words)
        else:
            text = yaml.safe_dump(bent(good[which % len(good)], operations), sort_keys=False)
        for at, word in words:
            i = at % (len(text) + 1)
            text = text[:i] + word + text[i:]
        file.write_text(text, encoding="utf-8", errors="surrogatepass")
        found = load_recipe(str(file))
        assert len(found.fingerprint) == 64
        representation(found.representation).layout(AudioFormat(sample_rate=48_000, channels=2, frames=480_000))

    words = st.lists(st.tuples(st.integers(0, 5000), st.sampled_from(YAML_WORDS) | st.text(max_size=30)), max_size=3)
    return st.tuples(st.integers(-1, 20), JSON_OPS, words), accept


# --- lists of datasets -------------------------------------------------------------------------------------------

LISTS = {
    "dataset.csv": "filename,label,device,city,fold\naudio/a.wav,bus,a,oslo,1\naudio/b.wav,tram,b,oslo,2\n",
    "meta.csv": "filename\tscene_label\tidentifier\tsource_label\naudio/bus-oslo-1-2-a.wav\tbus\toslo-1\ta\n",
    "meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n1-100032-A-0.wav,1,0,dog,True,100032,A\n",
    "evaluation_setup/fold1_train.csv": "filename\tscene_label\naudio/bus-oslo-1-2-a.wav\tbus\n",
    "evaluation_setup/fold1_test.csv": "filename\naudio/tram-oslo-1-3-a.wav\n",
    "evaluation_setup/fold1_evaluate.txt": "audio/tram-oslo-1-3-a.wav\ttram\n",
}
CELLS = [
    "../../etc/passwd.wav",
    "/etc/passwd.wav",
    "a\0b.wav",
    "..",
    ".",
    "",
    "C:\\x.wav",
    "\\\\host\\x.wav",
    "a" * 3000,
]
CELLS += [
    '"',
    '"a""',
    "²",
    "١",
    "1" * 5000,
    "\u202ea.wav",
    "é.wav",
    "fold1",
    "-1",
    "1.0",
    "nan",
    "\ufeff",
    ",",
    ";",
    "\t",
]
CELLS += [
    "audio/a.wav",
    "train",
    "test",
    "bus-oslo-1-2-a.wav",
    "\r",
    "\n",
    "\x85",
    "\u2028",
    "~",
    "$HOME",
    "=cmd|x",
    "%s{0}",
]


def lists(room: Path) -> tuple[st.SearchStrategy[Case], Accept]:
    """Lists of a dataset, bent as text or as bytes: read by the loader that fits, and by every other one too."""
    asked = [loader for loader in loaders() if type(loader).__module__.startswith("ascfeat.")]

    def accept(case: tuple[list[str], list[tuple[int, str]], Any]) -> None:
        with tempfile.TemporaryDirectory(dir=room) as folder:
            root = Path(folder)
            for name in ("a.wav", "b.wav", "bus-oslo-1-2-a.wav"):
                (root / "audio").mkdir(exist_ok=True)
                (root / "audio" / name).touch()
            which, cells, operations = case
            for name in which:
                text = LISTS[name]
                for at, cell in cells:
                    parts = text.split(",\t"[at % 2])
                    parts[at % len(parts)] = cell
                    text = ",\t"[at % 2].join(parts)
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_bytes(broken(text.encode("utf-8", "surrogatepass"), operations))
            for loader in asked:
                with contextlib.suppress(AscError):
                    if loader.recognises(tree := Tree(root)):
                        _inside(loader.manifest(tree).clips)
            with patch("ascfeat.datasets.opening.loaders", lambda: asked):  # to look them up takes 100 ms
                _inside(open_dataset(root)[1].clips)

    cells = st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(CELLS) | st.text(max_size=20)), max_size=4)
    which = st.lists(st.sampled_from(list(LISTS)), min_size=1, max_size=3, unique=True)
    return st.tuples(which, cells, st.just([]) | BYTE_OPS), accept


def _inside(clips: Any) -> None:
    bad = [c.id for c in clips if c.id.startswith("/") or ".." in c.id.split("/") or "\0" in c.id]
    if bad:
        raise Wrong(f"a clip called {bad[0]!r}")


# --- recordings --------------------------------------------------------------------------------------------------


def recordings() -> list[bytes]:
    """A short recording in each format that libsndfile writes and people use."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((400, 2))
    made = []
    for form, kind in (("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("WAV", "MS_ADPCM"),
                       ("RF64", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("AIFF", "PCM_16"), ("W64", "PCM_16"),
                       ("CAF", "PCM_16"), ("AU", "PCM_16"), ("MP3", "MPEG_LAYER_III")):  # fmt: skip
        target = io.BytesIO()
        with contextlib.suppress(soundfile.LibsndfileError, ValueError, TypeError):  # older libsndfile has no MP3
            soundfile.write(target, noise, 8000, format=form, subtype=kind)
            made.append(target.getvalue())
    return made


def hear(data: bytes) -> None:
    """Decode a recording and bring it to a recipe's form, as extraction does."""
    recording = decode(data, "x.wav")
    found = waveform(recording, "x.wav", AUDIO, LENIENT)
    if found.shape != (1, AUDIO.frames) or not np.isfinite(found).all():
        raise Wrong(f"a waveform of shape {found.shape}, not all of it finite")


def wav(room: Path) -> tuple[st.SearchStrategy[Case], Accept]:
    """WAV headers of any numbers, and good recordings of every format bent as bytes."""
    good = recordings()

    def accept(case: tuple[Any, ...]) -> None:
        if case[0] == "bent":
            return hear(broken(good[case[1] % len(good)], case[2]))
        _, order, tag, channels, rate, bits, align, claimed, body, extra = case
        fmt = struct.pack(f"{order}HHIIHH", tag, channels, rate, (rate * align) % 2**32, align, bits) + extra
        head = b"WAVEfmt " + struct.pack(f"{order}I", len(fmt)) + fmt + b"data" + struct.pack(f"{order}I", claimed)
        name = b"RIFF" if order == "<" else b"RIFX"
        return hear(name + struct.pack(f"{order}I", len(head) + len(body)) + head + body)

    short = st.sampled_from([0, 1, 2, 3, 4, 8, 16, 24, 32, 64, 256, 1000, 1024, 1025, 65535]) | st.integers(0, 65535)
    long = st.sampled_from([0, 1, 2, 7, 8000, 48000, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(0, 2**32 - 1)
    tags = st.sampled_from([1, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0xFFFE]) | short
    extra = st.sampled_from(
        [b"", b"\0\0", struct.pack("<HHI", 22, 24, 3) + b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"]
    )
    made = st.tuples(st.just("made"), st.sampled_from("<>"), tags, short, long, short, short,
                     long | st.integers(0, 500), st.binary(max_size=400), extra)  # fmt: skip
    return made | st.tuples(st.just("bent"), st.integers(0, 100), BYTE_OPS), accept


# --- archives ----------------------------------------------------------------------------------------------------

MEMBERS = [
    "TAU/audio/a.wav",
    "TAU/meta.csv",
    "../x.wav",
    "/x.wav",
    "a//b.wav",
    ".",
    "./.",
    "..",
    "x\\y.wav",
    "TAU/",
    "c/",
]


def archive_of(plan: list[tuple[str, bytes, int, int]]) -> bytes:
    """A zip archive of members (name, content, method, copies of the content)."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data, method, times in plan:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, data * times)
    return target.getvalue()


def unpack(root: Path, data: bytes) -> None:
    """Put an archive into a dataset folder, list the folder and read everything in it."""
    (root / "x.zip").write_bytes(data)
    tree = Tree(root)
    taken = [name for name in [*tree.files(), *tree.folder()] if tree.exists(name)]
    refused, heard = None, False
    for name in taken[:20]:
        for look in (lambda n=name: read(tree, n), lambda n=name: tree.text(n), lambda n=name: probe(tree, [n])):
            try:
                look()
                heard = True
            except AscError as error:
                refused = error
    if refused is not None and not heard:
        raise refused


def archive(room: Path) -> tuple[st.SearchStrategy[Case], Accept]:
    """Zip archives with names, methods and sizes of all kinds, bent as bytes, most often in their directory."""
    root = room / "set"
    root.mkdir(exist_ok=True)

    def accept(case: tuple[Any, Any, bool]) -> None:
        plan, operations, directory = case
        with contextlib.suppress(UserWarning):
            data = archive_of(plan)
        at = data.find(b"PK\1\2") if directory else 0
        return unpack(root, data[:at] + broken(data[at:], operations))

    sound = recordings()[0]
    content = st.sampled_from([b"", b"0", sound, b"\0" * 4096]) | st.binary(max_size=60)
    methods = st.sampled_from(
        [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
    )
    name = st.sampled_from(MEMBERS) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
    plan = st.lists(st.tuples(name, content, methods, st.sampled_from([1, 1, 1, 500])), min_size=1, max_size=4)
    return st.tuples(plan, st.just([]) | BYTE_OPS, st.booleans()), accept


TARGETS = {t.__name__: t for t in (metadata, ledger, shards, recipe, lists, wav, archive)}
LAST = "last.txt"
"""The case under way, to be found when the process dies of it."""


# --- running -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def limits(seconds: float) -> Iterator[None]:
    """Stop a case that takes too long."""

    def stop(*_: object) -> None:
        raise TooSlow(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    others = signal.setitimer(signal.ITIMER_REAL, seconds)  # a test runner's, perhaps
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *others)
        signal.signal(signal.SIGALRM, before)


def judged(accept: Accept, case: Case, tally: Tally, last: Path) -> None:
    """One case: taken, refused, or a failure that is kept with the smallest case that shows it."""
    last.write_text(repr(case), encoding="utf-8", errors="backslashreplace")  # in case the process dies of it
    peak, started = _peak(), time.perf_counter()
    why = ""
    try:
        with limits(SECONDS):
            accept(case)
        tally.taken += 1
    except AscError as error:
        tally.refused += 1
        why = "" if error.what and error.todo else "an error without what or todo"
    except (Exception, TooSlow) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:200]}"
    tally.seconds += time.perf_counter() - started
    if _peak() - peak > MEMORY:
        why = f"{(_peak() - peak) >> 20} MiB of memory; {why}"
    if why:
        bucket = why.split(": ", 1)[0]
        old = tally.failures.get(bucket)
        new = f"{why}  <-  {case!r}"
        tally.failures[bucket] = new if old is None or len(new) < len(old) else old


def run(target: str, count: int, seed: int, room: Path) -> Tally:
    """So many cases of a target, the same ones for the same seed."""
    strategy, accept = TARGETS[target](room)
    tally = Tally()
    judged(accept, hypothesis.find(strategy, lambda _: True, random=random.Random(0)), Tally(), room / LAST)  # warm

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def cases(case: Case) -> None:
        judged(accept, case, tally, room / LAST)

    cases()
    return tally


def run_atheris(target: str, count: int, seed: int, room: Path) -> None:
    """So many cases that libFuzzer makes, by what they reach in our code and in zipfile; ends the process."""
    import atheris

    import ascfeat.audio
    import ascfeat.datasets.tree

    for module in (ascfeat.audio, ascfeat.datasets.tree, zipfile):
        for owner in (module, *(c for c in vars(module).values() if inspect.isclass(c))):
            for function in vars(owner).values():
                if inspect.isfunction(function) and function.__module__ == module.__name__:
                    atheris.instrument_func(function)
    corpus = room / "corpus"
    corpus.mkdir()
    good = recordings()
    plans = [[("TAU/meta.csv", b"a\tb", 8, 9), ("TAU/audio/a.wav", good[0], method, 1)] for method in (0, 8, 12)]
    for i, data in enumerate(good if target == "wav" else map(archive_of, plans)):
        (corpus / str(i)).write_bytes(data)
    (room / "set").mkdir()
    accept = hear if target == "wav" else functools.partial(unpack, room / "set")
    tally, done = Tally(), itertools.count(1)

    def one(data: bytes) -> None:
        judged(accept, data, tally, room / LAST)
        if next(done) >= count:
            sys.stdout.write(f"{json.dumps(asdict(tally))}\n")
            sys.stdout.flush()
            os._exit(0)

    words = [f"-seed={seed}", "-max_len=8192", "-rss_limit_mb=0", "-verbosity=0", str(corpus)]
    atheris.Setup([sys.argv[0], *words], one)
    atheris.Fuzz()


def in_process(target: str, options: argparse.Namespace) -> Tally:
    """A target in a process of its own: native code may kill it."""
    with tempfile.TemporaryDirectory() as room:
        words = ["--child", "--room", room, "--cases", str(options.cases), "--seed", str(options.seed)]
        command = [sys.executable, __file__, target, *words, "--engine", options.engine]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        with contextlib.suppress(ValueError, IndexError):
            return Tally(**json.loads(done.stdout.strip().splitlines()[-1]))
        last = Path(room, LAST)
        case = last.read_text(encoding="utf-8") if last.is_file() else "none"
        said = (done.stderr.strip().splitlines() or [""])[-1]
        return Tally(failures={"died": f"the process ended with {done.returncode}: {said}  <-  {case}"})


def main() -> int:
    """Run targets and print what became of their cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help=", ".join(TARGETS))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("hypothesis", "atheris"), default="hypothesis")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--room", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        if options.engine == "atheris":
            run_atheris(options.targets[0], options.cases, options.seed, options.room)
        print(json.dumps(asdict(run(options.targets[0], options.cases, options.seed, options.room))))
        return 0
    targets = [t for t in options.targets if options.engine == "hypothesis" or t in ("wav", "archive")]
    print("| target | cases | taken | refused | failures | seconds |\n|---|--:|--:|--:|--:|--:|")
    wrong = []
    for target in targets:
        tally = in_process(target, options)
        cases = tally.taken + tally.refused
        print(f"| {target} | {cases} | {tally.taken} | {tally.refused} | {len(tally.failures)} | {tally.seconds:.0f} |")
        wrong += [f"{target}: {what}" for what in tally.failures.values()]
    for what in wrong:
        print(f"\n{what[:2000]}")
    return 1 if wrong else 0


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
