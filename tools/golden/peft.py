"""Tiny adapters of PEFT on the golden models, with logits and all gradients.

Of (IA)^3 `t5` and `mt5` are PEFT's two defaults on the gated model, `ungated` the first
of them on T5 1.0. `prompt` has the rows that PEFT makes by default for T5, of which it
reads the first half; `prompt_encoder` has no others. Needs the golden models of
`huggingface`.
"""

import pathlib
import shutil

import numpy as np
import peft
import torch

from golden import huggingface

ADAPTERS = {  # name -> (model, target_modules, feedforward_modules)
    "t5": ("v1_1", ["k", "v", "wo"], ["wo"]),
    "mt5": ("v1_1", ["k", "v", "wi_1"], []),
    "ungated": ("v1_0", ["k", "v", "wo"], ["wo"]),
}
PROMPTS = {"prompt": None, "prompt_encoder": 1}  # name -> num_transformer_submodules
NUM_VIRTUAL_TOKENS = 4


def make(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Writes the adapter directories; returns logits, losses and gradients."""
    arrays: dict[str, np.ndarray] = {}
    for seed, (name, (base, targets, feedforward)) in enumerate(ADAPTERS.items()):
        config = peft.IA3Config(
            task_type="SEQ_2_SEQ_LM",
            target_modules=targets,
            feedforward_modules=feedforward,
        )
        arrays |= _make_one(folder, name, base, config, seed=100 + seed, mean=1.0)
    for seed, (name, parts) in enumerate(PROMPTS.items()):
        config = peft.PromptTuningConfig(
            task_type="SEQ_2_SEQ_LM",
            num_virtual_tokens=NUM_VIRTUAL_TOKENS,
            num_transformer_submodules=parts,
        )
        arrays |= _make_one(folder, name, "v1_1", config, seed=200 + seed, mean=0.0)
    return arrays


def _make_one(
    folder: pathlib.Path,
    name: str,
    base: str,
    config: peft.PeftConfig,
    *,
    seed: int,
    mean: float,
) -> dict[str, np.ndarray]:
    """Writes one adapter of random arrays; returns what the model computes with it."""
    model = peft.get_peft_model(huggingface.load(folder, base), config)
    model.peft_config["default"].base_model_name_or_path = f"golden/{base}"
    generator = torch.Generator().manual_seed(seed)
    vectors = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for vector in vectors.values():
        noise = torch.randn(vector.shape, generator=generator)
        vector.data = mean + 0.3 * noise
    directory = folder / "peft" / name
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(str(directory))
    (directory / "README.md").unlink()  # an empty form
    outputs = model.eval()(**huggingface.make_inputs())
    outputs.loss.backward()
    arrays = {
        f"{name}.logits": outputs.logits.detach().numpy(),
        f"{name}.loss": outputs.loss.detach().numpy(),
    }
    for key, vector in vectors.items():
        if vector.grad is None:
            raise RuntimeError(f"no gradient reached {key}")
        key = key.replace(".default", "")
        arrays[f"{name}.grad.{key}"] = vector.grad.numpy()
    return arrays
