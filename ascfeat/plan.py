"""Recipe and manifest to a plan: shapes, units, bytes and versions, known before any audio is read."""

from __future__ import annotations

import math
from importlib.metadata import version

from ascfeat.audio import decoder_versions, waveform_format
from ascfeat.dsp.backends import DEVICES, NONE, fastest
from ascfeat.patches import check
from ascfeat.representations import representation
from ascfeat.store import clip_table, encoding, table_digest
from ascschemas.base import Parameters
from ascschemas.correction import Grid
from ascschemas.dataset import AudioFormat, Manifest
from ascschemas.problems import DatasetError, Difference, RecipeError, nearest
from ascschemas.recipe import Decode, FeatureRecipe
from ascschemas.store import NUMBER_BYTES, StoreHeader

SHARD_BYTES = 32 << 20
"""Decoded size that a shard stays under: larger buffers are mapped afresh at every read, which halves the speed."""
SHARD_CLIPS = 1024
"""Clips that a shard holds at most, however small: an interruption loses the unit that was under way."""
CHUNK_OVERHEAD = 4 + 16
"""Bytes that a chunk costs beyond its values: its checksum, and its entry in the shard's index."""
LEDGER_BYTES = 450
"""Bytes that a clip's ledger record, coordinates and strings take, about."""
METADATA_BYTES = 52_000
"""Bytes that the arrays' metadata takes, once each and once consolidated; a correction's come on top, twice."""


