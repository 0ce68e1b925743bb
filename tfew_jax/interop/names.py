"""Hugging Face T5's names and T5X's, side by side.

Hugging Face kernels are stored as torch keeps them, (outputs, inputs); T5X's, which
are ours, are (inputs, outputs).
"""

import re

_ATTENTION = {"q": "query", "k": "key", "v": "value", "o": "out"}
_MLP = ("wi", "wi_0", "wi_1", "wo")


def _sublayers() -> dict[str, str]:
    """Hugging Face module to our path, for the modules of block or layer {i}."""
    names: dict[str, str] = {}
    for stack, sublayers in {
        "encoder": (("SelfAttention", "attention", "pre_attention_layer_norm"),),
        "decoder": (
            ("SelfAttention", "self_attention", "pre_self_attention_layer_norm"),
            (
                "EncDecAttention",
                "encoder_decoder_attention",
                "pre_cross_attention_layer_norm",
            ),
        ),
    }.items():
        theirs, ours = f"{stack}.block.{{i}}.layer", f"{stack}/layers_{{i}}"
        for n, (module, attention, norm) in enumerate(sublayers):
            names[f"{theirs}.{n}.layer_norm"] = f"{ours}/{norm}/scale"
            for short, long in _ATTENTION.items():
                names[f"{theirs}.{n}.{module}.{short}"] = (
                    f"{ours}/{attention}/{long}/kernel"
                )
        n = len(sublayers)
        names[f"{theirs}.{n}.layer_norm"] = f"{ours}/pre_mlp_layer_norm/scale"
        for kernel in _MLP:
            names[f"{theirs}.{n}.DenseReluDense.{kernel}"] = (
                f"{ours}/mlp/{kernel}/kernel"
            )
    return names


_MODULES = {
    "shared": "token_embedder/embedding",
    "lm_head": "decoder/logits_dense/kernel",
    "encoder.final_layer_norm": "encoder/encoder_norm/scale",
    "decoder.final_layer_norm": "decoder/decoder_norm/scale",
    # Not {i}: one table a stack, which Hugging Face keeps in the first block.
    **{
        f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias": (
            f"{stack}/relpos_bias/rel_embedding"
        )
        for stack in ("encoder", "decoder")
    },
    **_sublayers(),
}
_PATHS = {path: module for module, path in _MODULES.items()}


def path_of(module: str) -> str | None:
    """Our path of a Hugging Face module's weight, or None if T5 has no such module."""
    if module in _MODULES:
        return _MODULES[module]
    general, layer = _generalize(module, r"\.block\.(\d+)\.", ".block.{i}.")
    path = _MODULES.get(general)
    return None if path is None else path.replace("{i}", layer)


def module_of(path: str) -> str:
    """The Hugging Face module whose weight a path of ours is.

    Raises:
        KeyError: If T5 has no such module.
    """
    general, layer = _generalize(path, r"/layers_(\d+)/", "/layers_{i}/")
    return _PATHS[general].replace("{i}", layer)


def _generalize(name: str, pattern: str, general: str) -> tuple[str, str]:
    """The name with {i} for its layer, and the layer's number."""
    found = re.search(pattern, name)
    if found is None:
        return name, ""
    return name.replace(found.group(), general, 1), found.group(1)


def is_transposed(path: str) -> bool:
    """Whether Hugging Face stores the matrix of that path the other way round."""
    return path.endswith(("/kernel", "/rel_embedding"))
