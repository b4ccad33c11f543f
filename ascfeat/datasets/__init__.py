"""Loaders, one dataset a file: a folder to a manifest."""
