"""The one base of every schema: frozen, closed, finite; with a canonical JSON form and a fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict

Scalar = bool | int | float | str | None
"""A JSON scalar: what a recipe's parameter may be made of."""


class Frozen(BaseModel):
    """A value: it cannot change, it accepts no unknown key, and it holds no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )


class Parameters(BaseModel):
    """A plug-in's ``kind`` and its parameters, readable without the plug-in being installed.

    The plug-in's own closed model decides which keys are legal; here only their types are: scalars and flat lists.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, Scalar | tuple[Scalar, ...]]

    kind: str
    """Name of the plug-in, as in its entry point."""

    def values(self) -> dict[str, Any]:
        """Every parameter but ``kind``, as JSON values."""
        return self.model_dump(mode="json", exclude={"kind"})


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, shortest floats; integral floats as integers.

    ``canonical_json(a) == canonical_json(b)`` exactly when ``a`` and ``b`` hold the same numbers and words.
    """
    return json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of a schema value, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _canonical(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {str(k): _canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 50 and 50.0 are one frequency
    return value
