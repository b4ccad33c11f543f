"""Representations, one kind a file: waveforms to features."""
