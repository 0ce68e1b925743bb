"""What is written to disk: base models, adapters and running jobs.

Base models and adapters are safetensors files with T5X's parameter names and one
layer a tensor; a running job's state is an orbax checkpoint (`checkpoint.run`, which
is imported on its own because orbax is slow to import). A file is there whole or not
at all.
"""

from tfew_jax.checkpoint.adapter import Adapter, load_adapter
from tfew_jax.checkpoint.bank import BASE, Bank, load_bank
from tfew_jax.checkpoint.composition import compose
from tfew_jax.checkpoint.model import Model, load_model, save_model

__all__ = [
    "BASE",
    "Adapter",
    "Bank",
    "Model",
    "compose",
    "load_adapter",
    "load_bank",
    "load_model",
    "save_model",
]
