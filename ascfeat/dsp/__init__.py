"""Shared numerics: filter banks, and one package per backend."""
