"""Masks follow from a row's key and the site alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax.models.dropout import DropoutSite, dropout, layer_keys

SITE = DropoutSite.MLP_HIDDEN


def draw(keys, shape=(7, 33), rate=0.25, site=SITE):
    return np.asarray(
        dropout(jnp.ones((len(keys), *shape)), keys, rate=rate, site=site)
    )


def test_kept_entries_are_scaled_and_their_share_is_the_rate(key):
    dropped = draw(jax.random.split(key, 16), (64, 64))
    np.testing.assert_allclose(np.unique(dropped), [0.0, 4 / 3], rtol=1e-6)
    # 65,536 draws: five standard deviations are 0.0085
    assert abs((dropped == 0).mean() - 0.25) < 0.0085


def test_a_row_keeps_its_mask_whatever_rows_stand_beside_it(key):
    keys = jax.random.split(key, 4)
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_array_equal(draw(keys)[np.asarray(order)], draw(keys[order]))
    np.testing.assert_array_equal(draw(keys)[:2], draw(keys[:2]))


def test_rows_sites_and_layers_have_masks_of_their_own(key):
    keys = jax.random.split(key, 2)
    by_layer = layer_keys(keys, 2)
    masks = [
        draw(keys)[0],
        draw(keys)[1],
        draw(keys, site=DropoutSite.EMBEDDING)[0],
        draw(by_layer[0])[0],
        draw(by_layer[1])[0],
    ]
    for i, mask in enumerate(masks):
        for other in masks[:i]:
            # independent masks agree on .25 ** 2 + .75 ** 2 of the entries
            assert 0.45 < (mask == other).mean() < 0.8


@pytest.mark.parametrize(
    ("site", "shape", "longer"),
    [
        (DropoutSite.MLP_HIDDEN, (5, 9), (8, 9)),  # length, features
        (DropoutSite.MLP_HIDDEN, (2, 5, 9), (3, 8, 9)),  # choices, length, features
        (DropoutSite.ATTENTION_WEIGHTS, (3, 5, 5), (3, 8, 9)),  # heads, query, key
        (DropoutSite.ATTENTION_WEIGHTS, (2, 3, 5, 5), (4, 3, 8, 9)),
    ],
)
def test_padding_at_the_end_of_an_axis_changes_no_mask(key, site, shape, longer):
    keys = jax.random.split(key, 2)
    padded = draw(keys, longer, site=site)[:, *(slice(n) for n in shape)]
    np.testing.assert_array_equal(draw(keys, shape, site=site), padded)


@pytest.mark.parametrize("rate", [0.0, 1e-6])
def test_no_key_or_no_rate_leaves_the_activation_alone(key, rate):
    x = jnp.ones((2, 3))
    assert dropout(x, None, rate=0.5, site=SITE) is x
    assert dropout(x, jax.random.split(key, 2), rate=rate, site=SITE) is x
