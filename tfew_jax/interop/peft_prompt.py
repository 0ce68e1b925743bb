"""Prompt-tuning directories of Hugging Face PEFT.

`prompt_embeddings` has num_virtual_tokens * num_transformer_submodules rows, twice as
many as virtual tokens by PEFT's default for T5. PEFT reads only the first
num_virtual_tokens of them, in front of the encoder's input; the others never reach the
model and have no gradient. They are kept in the adapter's metadata, so that the file is
the same when it is written again, and are not part of the prompt.
"""

import base64
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfew_jax import checkpoint
from tfew_jax import peft as methods
from tfew_jax.checkpoint import layout, tensors
from tfew_jax.interop import peft_files
from tfew_jax.models.config import T5Config
from tfew_jax.peft import prompt

PEFT_TYPE = "PROMPT_TUNING"
_NAME = "prompt_embeddings"
PATH = prompt.path_of(methods.Site.ENCODER_INPUT)
_UNREAD = "peft_unread_rows"  # of the metadata: little-endian float32 as base64
_KNOWN = peft_files.COMMON | {
    *("num_attention_heads", "num_layers", "num_transformer_submodules"),
    *("num_virtual_tokens", "prompt_tuning_init", "prompt_tuning_init_text"),
    *("token_dim", "tokenizer_kwargs", "tokenizer_name_or_path"),
}


def load_adapter(
    directory: Path, content: Mapping[str, Any], config: T5Config
) -> checkpoint.Adapter:
    """Reads a prompt for a model of the given sizes.

    Args:
        directory: The adapter's.
        content: What its config file holds.
        config: Sizes of the model.

    Raises:
        ValueError: If numbers of the config are missing or no counts, the rows are
            others than it says or of another width than the model, or one holds NaN.
    """
    path = directory / peft_files.SETTINGS
    peft_files.warn_unknown(content, _KNOWN, path)
    length = _count(content, "num_virtual_tokens", path)
    parts = _count(content, "num_transformer_submodules", path)
    source, found = peft_files.read_weights(directory)
    layout.check(
        {key: array.shape for key, array in found.items()},
        {_NAME: (length * parts, config.emb_dim)},
        source=str(source),
        advice=f"{path.name}, the weights and the model must belong together",
    )
    rows = tensors.cast(found[_NAME], "float32")
    metadata = {"base": content.get("base_model_name_or_path"), "source": "PEFT"}
    if parts > 1:
        warnings.warn(
            f"{source}: PEFT reads the first {length} of {len(rows)} rows; the others "
            "are kept as they are and not trained",
            stacklevel=3,
        )
        unread = np.ascontiguousarray(rows[length:], dtype="<f4")
        metadata[_UNREAD] = base64.b64encode(unread.tobytes()).decode("ascii")
    adapter = checkpoint.Adapter(
        method=methods.get("prompt").from_settings({"length": length}),
        params=layout.unflatten({PATH: rows[:length]}),
        config=config,
        metadata=metadata,
    )
    adapter.check(source=str(source))
    return adapter


def _count(content: Mapping[str, Any], name: str, path: Path) -> int:
    value = content.get(name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{path}: {name} must be a positive integer, got {value!r}")
    return value


def save_adapter(
    directory: str | Path, adapter: checkpoint.Adapter, *, base_model: str | None = None
) -> None:
    """Writes a directory that PEFT loads.

    Args:
        directory: Where to; an earlier adapter there is replaced.
        adapter: A prompt of the encoder alone.
        base_model: Name or path of the base model that PEFT shall find.

    Raises:
        ValueError: If PEFT cannot express the adapter, or the directory holds
            something else.
        OSError: If the disk is full or not writable.
    """
    rows = encoder_rows(adapter, writes="PEFT's prompt tuning")
    unread = base64.b64decode(adapter.metadata.get(_UNREAD, ""))
    unread = np.frombuffer(unread, "<f4")
    if unread.size % rows.size:
        raise ValueError(
            f"the adapter's {_UNREAD} are {unread.size} numbers beside a prompt of "
            f"{rows.size}, which PEFT cannot hold; leave them out of the metadata"
        )
    unread = unread.reshape(-1, rows.shape[1])
    config = adapter.config
    content = {
        "auto_mapping": None,
        "base_model_name_or_path": base_model or adapter.metadata.get("base"),
        "inference_mode": True,
        "modules_to_save": None,
        "num_attention_heads": config.num_heads,
        "num_layers": config.num_encoder_layers,
        "num_transformer_submodules": 1 + len(unread) // len(rows),
        "num_virtual_tokens": len(rows),
        "peft_type": PEFT_TYPE,
        "prompt_tuning_init": "RANDOM",
        "prompt_tuning_init_text": None,
        "revision": None,
        "task_type": "SEQ_2_SEQ_LM",
        "token_dim": config.emb_dim,
        "tokenizer_kwargs": None,
        "tokenizer_name_or_path": None,
    }
    arrays = {_NAME: np.concatenate([rows, unread.astype(np.float32)])}
    peft_files.write(directory, content, arrays)


def encoder_rows(adapter: checkpoint.Adapter, *, writes: str) -> np.ndarray:
    """The rows of an adapter that is a prompt of the encoder and nothing else.

    Args:
        adapter: Any adapter.
        writes: What they are for, as errors name it.

    Raises:
        ValueError: If the adapter is something else or damaged.
    """
    if adapter.method.name != "prompt":
        raise ValueError(
            f"the adapter's method is {adapter.method.name!r}; {writes} needs 'prompt'"
        )
    adapter.check()
    flat = layout.flatten(adapter.params)
    if flat.keys() != {PATH}:
        raise ValueError(
            f"{writes} holds a prompt of the encoder alone; the adapter has "
            f"{', '.join(sorted(flat))}"
        )
    return np.asarray(flat[PATH], np.float32)
