"""Benchmarks: every kernel against a named, tuned peer in the same run."""
