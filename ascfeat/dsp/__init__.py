"""Shared numerics: filter banks, and one file per backend."""
