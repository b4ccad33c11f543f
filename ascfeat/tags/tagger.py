"""Taggers: callables from a waveform to tags, imported by name or offered by a package for a file or folder."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass, field
from functools import reduce
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ascfeat.tags.source import Tagger, Values, refuse_names
from ascschemas import plugins
from ascschemas.base import fingerprint
from ascschemas.dataset import AudioFormat
from ascschemas.problems import AscError, TagsError

GROUP: Final = "ascfeat.taggers"
"""Entry points ``(path, device) -> Tagger``, or None where the path is nothing that they know."""


@dataclass(frozen=True)
class Tagging:
    """A callable as a source of tags; it is called by one thread at a time."""

    names: tuple[str, ...]
    digest: str
    tagger: Tagger
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def row(self, clip: str, waveform: Values, sample_rate: int) -> npt.ArrayLike:
        """What the callable says of a clip.

        Raises
        ------
        TagsError
            When it fails.
        """
        try:
            with self.lock:
                return self.tagger(waveform.copy(), sample_rate)  # it may write into what it is given
        except AscError:
            raise
        except Exception as error:
            raise _failed(clip, error) from error


def tagging(tagger: Tagger, audio: AudioFormat, called: str = "") -> Tagging:
    """A callable made a source of tags.

    Parameters
    ----------
    tagger : callable
        ``(waveform (channel, samples) float32, sample_rate) -> (C,)``. Its ``names`` are the tags' where it has some;
        else it is tried on silence, and tags are named ``0``, ``1``, ….
    audio : AudioFormat
        Format of the waveforms that it will be given.
    called : str
        What it was asked for by; module and name of the callable by default.

    Raises
    ------
    TagsError
        When it fails on silence, or its tags have no names of their own.
    """
    names = getattr(tagger, "names", None)
    names = tuple(str(n) for n in names) if names is not None else _tried(tagger, audio)
    refuse_names(names, f"Tagger {called or _called(tagger)}")
    digest = getattr(tagger, "digest", None) or _identity(tagger, called or _called(tagger))
    return Tagging(names, fingerprint({"names": names, "tagger": str(digest)}), tagger)


def imported(path: str) -> Tagger:
    """The callable that ``package.module:name`` means.

    Raises
    ------
    TagsError
        When there is no such module or name, or it cannot be called.
    """
    module, _, name = path.partition(":")
    try:
        found: Tagger = reduce(getattr, name.split("."), import_module(module))
    except Exception as error:  # a stranger's module raises what it will
        raise TagsError(
            f"Tagger {path} cannot be imported: {error}", todo="Check both names; the module must be installed."
        ) from error
    if not callable(found):
        raise TagsError(f"{path} cannot be called.", todo="Name a function, or an object with __call__.")
    return found


def offered(path: Path, device: str) -> Tagger:
    """The tagger that some package makes of a file or folder.

    Raises
    ------
    TagsError
        When none does.
    """
    for name in plugins.names(GROUP):
        found: Tagger | None = plugins.load(GROUP, name)(path, device)
        if found is not None:
            return found
    asked = ", ".join(plugins.names(GROUP)) or "none"
    raise TagsError(
        f"{path} is nothing that tags can be taken from; taggers asked: {asked}.",
        todo="Give a .csv or .npy file, the folder of a run, or package.module:callable.",
    )


def _tried(tagger: Tagger, audio: AudioFormat) -> tuple[str, ...]:
    """Numbers for as many tags as silence gives."""
    try:
        values = np.asarray(tagger(np.zeros((audio.channels, audio.frames), np.float32), audio.sample_rate))
    except AscError:
        raise
    except Exception as error:
        raise _failed("silence", error) from error
    if values.ndim != 1:
        raise TagsError(
            f"Tagger {_called(tagger)} gives an array of shape {values.shape}.", todo="Return one number a tag."
        )
    return tuple(str(i) for i in range(len(values)))


def _identity(tagger: Tagger, called: str) -> str:
    """Digest of a callable's name, the file that defines it, and the version that it says it is of."""
    module = inspect.getmodule(tagger) or inspect.getmodule(type(tagger))
    file = getattr(module, "__file__", None)
    source = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None
    return fingerprint({"called": called, "module": source, "version": str(getattr(tagger, "version", ""))})


def _called(tagger: Tagger) -> str:
    named: Any = tagger if hasattr(tagger, "__qualname__") else type(tagger)
    return f"{named.__module__}:{named.__qualname__}"


def _failed(clip: str, error: Exception) -> TagsError:
    return TagsError(
        f"The tagger fails on {clip}: {type(error).__name__}: {error}",
        todo="Correct it, and run the same command again; a tagger leaves a clip out by raising AudioError.",
    )
