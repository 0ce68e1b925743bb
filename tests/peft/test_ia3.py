"""(IA)^3: where its vectors act, and how many there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tfew_jax import models
from tfew_jax.models import layers
from tfew_jax.models.dropout import DropoutSite
from tfew_jax.peft import ia3

CONFIG = models.T5Config(
    vocab_size=32,
    emb_dim=8,
    num_heads=2,
    head_dim=3,
    mlp_dim=10,
    num_encoder_layers=2,
    num_decoder_layers=3,
    scan_layers=False,
)
X = jax.random.normal(jax.random.key(3), (2, 5, 8))


@pytest.mark.parametrize(
    ("size", "number"), [("xl", 540_672), ("xxl", 1_081_344)], ids=["T0-3B", "T0-11B"]
)
def test_t0_has_the_published_number_of_parameters(size, number):
    config, method = models.SIZES[size], ia3.IA3()
    adapted = jax.tree.leaves(models.abstract_params(config, method))
    plain = jax.tree.leaves(models.abstract_params(config))
    assert sum(x.size for x in adapted) - sum(x.size for x in plain) == number
    assert method.num_parameters(config) == number


def test_the_vectors_and_their_places_are_these():
    params = models.abstract_params(CONFIG, ia3.IA3())
    attention = {"ia3_key": {"scale": (6,)}, "ia3_value": {"scale": (6,)}}
    mlp = {"ia3_mlp_hidden": {"scale": (10,)}}

    def vectors(layer):
        found = {
            part: {k: v for k, v in arrays.items() if k.startswith("ia3")}
            for part, arrays in layer.items()
        }
        shapes = jax.tree.map(lambda x: x.shape, found)
        return {part: arrays for part, arrays in shapes.items() if arrays}

    for i in range(2):
        layer = params["encoder"][f"layers_{i}"]
        assert vectors(layer) == {"attention": attention, "mlp": mlp}
    for i in range(3):
        assert vectors(params["decoder"][f"layers_{i}"]) == {
            "self_attention": attention,
            "encoder_decoder_attention": attention,
            "mlp": mlp,
        }


@pytest.mark.parametrize("activations", [("gelu", "linear"), ("relu",)])
def test_doubling_the_hidden_vector_doubles_the_feed_forward_output(activations):
    config = models.T5Config.from_dict(
        CONFIG.to_dict() | {"mlp_activations": activations}
    )
    mlp = layers.Mlp(config, ia3.IA3())
    arguments = {"adapter_index": None, "keys": None}
    params = layers.nn.unbox(mlp.init(jax.random.key(0), X, **arguments))["params"]
    doubled = params | {"ia3_mlp_hidden": {"scale": jnp.full(10, 2.0)}}
    np.testing.assert_allclose(
        mlp.apply({"params": doubled}, X, **arguments),
        2 * mlp.apply({"params": params}, X, **arguments),
        rtol=1e-6,
    )


def attend(params_of, x=X):
    attention = layers.Attention(CONFIG, ia3.IA3(), DropoutSite.ATTENTION_WEIGHTS)
    mask = jnp.ones((2, 1, 1, 5), bool)
    arguments = {"adapter_index": None, "keys": None}
    init = attention.init(jax.random.key(0), x, x, mask, None, **arguments)
    params = layers.nn.unbox(init)["params"]
    arguments |= {"memory": x, "mask": mask, "bias": None}
    return attention.apply({"params": params_of(params)}, x, **arguments)[0]


def test_a_zero_key_vector_attends_to_all_positions_alike():
    y = attend(lambda params: params | {"ia3_key": {"scale": jnp.zeros(6)}})
    np.testing.assert_allclose(y, np.broadcast_to(y[:, :1], y.shape), atol=1e-6)


def test_the_value_vector_is_head_major_and_scales_what_is_mixed():
    scale = jnp.array([0.0, 0.0, 0.0, 2.0, 2.0, 2.0])  # head 0 off, head 1 doubled

    def cut_out(params):
        kernel = params["out"]["kernel"] * scale[:, None]
        return params | {"out": {"kernel": kernel}}

    scaled = attend(lambda params: params | {"ia3_value": {"scale": scale}})
    np.testing.assert_allclose(scaled, attend(cut_out), atol=1e-6)


def test_sites_can_be_chosen():
    method = ia3.IA3(sites=("mlp_hidden",))
    paths = method.trainable_paths(models.abstract_params(CONFIG, method))
    assert {path.split("/")[-2] for path in paths} == {"ia3_mlp_hidden"}
    assert method.num_parameters(CONFIG) == 5 * 10


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (("encoder_input",), r"\(IA\)\^3 can act at key, value, mlp_hidden"),
        ((), "once each"),
        (("key", "key"), "once each"),
    ],
)
def test_sites_where_it_cannot_act_are_refused(sites, message):
    with pytest.raises(ValueError, match=message):
        ia3.IA3(sites=sites)


def test_a_site_that_finds_no_layer_is_an_error():
    params = models.abstract_params(CONFIG, ia3.IA3(sites=("key",)))
    with pytest.raises(
        ValueError, match="no layer of the parameters has the site value"
    ):
        ia3.IA3().trainable_paths(params)


def test_a_bank_does_not_fold():
    with pytest.raises(ValueError, match="a bank of adapters does not fold"):
        ia3.IA3(num_adapters=2).fold({})
