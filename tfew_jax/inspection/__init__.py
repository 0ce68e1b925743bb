"""What an adapter learned: words near a prompt, units that (IA)^3 rescales.

learned = inspection.load("my_adapter")
report = inspection.inspect_prompts(learned, inspection.load_vocabulary())
report = inspection.inspect_vectors(learned)
"""

from tfew_jax.inspection.prompts import Neighbours, nearest, random_vectors
from tfew_jax.inspection.reports import (
    PromptReport,
    VectorReport,
    inspect_prompts,
    inspect_vectors,
)
from tfew_jax.inspection.sources import Learned, Vocabulary, load, load_vocabulary
from tfew_jax.inspection.units import Unit, Vector, extremes, vectors_of

__all__ = [
    "Learned",
    "Neighbours",
    "PromptReport",
    "Unit",
    "Vector",
    "VectorReport",
    "Vocabulary",
    "extremes",
    "inspect_prompts",
    "inspect_vectors",
    "load",
    "load_vocabulary",
    "nearest",
    "random_vectors",
    "vectors_of",
]
