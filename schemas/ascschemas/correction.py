"""Device spectrum correction: a factor for each device and frequency bin, and the audit of how it was estimated."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ascschemas.base import Frozen, fingerprint
from ascschemas.units import Count, Digest, Hertz, Name, Size

Method = Literal["mean", "pairs", "geometric", "geometric_unaligned"]
"""How coefficients are estimated from parallel recordings: nguyen2020; Kosmider 2019; Kosmider 2020, paired or not."""
Device = Annotated[str, Field(min_length=1, max_length=100)]
Decibels = Annotated[float, Field(allow_inf_nan=False)]


class Grid(Frozen):
    """The transform that coefficients were measured in; a recipe fits where bins and rate are the same."""

    sample_rate: Size
    """Samples per second of the waveforms, in Hz."""
    n_fft: Annotated[int, Field(ge=2, le=1 << 17, multiple_of=2)]
    """Length of the FFT, in samples."""
    win_length: Size
    """Length of the window, in samples; a recipe's may be another."""
    hop_length: Size
    """Samples from one frame to the next; a recipe's may be another."""
    window: Literal["hann", "hamming"]
    """Shape of the window; a recipe's may be another."""
    remove_dc: bool
    """Whether each recording's mean was subtracted first; a recipe may do otherwise."""

    @property
    def bins(self) -> int:
        """Frequencies of the transform: ``n_fft // 2 + 1``."""
        return self.n_fft // 2 + 1

    def frequencies(self) -> tuple[float, ...]:
        """Centre of each bin, in Hz."""
        return tuple(k * self.sample_rate / self.n_fft for k in range(self.bins))


class Correction(Frozen):
    """Coefficients ``c_d[k]`` that a device's magnitude spectrum is multiplied by; devices without any are left alone.

    Numbers are float64 to the bit, so that the digest says exactly what a store was corrected by.
    """

    reference: Annotated[tuple[Device, ...], Field(min_length=1)]
    """Devices whose mean is what every device is brought to, in alphabetical order."""
    method: Method
    """How the coefficients were estimated."""
    split: Name
    """Split whose training side they were estimated from."""
    grid: Grid
    """The transform that they were measured in."""
    coefficients: Annotated[dict[Device, str], Field(min_length=1)]
    """Base64 of each device's ``n_fft // 2 + 1`` factors as little-endian float64, by device in alphabetical order."""
    digest: Digest
    """SHA-256 of all of the above."""

    @model_validator(mode="after")
    def _holds(self) -> Self:
        for device, text in self.coefficients.items():
            values = _numbers(text)
            if len(values) != self.grid.bins:
                raise ValueError(f"device {device} has {len(values)} factors, and n_fft asks for {self.grid.bins}")
            if not all(math.isfinite(v) and v >= 0 for v in values):
                raise ValueError(f"device {device} has a factor that is negative or not finite")
        if list(self.coefficients) != sorted(self.coefficients) or list(self.reference) != sorted({*self.reference}):
            raise ValueError("devices are not in alphabetical order, each once")
        if self.digest != _digest(self.model_dump(mode="json", exclude={"digest"})):
            raise ValueError("the digest is not that of these coefficients")
        return self

    @classmethod
    def of(
        cls,
        coefficients: Mapping[str, Sequence[float]],
        *,
        reference: Sequence[str],
        method: Method,
        split: str,
        grid: Grid,
    ) -> Self:
        """A correction from numbers, its digest computed."""
        held = {
            "reference": sorted({*reference}),
            "method": method,
            "split": split,
            "grid": grid.model_dump(mode="json"),
            "coefficients": {device: _text(coefficients[device]) for device in sorted(coefficients)},
        }
        return cls.model_validate({**held, "digest": _digest(held)})

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that have coefficients, in alphabetical order."""
        return tuple(self.coefficients)

    def of_device(self, device: str) -> tuple[float, ...] | None:
        """A device's factors, one a frequency bin; None where it has none."""
        text = self.coefficients.get(device)
        return None if text is None else _numbers(text)

    def words(self) -> dict[str, str]:
        """What tells one correction from another, for a person."""
        return {
            "reference": ", ".join(self.reference),
            "method": self.method,
            "split": self.split,
            "devices": ", ".join(self.devices),
            "n_fft": str(self.grid.n_fft),
            "sample_rate": str(self.grid.sample_rate),
            "digest": self.digest,
        }


