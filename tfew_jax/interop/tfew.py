"""(IA)^3 vectors of the T-Few reference code (r-three/t-few), `finish.pt`.

A dictionary from `<Hugging Face module>.multi_lora_b` to a vector of shape (d, 1): at
`k` and `v` of every attention, and at the linear branch `wi_1` of the gated block. On
the ungated block of T5 1.0 the reference code finds no layer and has no vector.
"""

from pathlib import Path

import numpy as np

from tfew_jax import checkpoint, peft
from tfew_jax.checkpoint import files, layout
from tfew_jax.interop import ia3_sites, torch_file
from tfew_jax.models.config import T5Config

_SUFFIX = ".multi_lora_b"


def load_adapter(path: str | Path, config: T5Config) -> checkpoint.Adapter:
    """Reads a `finish.pt` for a model of the given sizes.

    Raises:
        ValueError: If the file is damaged, a vector is missing, unexpected or of
            another size, or one holds NaN.
    """
    path = Path(path)
    method = peft.get("ia3").from_settings({"sites": _sites(config)})
    found = torch_file.read(path)
    shapes = layout.adapter_shapes(config, method)
    modules = {_name(p): p for p in sorted(shapes)}
    layout.check(
        {name: array.shape for name, array in found.items()},
        {name: (*shapes[p], 1) for name, p in modules.items()},
        source=str(path),
        advice="give the vectors that were trained on this model",
    )
    flat = {p: np.ravel(found[name]).astype(np.float32) for name, p in modules.items()}
    adapter = checkpoint.Adapter(
        method=method,
        params=layout.unflatten(flat),
        config=config,
        metadata={"source": "r-three/t-few"},
    )
    adapter.check(source=str(path))
    return adapter


def save_adapter(path: str | Path, adapter: checkpoint.Adapter) -> None:
    """Writes a `finish.pt` that the reference code and torch load.

    Args:
        path: The file, in place of an earlier one or not at all.
        adapter: An (IA)^3 adapter at all sites that the reference code has.

    Raises:
        ValueError: If the reference code cannot express the adapter.
        OSError: If the disk is full or not writable.
    """
    sites = _sites(adapter.config)
    found = adapter.method.to_dict()
    if found["name"] != "ia3" or set(found["sites"]) != set(sites):
        raise ValueError(
            f"finish.pt holds (IA)^3 at {', '.join(sites)} on this model, not {found}"
        )
    adapter.check()
    vectors = {
        _name(p): np.asarray(leaf, dtype=np.float32)[:, None]
        for p, leaf in layout.flatten(adapter.params).items()
    }
    with files.new_file(path) as fresh:
        torch_file.write(fresh, vectors)


def _sites(config: T5Config) -> tuple[str, ...]:
    """Where the reference code has vectors on a model of that config."""
    gated = len(config.mlp_activations) == 2
    return ("key", "value", "mlp_hidden") if gated else ("key", "value")


def _name(path: str) -> str:
    return ia3_sites.module_of(path, hidden="wi_1") + _SUFFIX
