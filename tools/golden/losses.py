"""T-Few's losses and their gradients by token-wise loops in float64 torch."""

import pathlib

import numpy as np
import torch

# Tokens of each choice of each row, the end of sequence included; 0 for a choice
# that is padding, and 4 choices of up to 5 tokens in all.
LENGTHS = ((2, 5, 1, 3), (4, 4, 0, 0), (1, 3, 2, 0), (5, 2, 2, 2))
LABELS = (1, 0, 2, 3)
TARGET_LENGTH = 5
VOCAB = 11


def token_loss(p: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Unlikelihood of one token of a wrong choice."""
    return -torch.log(1 - p + epsilon)


def losses(
    logits: torch.Tensor, tokens: np.ndarray, epsilon: float
) -> dict[str, torch.Tensor]:
    """The three losses, written out token by token."""
    log_probs = torch.log_softmax(logits, dim=-1)
    lm, wrong, per_row = [], [], []
    for row, (lengths, label) in enumerate(zip(LENGTHS, LABELS, strict=True)):
        scores, position = [], -1
        for choice, length in enumerate(lengths):
            terms = [
                log_probs[row, choice, t, tokens[row, choice, t]] for t in range(length)
            ]
            if choice == label:
                lm += [-term for term in terms]
                position = len(scores)
            else:
                wrong += [token_loss(term.exp(), epsilon) for term in terms]
            if terms:
                scores.append(torch.stack(terms).mean())
        per_row.append(-torch.log_softmax(torch.stack(scores), dim=0)[position])
    return {
        "lm": torch.stack(lm).mean(),
        "unlikelihood": torch.stack(wrong).mean(),
        "length_normalized": torch.stack(per_row).mean(),
    }


def make(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Inputs, the losses with epsilon 0.01 and 0, and the gradient of their sum."""
    del folder
    rng = np.random.default_rng(0)
    shape = (len(LENGTHS), len(LENGTHS[0]), TARGET_LENGTH)
    is_token = np.arange(TARGET_LENGTH) < np.array(LENGTHS)[..., None]
    is_last = np.arange(TARGET_LENGTH) == np.array(LENGTHS)[..., None] - 1
    tokens = np.where(is_last, 1, rng.integers(2, VOCAB, shape)) * is_token
    logits32 = (2 * rng.standard_normal((*shape, VOCAB))).astype(np.float32)
    arrays: dict[str, np.ndarray] = {
        "decoder_target_tokens": tokens.astype(np.int32),
        "choice_mask": np.array(LENGTHS) > 0,
        "label": np.array(LABELS, np.int32),
        "logits": logits32,
    }
    for suffix, epsilon in (("", 0.01), ("_paper", 0.0)):
        logits = torch.tensor(logits32, dtype=torch.float64, requires_grad=True)
        values = losses(logits, tokens, epsilon)
        total = torch.stack(list(values.values())).sum()
        (gradient,) = torch.autograd.grad(total, logits)
        arrays |= {f"{k}{suffix}": v.detach().numpy() for k, v in values.items()}
        arrays[f"gradient{suffix}"] = gradient.numpy()
    return arrays
