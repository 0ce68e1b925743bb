"""Runs a model, with or without an adapter, on token ids: the tool to check parity.

    python tools/forward.py --model DIR [--adapter DIR] --inputs FILE --out FILE

`--model` takes a native, Hugging Face or T5X (legacy, orbax, scanned) directory,
`--adapter` a native directory, a PEFT directory of (IA)^3 or prompt tuning, T-Few's
finish.pt, or a prompt as a numpy file. The inputs are a safetensors file with
`input_ids` [batch, length], and optionally `attention_mask` of the same shape,
`decoder_input_ids` and `labels` [batch, target_length]; without decoder inputs the
labels are shifted, -100 as pads.

Writes `logits` [batch, target_length, vocab] and `encoder_last_hidden_state`
[batch, length, embed], both computed in float32 with dropout off. With a prompt the
encoder's output has its rows, too, in front.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tfew_jax import interop, models
from tfew_jax.checkpoint import files, tensors


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line, runs the model, writes the outputs."""
    options = _parser().parse_args(arguments)
    try:
        outputs = run(options)
        with files.new_file(options.out) as fresh:
            tensors.write(fresh, outputs)
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in outputs.items())
    print(f"{options.out}: {shapes}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, type=Path, help="directory of the base model")
    add("--adapter", type=Path, help="directory or file of an adapter")
    add("--inputs", required=True, type=Path, help="safetensors file of token ids")
    add("--out", required=True, type=Path, help="safetensors file to write")
    add("--debug", action="store_true", help="show the traceback of an error")
    settings = parser.add_argument_group(
        "model settings",
        "where the directory's config lacks them or is to be overridden",
    )
    add = settings.add_argument
    add("--num-heads", type=int, help="attention heads")
    add("--relpos-max-distance", type=int, help="T5 1.1: 128")
    add("--layer-norm-epsilon", type=float, help="T5 1.1: 1e-6")
    add("--activation", help="gelu,linear (T5 1.1), relu (T5 1.0), ...")
    add(
        "--scale-decoder-outputs",
        choices=("true", "false"),
        help="scale the logits' inputs by emb_dim ** -0.5 (tied T5 1.0: true)",
    )
    return parser


def _flags(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of `T5Config` that the command line names."""
    flags: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("num_heads", "relpos_max_distance", "layer_norm_epsilon")
        if getattr(options, name) is not None
    }
    if options.num_heads is not None and options.num_heads < 1:
        raise ValueError(f"--num-heads must be positive, got {options.num_heads}")
    if options.activation is not None:
        flags["mlp_activations"] = tuple(options.activation.split(","))
    if options.scale_decoder_outputs is not None:
        flags["scale_decoder_outputs"] = options.scale_decoder_outputs == "true"
    return flags


def run(options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Loads everything and computes the outputs."""
    base = interop.load_model(options.model, dtype="float32", **_flags(options))
    config = dataclasses.replace(base.config, dtype="float32")
    params, method = base.params, None
    if options.adapter is not None:
        adapter = interop.load_adapter(options.adapter, config)
        params, method = adapter.attach(params), adapter.method
    inputs = read_inputs(options.inputs, config)
    stacked = models.stack_layers(params) if config.scan_layers else params

    @jax.jit
    def forward(params, tokens, mask, decoder_tokens):
        return models.forward(
            models.T5(config, method),
            params,
            encoder_input_tokens=tokens,
            decoder_input_tokens=decoder_tokens[:, None],
            encoder_mask=mask,
        )

    logits, encoded = forward(
        stacked,
        inputs["input_ids"],
        inputs["attention_mask"] > 0,
        inputs["decoder_input_ids"],
    )
    return {
        "logits": np.asarray(logits[:, 0]),
        "encoder_last_hidden_state": np.asarray(encoded),
    }


def read_inputs(path: Path, config: models.T5Config) -> Mapping[str, jax.Array]:
    """Token ids and mask, completed where the file leaves them out.

    Raises:
        ValueError: If an array is missing, of another shape, or holds an id that the
            vocabulary does not have.
    """
    with tensors.open_file(path) as file:
        found = {name: file.read(name) for name in file.shapes}
    if "input_ids" not in found:
        raise ValueError(f"{path} lacks input_ids; it has {sorted(found)}")
    tokens = found["input_ids"]
    mask = found.get("attention_mask", tokens > 0)
    if tokens.ndim != 2 or mask.shape != tokens.shape:
        raise ValueError(
            f"{path}: input_ids and attention_mask must have one shape "
            f"[batch, length]; got {tokens.shape} and {mask.shape}"
        )
    if "decoder_input_ids" in found:
        decoder_tokens = found["decoder_input_ids"]
    elif "labels" in found:
        labels = np.where(found["labels"] == -100, 0, found["labels"])
        decoder_tokens = np.asarray(models.shift_right(jnp.asarray(labels)[:, None]))[
            :, 0
        ]
    else:
        raise ValueError(f"{path} has neither decoder_input_ids nor labels")
    if decoder_tokens.ndim != 2 or len(decoder_tokens) != len(tokens):
        raise ValueError(
            f"{path}: decoder inputs must be [batch, target_length] with batch "
            f"{len(tokens)}; got {decoder_tokens.shape}"
        )
    for name, ids in (("input_ids", tokens), ("decoder inputs", decoder_tokens)):
        if ids.size and not 0 <= ids.min() <= ids.max() < config.vocab_size:
            raise ValueError(
                f"{path}: {name} go from {ids.min()} to {ids.max()}; the model has "
                f"ids 0 to {config.vocab_size - 1}"
            )
    return {
        "input_ids": jnp.asarray(tokens, jnp.int32),
        "attention_mask": jnp.asarray(mask, jnp.int32),
        "decoder_input_ids": jnp.asarray(decoder_tokens, jnp.int32),
    }


if __name__ == "__main__":
    sys.exit(main())
