"""Audio to feature stores: datasets, representations, extraction and the stores themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ascfeat.correction.correcting import correct as correct
    from ascfeat.store import open_store as open_store

__all__ = ["correct", "open_store"]


def __getattr__(name: str) -> Any:
    """``ascfeat.open_store`` and ``ascfeat.correct``, imported when asked for: ``import ascfeat`` stays free."""
    if name == "correct":
        from ascfeat.correction.correcting import correct

        return correct
    if name == "open_store":
        from ascfeat.store import open_store

        return open_store
    raise AttributeError(f"module 'ascfeat' has no attribute {name!r}")
