"""Audio to feature stores: datasets, representations, extraction and the stores themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ascfeat.store import open_store as open_store

__all__ = ["open_store"]


def __getattr__(name: str) -> Any:
    """``ascfeat.open_store``, imported when it is asked for: ``import ascfeat`` stays free."""
    if name == "open_store":
        from ascfeat.store import open_store

        return open_store
    raise AttributeError(f"module 'ascfeat' has no attribute {name!r}")
