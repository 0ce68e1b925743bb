"""Five prompts of PEFT as one ensemble."""

import collections

import numpy as np
from safetensors.numpy import load_file

from tfew_jax import checkpoint, evaluate, interop, metrics, models


def log_probs_of(logits, tokens):
    logits = logits.astype(np.float64)
    return (logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))[..., tokens]


def first_token_scores(model, bank, input_ids, tokens):
    """Scores of every member where each of the tokens is a choice of all rows."""
    num_rows = len(input_ids)
    batch = {
        "encoder_input_tokens": input_ids.astype(np.int32),
        "decoder_target_tokens": np.tile(
            tokens[None, :, None].astype(np.int32), (num_rows, 1, 1)
        ),
        "choice_mask": np.ones((num_rows, len(tokens)), bool),
        "label": np.arange(num_rows, dtype=np.int32),
        "example_id": np.arange(num_rows, dtype=np.int32),
    }
    scores, _ = evaluate.score_members(
        models.T5(model.config, bank.method),
        models.stack_layers(bank.attach(model.params)),
        [batch],
        bank.index(list(bank.names)).tolist(),
    )
    return scores


def test_golden_adapters_score_as_they_do_one_by_one_in_peft(golden, v1_1, parity):
    names = ("t5", "t5_b")
    config = v1_1.config
    bank = checkpoint.Bank(
        adapters={
            name: interop.load_adapter(golden.folder / "peft" / name, config)
            for name in names
        }
    )
    with np.load(golden.folder / "composition.npz") as arrays:
        logits = np.stack([arrays[f"{name}.logits"] for name in names])
    tokens = golden.inputs["labels"][:, 0]
    expected = log_probs_of(logits[:, :, 0], tokens)
    scores = first_token_scores(v1_1, bank, golden.inputs["input_ids"], tokens)
    parity.assert_agree(scores, expected, np.ones(scores.shape, bool))


def test_five_prompts_score_and_vote_as_they_do_one_by_one_in_peft(
    fixture_files, parity
):
    folder = fixture_files.folder / "prompt_ensemble"
    model = interop.load_model(fixture_files.folder / "base")
    names = [f"p{n}" for n in range(5)]
    bank = checkpoint.Bank(
        adapters={n: interop.load_adapter(folder / n, model.config) for n in names}
    )
    inputs, _ = fixture_files.load("prompt_ensemble/p0")
    logits = load_file(folder / "per_prompt_logits.safetensors")["per_prompt_logits"]
    first = logits[:, :, 0]  # of the token behind the start
    tokens = inputs["labels"][:, 0]  # each row's first one is a choice of all rows
    expected = log_probs_of(first, tokens)
    scores = first_token_scores(model, bank, inputs["input_ids"], tokens)
    parity.assert_agree(scores, expected, np.ones(scores.shape, bool))
    winners, agreement = metrics.majority_vote(scores)
    for row, ballots in enumerate(expected.argmax(axis=-1).T.tolist()):
        ((winner, count), *_) = collections.Counter(ballots).most_common()
        assert (winners[row], agreement[row]) == (winner, count / 5)
