"""Five prompts of PEFT as one ensemble."""

import collections

import numpy as np
from safetensors.numpy import load_file

from tfew_jax import checkpoint, evaluate, interop, metrics, models


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
    first = logits[:, :, 0].astype(np.float64)  # of the token behind the start
    tokens = inputs["labels"][:, 0]  # each row's first one is a choice of all rows
    log_probs = first - np.log(np.exp(first).sum(axis=-1, keepdims=True))
    expected = log_probs[..., tokens]

    num_rows = len(tokens)
    batch = {
        "encoder_input_tokens": inputs["input_ids"].astype(np.int32),
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
        bank.index(names).tolist(),
    )
    parity.assert_agree(scores, expected, np.ones(scores.shape, bool))
    winners, agreement = metrics.majority_vote(scores)
    for row, ballots in enumerate(expected.argmax(axis=-1).T.tolist()):
        ((winner, count), *_) = collections.Counter(ballots).most_common()
        assert (winners[row], agreement[row]) == (winner, count / 5)