class DeviceAudit(Frozen):
    """What one device's coefficients were estimated from."""

    device: Device
    """The device."""
    clips: tuple[str, ...]
    """Ids of its clips that were used, in the dataset's order."""
    unpaired: Count
    """Its usable training clips that were not used, because they have no partner of every device that is asked for."""
    guarded: tuple[Count, ...]
    """Frequency bins whose divisor was below 1e-10, and was raised to it."""
    lowest: Decibels
    """Smallest coefficient, in dB; of a coefficient of zero, -400."""
    highest: Decibels
    """Largest coefficient, in dB."""


class Band(Frozen):
    """How far devices lie apart in one band of frequencies, on recordings that the estimate did not see."""

    low: Hertz
    """Lower edge, in Hz."""
    high: Hertz
    """Upper edge, in Hz."""
    before: Annotated[float, Field(ge=0)]
    """Root mean square of the devices' levels about their mean, in dB, uncorrected."""
    after: Annotated[float, Field(ge=0)]
    """The same after correction."""


class HeldOut(Frozen):
    """Devices compared on parallel recordings that were held off: coefficients of the rest are tried on them."""

    stems: tuple[str, ...]
    """Moments that were held off, each recorded by every device that is compared."""
    locations: tuple[str, ...]
    """Their locations, of which the estimate saw none; empty where moments of one location had to be divided."""
    devices: tuple[Device, ...]
    """Devices that are compared."""
    estimated_from: Count
    """Moments that the coefficients of this comparison were estimated from."""
    seed: Count
    """What the locations were drawn by."""
    before: Annotated[float, Field(ge=0)]
    """Root mean square over bands of ``bands[].before``, in dB: how far the devices' mean spectra lie apart."""
    after: Annotated[float, Field(ge=0)]
    """The same after correction."""
    each_before: Annotated[float, Field(ge=0)]
    """The same of single recordings, root mean square over the moments: what one clip shows of its device, in dB."""
    each_after: Annotated[float, Field(ge=0)]
    """The same after correction; noise of a device, which no filter takes away, stays."""
    bands: tuple[Band, ...]
    """Third octaves."""

    @property
    def reduction(self) -> float:
        """Share of the devices' difference that is gone, of their mean spectra in dB."""
        return 1 - self.after / self.before if self.before else 0.0


class Audit(Frozen):
    """How coefficients came about; all of it was counted, not taken from what was asked for."""

    dataset: Name
    """Name of the dataset."""
    manifest: Digest
    """Fingerprint of its clips and splits."""
    spectra: Digest
    """Seal of the store that the mean spectra came from."""
    split: Name
    """The split."""
    pairing: Literal["complete", "anchor", "each", "none"]
    """``complete``: moments that every device recorded. ``anchor``: each device against its own moments in common with
    ``anchor``, because moments that all recorded are few. ``each``: moments that a device and every reference device
    recorded. ``none``: all training clips, unpaired."""
    anchor: str = ""
    """The device that shares most moments with the others."""
    moments: Count
    """Moments that the training side knows at least two devices of."""
    devices: Annotated[tuple[DeviceAudit, ...], Field(min_length=1)]
    """Devices that have coefficients."""
    without: tuple[str, ...]
    """Devices of the dataset that have none: their clips are corrected by nothing."""
    from_test: Count
    """Clips used that the split has on its test side; counted over every clip used, and refused unless 0."""
    beside_test: Count
    """Usable training clips that were left out because another device's recording of the moment is on the test side."""
    excluded: Count
    """Training clips that hold no values, and were left out."""
    repeated: Count
    """Training clips left out because their device has another one of the same moment."""
    identity: Annotated[float, Field(ge=0)] | None
    """``max |mean of corrected spectra - R| / R`` over devices and unguarded bins, of method ``mean``; else None."""
    held_out: HeldOut | None
    """Devices compared on recordings held off; None where there are too few parallel ones to hold any off."""

    @model_validator(mode="after")
    def _clean(self) -> Self:
        if self.from_test:
            raise ValueError(f"{self.from_test} clips are from the test side")
        return self


def _digest(held: Mapping[str, object]) -> str:
    return fingerprint(dict(held))


def _text(values: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}d", *values)).decode()


def _numbers(text: str) -> tuple[float, ...]:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"coefficients are not base64: {error}") from error
    if len(data) % 8:
        raise ValueError(f"coefficients end within a number: {len(data)} bytes")
    return struct.unpack(f"<{len(data) // 8}d", data)
