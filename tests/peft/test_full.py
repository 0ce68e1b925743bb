"""Model tuning: everything moves, and the model is the start."""

import dataclasses

import jax
import numpy as np
import pytest

from tfew_jax import experiment, models
from tfew_jax.peft import full

TINY = models.SIZES["tiny"]


@pytest.mark.parametrize(
    ("size", "number"),
    [
        ("small", 76_961_152),
        ("base", 247_577_856),
        ("large", 783_150_080),
        ("xl", 2_849_757_184),
        ("xxl", 11_135_332_352),
    ],
)
def test_the_numbers_are_those_of_the_paper(size, number):
    assert full.Full().num_parameters(models.SIZES[size]) == number


@pytest.mark.parametrize(
    "change",
    [
        {"mlp_activations": ("relu",), "logits_via_embedding": True},
        {"relpos_per_layer": True, "num_encoder_layers": 3},
        {"num_heads": 3, "head_dim": 8, "num_decoder_layers": 4},
    ],
)
def test_variants_are_counted(change):
    config = dataclasses.replace(TINY, **change)
    leaves = jax.tree.leaves(models.abstract_params(config))
    assert full.Full().num_parameters(config) == sum(leaf.size for leaf in leaves)


def test_a_run_starts_from_the_model_moves_all_of_it_and_predicts(
    base_directory, tmp_path
):
    base = experiment.load_base(base_directory)
    rows = [
        {"text": text, "label": label}
        for text, label in [("lovely film", 1), ("awful plot", 0)] * 6
    ]
    before = jax.tree.map(np.array, base.params)

    def tuned(num_steps, out):
        return experiment.fewshot(
            base,
            rows,
            template="{{text}} ||| {{answer_choices[label]}}",
            choices="bad ||| good",
            method="full",
            num_folds=0,
            num_steps=num_steps,
            out=out,
            quiet=True,
        )

    # The first update has the rate 0.
    start = tuned(1, tmp_path / "start").adapter.params
    jax.tree.map(np.testing.assert_array_equal, start, models.unstack_layers(before))
    result = tuned(5, tmp_path / "end")
    moved = jax.tree.map(
        lambda now, then: bool((now != then).any()), result.adapter.params, start
    )
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, base.params, before)
    again, loaded = (
        experiment.predict(base, adapter, rows[:2])
        for adapter in (result.adapter, tmp_path / "end" / "adapter")
    )
    assert again == loaded
    sizes = [leaf.size for leaf in jax.tree.leaves(before)]
    assert result.summary["adapter"]["num_parameters"] == sum(sizes)