def plan(
    recipe: FeatureRecipe, manifest: Manifest, audio: AudioFormat, *, backend: str, device: str, bits: int = 0
) -> StoreHeader:
    """Everything about a store that is decided before its first value.

    Parameters
    ----------
    recipe : FeatureRecipe
        As ``load_recipe`` returns it, every default written out.
    manifest : Manifest
        The dataset's clips and splits.
    audio : AudioFormat
        The format that its recordings share.
    backend : str
        Name of the backend, or ``auto``.
    device : str
        ``cpu`` or ``cuda:i``.
    bits : int
        Bits of the recordings' samples where all are integers of at most so many, from ``audio.sample_bits``; else 0.

    Raises
    ------
    DatasetError
        When the dataset lists no clips.
    RecipeError
        When the recipe makes no sense for such recordings, its patches are wider than their features, or no backend of
        that name computes it.
    """
    if not manifest.clips:
        raise DatasetError(f"Dataset {manifest.dataset} lists no clips.", todo="Check the path and the dataset kind.")
    kind = representation(recipe.representation)
    available = getattr(kind, "computable_by", kind.backends)
    chosen = NONE if available == (NONE,) else _backend(backend, available, recipe, device)
    if hasattr(kind, "computed_by"):  # a backend may compute another definition, which is then the recipe's
        kind = kind.computed_by(chosen)
        recipe = recipe.model_copy(update={"representation": Parameters.model_validate(kind.model_dump(mode="json"))})
    layout = kind.layout(waveform_format(audio, recipe.decode))
    if recipe.correction is not None:
        refuse_other_grid(recipe, audio, recipe.correction.grid)
    if recipe.patches is not None:
        check(layout, recipe.patches)
    how = encoding(recipe.storage, layout, bits=bits if keeps_samples(recipe, audio) else 0)
    return StoreHeader(
        dataset=manifest.dataset,
        dataset_kind=manifest.kind,
        manifest=manifest.fingerprint,
        table=table_digest(clip_table(manifest)),
        recipe=recipe,
        recipe_fingerprint=recipe.fingerprint,
        audio=audio,
        layout=layout,
        encoding=how,
        clips=len(manifest.clips),
        clips_per_unit=clips_per_unit(recipe, layout.clip_bytes // 4 * NUMBER_BYTES[how.dtype], len(manifest.clips)),
        classes=manifest.classes,
        splits=tuple(s.name for s in manifest.splits),
        backend=NONE if chosen == NONE else f"{chosen}-{device.split(':')[0]}",
        software=_software(chosen, audio, recipe.decode),
    )


def refuse_other_grid(recipe: FeatureRecipe, audio: AudioFormat, grid: Grid) -> None:
    """Raise where a recipe cannot be corrected by coefficients of a grid: its bins are others, or it has none.

    Raises
    ------
    RecipeError
        With both values.
    """
    kind = representation(recipe.representation)
    n_fft, rate = getattr(kind, "corrected_n_fft", None), waveform_format(audio, recipe.decode).sample_rate
    if n_fft is None:
        raise RecipeError(
            f"The spectra of {recipe.name} cannot be corrected: {recipe.representation.kind} is computed from no STFT.",
            differences=[Difference(field="kind", expected="a short-time spectrum", found=recipe.representation.kind)],
            todo="Correct a recipe of kind log_mel, mfcc, hpss_mfcc or mean_spectrum.",
        )
    both = {"n_fft": (grid.n_fft, n_fft), "sample_rate": (grid.sample_rate, rate)}
    apart = [Difference(field=n, expected=str(a), found=str(b)) for n, (a, b) in both.items() if a != b]
    if apart:
        raise RecipeError(
            f"The coefficients were measured at other frequencies than those of {recipe.name}.",
            differences=apart,
            todo="Measure them as this recipe transforms, from mean spectra of its n_fft and rate: --spectra FILE.",
        )


def keeps_samples(recipe: FeatureRecipe, audio: AudioFormat) -> bool:
    """Whether a recipe's features are the very samples of recordings of a format, so that integers stay integers."""
    decode, kind = recipe.decode, representation(recipe.representation)
    same = waveform_format(audio, decode).sample_rate == audio.sample_rate and not decode.remove_dc
    one = (decode.other_rate, decode.other_channels) == ("exclude", "exclude")
    return (
        getattr(kind, "keeps_samples", False) and same and one and (audio.channels == 1 or decode.channels == "native")
    )


def stored_bytes(header: StoreHeader, clips: int) -> int:
    """Size on disk of that many clips of a store, about: values, statistics and bookkeeping."""
    if not clips:
        return 0
    units = -(-clips // header.clips_per_unit)
    statistics = 2 * 8 * math.prod(header.layout.band_shape)  # mean and variance in float64
    values = header.number_bytes + CHUNK_OVERHEAD + LEDGER_BYTES
    coordinates = 8 * sum(header.layout.shape)
    held = header.recipe.correction
    factors = 2 * sum(map(len, held.coefficients.values())) if held else 0
    return clips * values + units * header.clips_per_unit * statistics + coordinates + METADATA_BYTES + factors


def clips_per_unit(recipe: FeatureRecipe, clip_bytes: int, clips: int) -> int:
    """The largest power of two of clips whose values take at most ``SHARD_BYTES``; no larger than holds them all."""
    asked = recipe.storage.clips_per_shard
    fitting = min(1 << max(0, (SHARD_BYTES // clip_bytes).bit_length() - 1), SHARD_CLIPS)
    return min(fitting if asked == "auto" else asked, 1 << (clips - 1).bit_length())


def _backend(name: str, available: tuple[str, ...], recipe: FeatureRecipe, device: str) -> str:
    if name == "auto":
        return fastest(available, device)
    if name not in available:
        raise RecipeError(
            f"No backend {name!r} computes {recipe.representation.kind}: {nearest(name, available)}",
            todo="Use --backend auto, or one of the names above.",
        )
    if device.split(":")[0] not in DEVICES[name]:
        raise RecipeError(
            f"Backend {name} does not compute on {device}.",
            todo=f"Use --device {DEVICES[name][0]}, or --backend auto.",
        )
    return name


COMPUTES = {
    "numba": ("numba", "scipy"),
    "torch": ("torch",),
    "nnaudio": ("nnaudio", "torch"),
    "librosa": ("librosa", "scipy"),
}
"""Libraries that compute values in each backend."""


def _software(backend: str, audio: AudioFormat, spec: Decode) -> dict[str, str]:
    """Versions that can change a value: of our own code, the decoder, the resampler and the transform; no others.

    The two packages of the decoder and the resampler bring a C library of its own version each. The resampler stands
    here only where a recording may be resampled: a new one is no reason to compute again what it never touched.
    """
    packages = ("ascfeat", "numpy", *COMPUTES.get(backend, ()))
    return {name: version(name).split("+")[0] for name in packages} | decoder_versions(audio, spec)
