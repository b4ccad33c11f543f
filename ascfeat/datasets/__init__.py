"""Loaders, one dataset layout a file: a folder to a manifest."""

from ascfeat.datasets.opening import loader_of, loaders, open_dataset, recognise
from ascfeat.datasets.protocol import FOLDERS, GROUP, LAYOUT, LIST, OFFICIAL, Dataset
from ascfeat.datasets.tree import AUDIO_SUFFIXES, Tree

__all__ = [
    "AUDIO_SUFFIXES",
    "FOLDERS",
    "GROUP",
    "LAYOUT",
    "LIST",
    "OFFICIAL",
    "Dataset",
    "Tree",
    "loader_of",
    "loaders",
    "open_dataset",
    "recognise",
]
