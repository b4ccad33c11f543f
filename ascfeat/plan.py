"""Recipe and manifest to a plan: shapes, units, bytes and versions, known before any audio is read."""

from __future__ import annotations

from importlib.metadata import version

from ascfeat.audio import waveform_format
from ascfeat.representations import representation
from ascfeat.store import clip_table, table_digest
from ascschemas.dataset import AudioFormat, Manifest
from ascschemas.problems import DatasetError, RecipeError, nearest
from ascschemas.recipe import FeatureRecipe
from ascschemas.store import StoreHeader

SHARD_BYTES = 32 << 20
"""Decoded size that a shard stays under: larger buffers are mapped afresh at every read, which halves the speed."""
CHUNK_OVERHEAD = 4 + 16
"""Bytes that a chunk costs beyond its values: its checksum, and its entry in the shard's index."""
LEDGER_BYTES = 450
"""Bytes that a clip's ledger record, coordinates and strings take, about."""
METADATA_BYTES = 30_000
"""Bytes that the arrays' metadata takes, once each and once consolidated."""


def plan(recipe: FeatureRecipe, manifest: Manifest, audio: AudioFormat, *, backend: str, device: str) -> StoreHeader:
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

    Raises
    ------
    DatasetError
        When the dataset lists no clips.
    RecipeError
        When the recipe makes no sense for such recordings, or no backend of that name computes it.
    """
    if not manifest.clips:
        raise DatasetError(f"Dataset {manifest.dataset} lists no clips.", todo="Check the path and the dataset kind.")
    kind = representation(recipe.representation)
    chosen = _backend(backend, kind.backends, recipe)
    layout = kind.layout(waveform_format(audio, recipe.decode))
    return StoreHeader(
        dataset=manifest.dataset,
        dataset_kind=manifest.kind,
        manifest=manifest.fingerprint,
        table=table_digest(clip_table(manifest)),
        recipe=recipe,
        recipe_fingerprint=recipe.fingerprint,
        audio=audio,
        layout=layout,
        clips=len(manifest.clips),
        clips_per_unit=_clips_per_unit(recipe, layout.clip_bytes, len(manifest.clips)),
        classes=manifest.classes,
        splits=tuple(s.name for s in manifest.splits),
        backend=chosen if chosen == "librosa" else f"{chosen}-{device.split(':')[0]}",
        software=_software(chosen),
    )


def stored_bytes(header: StoreHeader, clips: int) -> int:
    """Size on disk of that many clips of a store, about: values, statistics and bookkeeping."""
    if not clips:
        return 0
    units = -(-clips // header.clips_per_unit)
    statistics = 2 * 8 * header.layout.clip_bytes // 4 // header.layout.shape[-1]  # mean and variance in float64
    values = header.layout.clip_bytes + CHUNK_OVERHEAD + LEDGER_BYTES
    return clips * values + units * header.clips_per_unit * statistics + METADATA_BYTES


def _clips_per_unit(recipe: FeatureRecipe, clip_bytes: int, clips: int) -> int:
    """The largest power of two of clips whose values take at most ``SHARD_BYTES``; no larger than holds them all."""
    asked = recipe.storage.clips_per_shard
    fitting = 1 << max(0, (SHARD_BYTES // clip_bytes).bit_length() - 1)
    return min(fitting if asked == "auto" else asked, 1 << (clips - 1).bit_length())


def _backend(name: str, available: tuple[str, ...], recipe: FeatureRecipe) -> str:
    if name == "auto":
        return available[0]
    if name not in available:
        raise RecipeError(
            f"No backend {name!r} computes {recipe.representation.kind}: {nearest(name, available)}",
            todo="Use --backend auto, or one of the names above.",
        )
    return name


def _software(backend: str) -> dict[str, str]:
    """Versions that can change a value: of our own code, the decoder, the resampler and the transform."""
    packages = ("ascfeat", "numpy", "soundfile", "soxr", backend)
    return {name: version(name).split("+")[0] for name in packages}
