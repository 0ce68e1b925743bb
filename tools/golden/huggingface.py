"""Tiny T5 models of transformers and what they compute, in float32.

`v1_1` is gated and untied with unequal depths and heads * d_kv != d_model; `v1_0` is
ungated and tied, with scaled outputs. Inputs are longer than the distance at which
relative positions stop to differ, and padded.
"""

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers

_SIZES = {
    "d_model": 20,
    "d_kv": 6,
    "num_heads": 2,
    "num_layers": 2,
    "vocab_size": 90,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "dropout_rate": 0.1,
    "decoder_start_token_id": 0,
}
MODELS: dict[str, dict[str, Any]] = {
    "v1_1": dict(
        _SIZES,
        d_ff=28,
        num_decoder_layers=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    ),
    "v1_0": dict(_SIZES, d_ff=24, num_decoder_layers=2, feed_forward_proj="relu"),
}
_LENGTHS, _TARGET_LENGTHS = (19, 7, 12), (6, 3, 5)


def make_inputs() -> dict[str, torch.Tensor]:
    """Three rows of random ids that end with 1 and are padded with 0."""
    generator = torch.Generator().manual_seed(7)

    def rows(lengths: tuple[int, ...]) -> torch.Tensor:
        ids = torch.randint(3, 90, (len(lengths), max(lengths)), generator=generator)
        for row, length in enumerate(lengths):
            ids[row, length - 1] = 1
            ids[row, length:] = 0
        return ids

    input_ids, labels = rows(_LENGTHS), rows(_TARGET_LENGTHS)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids > 0).long(),
        "labels": labels.masked_fill(labels == 0, -100),
    }


def load(folder: pathlib.Path, name: str) -> transformers.T5ForConditionalGeneration:
    """A golden model, as transformers reads its directory."""
    model = transformers.T5ForConditionalGeneration.from_pretrained(
        folder / "huggingface" / name, dtype=torch.float32
    )
    return model.eval()


def make(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Writes the model directories; returns inputs, logits and encoder outputs."""
    inputs = make_inputs()
    arrays = {f"inputs.{name}": value.numpy() for name, value in inputs.items()}
    for seed, name in enumerate(MODELS):
        _write_model(folder / "huggingface" / name, name, seed)
        with torch.no_grad():
            outputs = load(folder, name)(**inputs)
        arrays[f"{name}.logits"] = outputs.logits.numpy()
        arrays[f"{name}.loss"] = outputs.loss.numpy()
        encoded = outputs.encoder_last_hidden_state
        arrays[f"{name}.encoder_last_hidden_state"] = encoded.numpy()
    return arrays


def _write_model(directory: pathlib.Path, name: str, seed: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    config = transformers.T5Config(**MODELS[name])
    model = transformers.T5ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, value in model.state_dict().items():
        if "embed_tokens" in key or (key == "lm_head.weight" and name == "v1_0"):
            continue  # copies of shared.weight
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("norm.weight"):
            weights[key] = 1 + 0.2 * noise
        elif "relative_attention_bias" in key or key == "shared.weight":
            weights[key] = noise
        else:
            weights[key] = noise * value.shape[1] ** -0.5
    path = directory / "model.safetensors"
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    content = config.to_dict()
    content["architectures"] = ["T5ForConditionalGeneration"]
    text = json.dumps(content, indent=2, sort_keys=True)
    (directory / "config.json").write_text(text + "\n")
