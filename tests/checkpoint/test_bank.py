"""Names, slots and arrays of a bank; what its rows compute is in `test_bank_rows`."""

import dataclasses

import jaxtyping
import numpy as np
import pytest

from tfew_jax import checkpoint
from tfew_jax.checkpoint import layout


@pytest.fixture
def adapters(config, make_adapter):
    sites = (("key",), ("value",), ("key", "mlp_hidden"))
    return {
        name: make_adapter(config, seed=seed, sites=sites[seed])
        for seed, name in enumerate("abc")
    }


@pytest.fixture
def bank(adapters):
    return checkpoint.Bank(adapters=adapters, capacity=4)


def test_a_bank_is_a_mapping_from_names_to_adapters(bank, adapters):
    assert [*bank] == ["a", "b", "c"] and len(bank) == 3
    assert "a" in bank and "__base__" not in bank
    assert bank["b"] is adapters["b"] and bank.get("z") is None


def test_slots_hold_each_adapter_and_ones_where_it_does_not_act(bank, adapters):
    assert bank.method.sites == ("key", "value", "mlp_hidden")
    assert bank.method.num_adapters == 5
    own = {name: layout.flatten(adapters[name].params) for name in adapters}
    for path, array in layout.flatten(bank.params).items():
        expected = [own[name].get(path, np.ones(array.shape[1:])) for name in "abc"]
        np.testing.assert_array_equal(array[1:4], expected)
        np.testing.assert_array_equal(array[[0, 4]], 1)


def test_prompts_stand_at_the_end_of_their_slots(config, make_adapter):
    lengths = {"a": (3, 0), "b": (1, 2)}
    bank = checkpoint.Bank(
        adapters={
            name: make_adapter(config, "prompt", length=m, decoder_length=n)
            for name, (m, n) in lengths.items()
        }
    )
    arrays = layout.flatten(bank.params)
    assert arrays["encoder_input/prompt/length"].tolist() == [0, 3, 1]
    assert arrays["decoder_input/prompt/length"].tolist() == [0, 0, 2]
    rows = arrays["encoder_input/prompt/embedding"]
    assert rows.shape == (3, 3, config.emb_dim)
    np.testing.assert_array_equal(rows[0], 0)
    np.testing.assert_array_equal(rows[2, :2], 0)
    own = layout.flatten(bank["b"].params)["encoder_input/prompt/embedding"]
    np.testing.assert_array_equal(rows[2, 2:], own)


def test_adapters_that_come_and_go_leave_the_shapes_as_they_are(
    bank, config, make_adapter
):
    new = make_adapter(config, seed=7, sites=("value",))
    other = bank.remove("c").add("d", new).rename("a", "z")
    assert other.names == ("z", "b", "d") and other.capacity == 4
    more = bank.add("d", new)
    assert more.method == bank.method and more.capacity == 4
    assert layout.shapes_of(more.params) == layout.shapes_of(bank.params)
    assert more.add("e", new).capacity == 8
    assert bank.select(["c", "a"]).index(["a", "c"]).tolist() == [2, 1]
    assert bank.names == ("a", "b", "c")  # a bank never changes


def test_a_bank_keeps_its_shapes_when_the_longest_prompt_goes(config, make_adapter):
    long = make_adapter(config, "prompt", length=5, decoder_length=2)
    short = make_adapter(config, "prompt", length=1, init="uniform")
    bank = checkpoint.Bank(adapters={"long": long, "short": short})
    for other in (
        bank.remove("long"),
        bank.remove("long").rename("short", "b").add("c", short),
        bank.replace("long", short),
    ):
        assert other.method == bank.method
        assert layout.shapes_of(other.params) == layout.shapes_of(bank.params)
    arrays = layout.flatten(bank.remove("long").params)
    assert arrays["encoder_input/prompt/length"].tolist() == [0, 1, 0]
    assert arrays["decoder_input/prompt/length"].tolist() == [0, 0, 0]
    assert bank.remove("long").select(["short"]).method.length == 1


def test_an_adapter_is_replaced_in_its_slot(bank, adapters):
    other = bank.replace("b", adapters["a"])
    assert other.names == bank.names and other["b"] is adapters["a"]
    assert other.method == bank.method and other.capacity == 4


def test_rows_name_their_adapter_or_its_slot_or_none(bank):
    index = bank.index(["c", "__base__", None, 1, np.int64(3), "c"])
    assert index.dtype == np.int32 and index.tolist() == [3, 0, 0, 1, 3, 3]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a", "z"], "row 1: unknown adapter 'z'; known: __base__, a, b, c"),
        ([4], "row 0: there is no adapter 4; 0 is __base__, the others are 1 to 3"),
        ([-1], "row 0: there is no adapter -1"),
        ([True], "row 0: unknown adapter True"),
    ],
)
def test_a_row_without_an_adapter_of_the_bank_is_an_error(rows, message, bank):
    with pytest.raises(ValueError, match=message):
        bank.index(rows)


def test_the_place_of_a_row_and_the_first_of_many_names_are_told(config, make_adapter):
    adapter = make_adapter(config)
    many = checkpoint.Bank(adapters={f"n{number}": adapter for number in range(64)})
    with pytest.raises(ValueError, match=r"a\.csv, line 3: .* n8 and 55 more$"):
        many.index(["n1", "z"], places=["a.csv, line 2", "a.csv, line 3"])


def test_changes_that_cannot_be_are_refused(bank, adapters):
    for change, message in (
        (lambda: bank.add("a", adapters["a"]), "has an adapter 'a'; remove it first"),
        (lambda: bank.add("__base__", adapters["a"]), "'__base__' is no name for an"),
        (lambda: bank.add("", adapters["a"]), "'' is no name for an adapter"),
        (lambda: bank.replace("z", adapters["a"]), "unknown adapter 'z'; known: a, b"),
        (lambda: bank.remove("z"), "unknown adapter 'z'; known: a, b, c"),
        (lambda: bank.select(["a"]).remove("a"), "holds at least one adapter"),
        (lambda: bank.rename("z", "y"), "unknown adapter 'z'; known: a, b, c"),
        (lambda: bank.rename("a", "b"), "has an adapter 'b' already"),
        (lambda: bank.select(["a", "a"]), "an adapter is named twice in a, a"),
        (lambda: bank.select(["z"]), "unknown adapter 'z'; known: a, b, c"),
        (lambda: checkpoint.Bank(adapters={}), "holds at least one adapter"),
        (
            lambda: checkpoint.Bank(adapters=adapters, capacity=2),
            "3 adapters in a bank with a capacity of 2",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            change()


def test_a_name_that_is_no_text_is_refused(adapters, monkeypatch):
    """A number would be read as a slot."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as users have it
    with pytest.raises(ValueError, match="3 is no name for an adapter; names are text"):
        checkpoint.Bank(adapters={3: adapters["a"]})


def test_adapters_of_another_model_or_method_are_named(bank, config, make_adapter):
    wide = make_adapter(dataclasses.replace(config, num_heads=3))
    with pytest.raises(ValueError, match=r"adapter d, .* shape \(12,\), expected \(8"):
        bank.add("d", wide)
    prompt = make_adapter(config, "prompt", length=2)
    with pytest.raises(ValueError, match=r"adapter d: .* of the method 'prompt', not"):
        bank.add("d", prompt)
    full = make_adapter(config, "full")
    with pytest.raises(ValueError, match=r"adapter d: .* method 'full' have no bank"):
        checkpoint.Bank(adapters={"d": full})
