"""Two (IA)^3 adapters of PEFT at once: both active, and a weighted one of both.

The first is `t5` of `peft`, which must be there; the second, `t5_b`, is made here. Of
each alone there are the logits too: the rows of a batch that mixes them.
"""

import pathlib
import shutil
from typing import Any

import numpy as np
import peft
import torch

from golden import huggingface

FIRST, SECOND = "t5", "t5_b"
WEIGHTS = (0.25, 0.75)


def make(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Writes the second adapter's directory; returns logits."""
    model: Any = peft.PeftModel.from_pretrained(
        huggingface.load(folder, "v1_1"), str(folder / "peft" / FIRST), FIRST
    )
    config = peft.IA3Config(
        task_type="SEQ_2_SEQ_LM",
        target_modules=["k", "v", "wo"],
        feedforward_modules=["wo"],
        base_model_name_or_path="golden/v1_1",
    )
    model.add_adapter(SECOND, config)
    generator = torch.Generator().manual_seed(300)
    for name, vector in model.named_parameters():
        if f".{SECOND}" in name:
            noise = torch.randn(vector.shape, generator=generator)
            vector.data = 1 + 0.3 * noise
    _save(model, folder / "peft" / SECOND)
    model.base_model.add_weighted_adapter([FIRST, SECOND], WEIGHTS, "weighted")
    arrays = {"weights": np.array(WEIGHTS)}
    for name, active in (
        *((name, name) for name in (FIRST, SECOND, "weighted")),
        ("two_active", [FIRST, SECOND]),
    ):
        model.base_model.set_adapter(active)
        with torch.no_grad():
            outputs = model.eval()(**huggingface.make_inputs())
        arrays[f"{name}.logits"] = outputs.logits.numpy()
    return arrays


def _save(model: Any, directory: pathlib.Path) -> None:
    """Writes the second adapter into a directory of its own."""
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(str(directory.parent), selected_adapters=[SECOND])
    (directory.parent / "README.md").unlink()  # an empty form
