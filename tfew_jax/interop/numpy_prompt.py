"""Prompts as numpy files, as google-research/prompt-tuning releases and saves them.

One array [prompt, embed] in front of the encoder's input. Released ones end with
`.npy`; those that a training run saves are named `encoder.prompt.prompt.prompt`, with
no ending, and are the same format.
"""

from pathlib import Path

import numpy as np

from tfew_jax import checkpoint
from tfew_jax import peft as methods
from tfew_jax.checkpoint import files, layout
from tfew_jax.interop import peft_prompt
from tfew_jax.models.config import T5Config
from tfew_jax.peft import prompt

_MAGIC = b"\x93NUMPY"


def is_adapter(path: Path) -> bool:
    """Whether a file is numpy's."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def load_adapter(path: str | Path, config: T5Config) -> checkpoint.Adapter:
    """Reads a prompt for a model of the given sizes.

    Raises:
        ValueError: If the file is damaged, no matrix of floating point numbers, of
            another width than the model, or holds NaN.
    """
    rows = prompt.read_file(path)
    if rows.shape[1] != config.emb_dim:
        raise ValueError(
            f"prompt {path} has rows of {rows.shape[1]} numbers, the model's "
            f"embeddings have {config.emb_dim}; give a prompt of the model's size"
        )
    return checkpoint.Adapter(
        method=methods.get("prompt").from_settings({"length": len(rows)}),
        params=layout.unflatten({peft_prompt.PATH: rows}),
        config=config,
        metadata={"source": "google-research/prompt-tuning"},
    )


def save_adapter(path: str | Path, adapter: checkpoint.Adapter) -> None:
    """Writes a file that prompt-tuning's `PROMPT_FILE` and numpy read.

    Args:
        path: The file, in place of an earlier one or not at all.
        adapter: A prompt of the encoder alone.

    Raises:
        ValueError: If the adapter is another method's, or has rows of the decoder.
        OSError: If the disk is full or not writable.
    """
    rows = peft_prompt.encoder_rows(adapter, writes="the numpy file")
    with files.new_file(path) as fresh, open(fresh, "wb") as file:
        np.save(file, rows)
