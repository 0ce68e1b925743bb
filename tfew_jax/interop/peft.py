"""Directories of Hugging Face PEFT: `adapter_config.json` and its weights.

(IA)^3 is here, prompts are in `peft_prompt`.

Vectors are named after the module they scale: `k` and `v` by their output, shape
(d, 1); the feed-forward vector either after `wo`, whose input it scales, shape
(1, d) (PEFT's default for T5), or after `wi_1`, whose output it scales, shape (d, 1)
(its default for mT5). On the gated block the two are the same function.
"""

import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfew_jax import checkpoint
from tfew_jax import peft as methods
from tfew_jax.checkpoint import files, layout, tensors
from tfew_jax.interop import ia3_sites, names, peft_files, peft_prompt
from tfew_jax.models.config import T5Config

_SETTINGS = peft_files.SETTINGS
_PREFIX, _SUFFIX = "base_model.model.", ".ia3_l"
_KNOWN = peft_files.COMMON | {
    *("exclude_modules", "fan_in_fan_out", "feedforward_modules", "init_ia3_weights"),
    "target_modules",
}
_STYLES = {"t5": "wo", "mt5": "wi_1"}


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds PEFT's config file."""
    return (directory / _SETTINGS).exists()


def load_adapter(directory: str | Path, config: T5Config) -> checkpoint.Adapter:
    """Reads a PEFT (IA)^3 or prompt-tuning directory for a model of the given sizes.

    Config fields that are not known are ignored with a warning, as PEFT does.

    Raises:
        ValueError: If it is another method, acts where (IA)^3 does not act here, an
            array is missing, unexpected or of another size, or one holds NaN.
    """
    directory = Path(directory)
    path = directory / _SETTINGS
    content = files.read_json(path)
    if content.get("peft_type") == peft_prompt.PEFT_TYPE:
        return peft_prompt.load_adapter(directory, content, config)
    if content.get("peft_type") != "IA3":
        raise ValueError(
            f"{path}: peft_type is {content.get('peft_type')!r}; only IA3 and "
            f"{peft_prompt.PEFT_TYPE} are read"
        )
    peft_files.warn_unknown(content, _KNOWN, path)
    scaled = _scaled_modules(content, config, path)
    method = methods.get("ia3").from_settings(
        {"sites": ia3_sites.sites_of(set(scaled.values()))}
    )
    shapes = layout.adapter_shapes(config, method)
    source, found = peft_files.read_weights(directory)
    keys = {f"{_PREFIX}{module}{_SUFFIX}": p for module, p in scaled.items()}
    expected = {key: _stored_shape(key, shapes[p]) for key, p in keys.items()}
    layout.check(
        {key: array.shape for key, array in found.items()},
        expected,
        source=str(source),
        advice=f"{_SETTINGS}, the weights and the model must belong together",
    )
    flat = {p: tensors.cast(np.ravel(found[key]), "float32") for key, p in keys.items()}
    if rest := sorted(shapes.keys() - flat.keys()):
        warnings.warn(
            f"{path}: {len(rest)} places that PEFT leaves alone, such as {rest[0]}, "
            "get vectors of ones",
            stacklevel=2,
        )
        flat |= {p: np.ones(shapes[p], np.float32) for p in rest}
    adapter = checkpoint.Adapter(
        method=method,
        params=layout.unflatten(flat),
        config=config,
        metadata={"base": content.get("base_model_name_or_path"), "source": "PEFT"},
    )
    adapter.check(source=str(source))
    return adapter


def _stored_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    scales_input = key.endswith(f".wo{_SUFFIX}")
    return (1, *shape) if scales_input else (*shape, 1)


