"""The larger measurements of `tools/bench.py`, a module each."""
