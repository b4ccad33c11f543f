"""Trainers, one a file: a task to a run."""