def _scaled_modules(
    content: Mapping[str, Any], config: T5Config, path: Path
) -> dict[str, str]:
    """The modules that a PEFT config scales, and our path for each.

    Raises:
        ValueError: If none is scaled, or one where (IA)^3 has no site here.
    """
    target = content.get("target_modules") or ["k", "v", "wo"]
    feedforward = content.get("feedforward_modules")
    feedforward = ["wo"] if feedforward is None else feedforward
    scaled: dict[str, str] = {}
    for kernel in layout.model_shapes(config):
        if not kernel.endswith("/kernel"):
            continue
        module = names.module_of(kernel)
        if not _is_target(target, module, all_linear=module != "lm_head"):
            continue
        if _is_target(content.get("exclude_modules") or [], module):
            continue
        scales_input = _is_feedforward(feedforward, module)
        place = ia3_sites.path_of(
            module,
            scales_input=scales_input,
            gated=len(config.mlp_activations) == 2,
        )
        side = "input" if scales_input else "output"
        if place is None:
            raise ValueError(
                f"{path} scales the {side} of {module}, where (IA)^3 has no vector "
                "here; it scales the output of k, v and wi_1 (gated), the input of wo"
            )
        if place in scaled.values():
            raise ValueError(
                f"{path} scales both wi_1 and wo, which are one place here"
            )
        scaled[module] = place
    if not scaled:
        raise ValueError(f"{path}: target_modules {target!r} matches no module of T5")
    return scaled


def _is_target(
    target: str | Collection[str], module: str, *, all_linear: bool = False
) -> bool:
    """PEFT's rule: a string is a pattern of whole names, a list holds last parts."""
    if isinstance(target, str):
        if target.lower() == "all-linear":
            return all_linear
        return re.fullmatch(target, module) is not None
    return any(module == t or module.endswith(f".{t}") for t in target)


def _is_feedforward(feedforward: str | Collection[str], module: str) -> bool:
    """PEFT's other rule: here a list holds any ends of names."""
    if isinstance(feedforward, str):
        return re.fullmatch(feedforward, module) is not None
    return any(module.endswith(end) for end in feedforward)


def save_adapter(
    directory: str | Path,
    adapter: checkpoint.Adapter,
    *,
    style: str = "t5",
    base_model: str | None = None,
) -> None:
    """Writes a directory that PEFT loads.

    Args:
        directory: Where to; an earlier adapter there is replaced.
        adapter: An (IA)^3 adapter, or a prompt of the encoder alone.
        style: "t5" names (IA)^3's feed-forward vector after `wo`, "mt5" after `wi_1`,
            for gated models only.
        base_model: Name or path of the base model that PEFT shall find.

    Raises:
        ValueError: If PEFT cannot express the adapter, or the directory holds
            something else.
        OSError: If the disk is full or not writable.
    """
    if adapter.method.name == "prompt":
        return peft_prompt.save_adapter(directory, adapter, base_model=base_model)
    if adapter.method.name != "ia3":
        raise ValueError(
            f"the adapter's method is {adapter.method.name!r}; PEFT's directories hold "
            "'ia3' or 'prompt'"
        )
    if style not in _STYLES:
        raise ValueError(f"style must be one of {', '.join(_STYLES)}; got {style!r}")
    hidden = _STYLES[style]
    if hidden == "wi_1" and len(adapter.config.mlp_activations) < 2:
        raise ValueError("style 'mt5' needs a gated model; use style 't5'")
    adapter.check()
    arrays: dict[str, np.ndarray] = {}
    for path, leaf in layout.flatten(adapter.params).items():
        key = f"{_PREFIX}{ia3_sites.module_of(path, hidden=hidden)}{_SUFFIX}"
        vector = np.asarray(leaf, dtype=np.float32)
        arrays[key] = vector.reshape(_stored_shape(key, vector.shape))
    modules = sorted({key.split(".")[-2] for key in arrays})
    content = {
        "auto_mapping": None,
        "base_model_name_or_path": base_model or adapter.metadata.get("base"),
        "exclude_modules": None,
        "fan_in_fan_out": False,
        "feedforward_modules": [name for name in modules if name == "wo"],
        "inference_mode": True,
        "init_ia3_weights": True,
        "modules_to_save": None,
        "peft_type": "IA3",
        "revision": None,
        "target_modules": modules,
        "task_type": "SEQ_2_SEQ_LM",
    }
    peft_files.write(directory, content, arrays)
