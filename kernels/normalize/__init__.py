"""Pixels to numbers: ``(x * scale - mean) / std``, one file per target."""
