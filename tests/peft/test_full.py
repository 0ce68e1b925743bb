"""Model tuning: everything moves, and the model is the start."""

import dataclasses

import jax
import numpy as np
import pytest

from tfew_jax import experiment, models, train
from tfew_jax.experiment import tuning
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

    tuner = tuning.Tuner(base, full.Full(), tuning.Recipe())
    start = train.adapter_params(tuner.init_state(seed=0))
    jax.tree.map(np.testing.assert_array_equal, start, before)
    result = experiment.fewshot(
        base,
        rows,
        template="{{text}} ||| {{answer_choices[label]}}",
        choices="bad ||| good",
        method="full",
        num_folds=0,
        num_steps=5,
        out=tmp_path / "run",
        quiet=True,
    )
    moved = jax.tree.map(
        lambda now, then: bool((now != then).any()),
        result.adapter.params,
        models.unstack_layers(before),
    )
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, base.params, before)
    again, loaded = (
        experiment.predict(base, adapter, rows[:2])
        for adapter in (result.adapter, tmp_path / "run" / "adapter")
    )
    assert again == loaded
    sizes = [leaf.size for leaf in jax.tree.leaves(before)]
    assert result.summary["adapter"]["num_parameters"] == sum(sizes)
