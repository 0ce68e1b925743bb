"""Shapes of the published sizes, and configs that are refused."""

import math

import jax
import pytest

from tfew_jax import models

# Table 4 of Lester et al., 2021: the parameters of T5 1.1 in its five sizes.
PUBLISHED = {
    "small": 76_961_152,
    "base": 247_577_856,
    "large": 783_150_080,
    "xl": 2_849_757_184,
    "xxl": 11_135_332_352,
}


def count(params):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_have_the_published_number_of_parameters(size):
    assert count(models.abstract_params(models.SIZES[size])) == PUBLISHED[size]


def test_a_config_survives_its_dictionary():
    config = models.SIZES["small"]
    assert models.T5Config.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"emb_dim": 0}, "emb_dim must be positive, got 0"),
        ({"dtype": "float16"}, "float16 overflows"),
        ({"mlp_activations": ("swish",)}, "one or two of gelu"),
        ({"dropout_rate": 1.0}, r"dropout_rate must be in \[0, 1\), got 1.0"),
        ({"d_model": 3}, r"unknown model fields \['d_model'\]"),
    ],
)
def test_a_config_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        models.T5Config.from_dict(models.SIZES["tiny"].to_dict() | change)


def test_a_missing_field_is_named():
    fields = models.SIZES["tiny"].to_dict()
    del fields["mlp_dim"]
    with pytest.raises(ValueError, match="the model config lacks mlp_dim"):
        models.T5Config.from_dict(fields)
