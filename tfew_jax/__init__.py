"""Few-shot tuning of frozen T5-family models in JAX."""

__version__ = "0.1.0"
