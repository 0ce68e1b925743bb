"""Table 4 of Lester et al., 2021, to the unit, and the methods of its Figure 4."""

import csv
import dataclasses
import io
import json

import pytest

from tfew_jax import models, peft
from tfew_jax.checkpoint import layout
from tfew_jax.report import charts, parameter_chart, parameter_counts

# Table 4 with its three misprints put right: length, parameters, total, percent.
TABLE_4 = {
    "small": [
        (1, 512, 76_961_664, "0.00067"),
        (5, 2_560, 76_963_712, "0.00333"),
        (20, 10_240, 76_971_392, "0.01330"),
        (50, 25_600, 76_986_752, "0.03325"),
        (100, 51_200, 77_012_352, "0.06648"),
        (150, 76_800, 77_037_952, "0.09969"),
    ],
    "base": [
        (1, 768, 247_578_624, "0.00031"),
        (5, 3_840, 247_581_696, "0.00155"),
        (20, 15_360, 247_593_216, "0.00620"),
        (50, 38_400, 247_616_256, "0.01551"),
        (100, 76_800, 247_654_656, "0.03101"),
        (150, 115_200, 247_693_056, "0.04651"),
    ],
    "large": [
        (1, 1_024, 783_151_104, "0.00013"),
        (5, 5_120, 783_155_200, "0.00065"),
        (20, 20_480, 783_170_560, "0.00262"),
        (50, 51_200, 783_201_280, "0.00654"),
        (100, 102_400, 783_252_480, "0.01307"),
        (150, 153_600, 783_303_680, "0.01961"),
    ],
    "xl": [
        (1, 2_048, 2_849_759_232, "0.00007"),
        (5, 10_240, 2_849_767_424, "0.00036"),
        (20, 40_960, 2_849_798_144, "0.00144"),
        (50, 102_400, 2_849_859_584, "0.00359"),
        (100, 204_800, 2_849_961_984, "0.00719"),
        (150, 307_200, 2_850_064_384, "0.01078"),
    ],
    "xxl": [
        (1, 4_096, 11_135_336_448, "0.00004"),
        (5, 20_480, 11_135_352_832, "0.00018"),
        (20, 81_920, 11_135_414_272, "0.00074"),
        (50, 204_800, 11_135_537_152, "0.00184"),
        (100, 409_600, 11_135_741_952, "0.00368"),
        (150, 614_400, 11_135_946_752, "0.00552"),
    ],
}


@pytest.fixture(scope="module")
def counts():
    return parameter_counts.count()


def chosen(counts, method, length=None):
    return [c for c in counts if c.method == method and length in (None, c.length)]


@pytest.mark.parametrize("size", TABLE_4)
def test_prompts_are_those_of_table_4_to_the_unit(counts, size):
    found = [
        (c.length, c.number, c.total, f"{c.percent_of_total:.5f}")
        for c in chosen(counts, "prompt")
        if c.model == size
    ]
    assert found == TABLE_4[size]


def test_the_three_misprints_are_named_beside_the_right_values(counts):
    noted = [(c.model, c.length, c.note) for c in chosen(counts, "prompt") if c.note]
    assert noted == [
        ("small", 20, "the paper prints 10,420 parameters"),
        ("xxl", 50, "the paper prints a total of 11,137,380,352"),
        ("large", 100, "the paper prints 0.01907 %"),
    ]


def test_a_misprint_is_of_the_published_size_alone():
    large = dataclasses.replace(models.SIZES["large"], vocab_size=32100)
    (found,) = parameter_counts.count(
        {"large": large}, methods=["prompt"], lengths=[100]
    )
    assert found.note == ""


def test_a_prefix_takes_the_shares_that_figure_4_claims(counts):
    shares = [f"{c.percent_of_model:.2f}" for c in chosen(counts, "prefix", 100)]
    assert shares == ["0.80", "0.74", "0.63", "0.34", "0.18"]
    in_training = chosen(counts, "prefix_training")
    for trained, kept in zip(in_training, chosen(counts, "prefix"), strict=True):
        assert trained.number > kept.number


def test_a_prefix_in_training_is_a_third_of_what_the_code_of_t_few_trains():
    # Prefixes of length 2 on encoder, decoder and cross-attention of T0-3B.
    one = parameter_counts.prefix_tuning_in_training(models.SIZES["xl"], 2)
    assert 3 * one == 154_449_408


def test_other_claims_of_figure_4_hold(counts):
    assert all(c.percent_of_model == 100 for c in chosen(counts, "full"))
    assert all(c.total == c.model_parameters for c in chosen(counts, "full"))
    assert all(c.percent_of_model < 0.1 for c in chosen(counts, "warp"))
    billions = [c for c in chosen(counts, "prompt", 100) if c.model_parameters > 1e9]
    assert len(billions) == 2 and all(c.percent_of_model < 0.01 for c in billions)
    design = chosen(counts, "prompt_design")
    assert {c.number for c in design} == {500, 2000}
    assert all(c.percent_of_model is None and c.unit == "token ids" for c in design)


def test_warp_has_an_output_vector_a_class():
    small = models.SIZES["small"]
    assert parameter_counts.warp(small, 20) == 22 * 512
    assert parameter_counts.warp(small, 20, num_classes=3) == 23 * 512


def test_ia3_is_what_liu_et_al_count_on_t0(counts):
    found = {c.note: c for c in chosen(counts, "ia3") if c.note}
    assert {name: c.number for name, c in found.items()} == {
        "T0-3B": 540_672,
        "T0-11B": 1_081_344,
    }
    shares = [f"{c.percent_of_model:.4f}" for c in found.values()]
    assert shares == ["0.0190", "0.0097"]


def test_the_model_itself_is_counted_as_its_shapes_say():
    config = dataclasses.replace(models.SIZES["tiny"], mlp_activations=("relu",))
    (found,) = parameter_counts.count({"mine": config}, methods=["full"])
    shapes = layout.model_shapes(config).values()
    sizes = [shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes]
    assert found.number == sum(sizes)


def test_the_librarys_own_prompt_has_as_many_parameters():
    for config in models.SIZES.values():
        method = peft.get("prompt")(length=20)
        assert method.num_parameters(config) == 20 * config.emb_dim


def test_methods_and_lengths_are_chosen_and_stand_once():
    found = parameter_counts.count(
        {"xl": models.SIZES["xl"]}, methods=["ia3", "prompt", "ia3"], lengths=[7, 7, 9]
    )
    assert [(c.method, c.length) for c in found] == [
        ("ia3", None),
        ("prompt", 7),
        ("prompt", 9),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["lorra"]}, "unknown method 'lorra'; available: full, prefix_tr"),
        ({"lengths": [5, 0]}, "a length must be 1 or more, got 0"),
        ({"lengths": [-1]}, "a length must be 1 or more, got -1"),
    ],
)
def test_what_cannot_be_counted_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        parameter_counts.count(**options)


def test_the_csv_holds_every_count(counts):
    rows = list(csv.DictReader(io.StringIO(parameter_counts.to_csv(counts))))
    assert len(rows) == len(counts)
    assert rows[0]["method"] == "full" and rows[0]["length"] == ""
    assert [row["number"] for row in rows] == [str(c.number) for c in counts]
    assert list(rows[0])[-1] == "note"
    json.dumps([c.to_dict() for c in counts], allow_nan=False)


def test_markdown_has_table_4_and_the_methods(counts):
    text = parameter_counts.to_markdown(counts)
    assert "| 20 | small | 10,240 | 76,971,392 | 0.01330 | the paper prints" in text
    line = next(line for line in text.splitlines() if line.startswith("| WARP"))
    assert line.count("|") == 9
    assert "540,672 (0.0190 %)" in text and "xl is T0-3B, xxl is T0-11B" in text


def test_prompts_alone_have_no_table_of_methods():
    counts = parameter_counts.count(methods=["prompt"])
    assert len(parameter_counts.tables(counts)) == 1
    counts = parameter_counts.count(methods=["ia3"])
    assert len(parameter_counts.tables(counts)) == 1


def test_the_chart_has_a_line_a_method_and_a_band_where_lengths_differ(counts):
    figure = parameter_chart.draw(counts)
    (axes,) = figure.axes
    lines = {line.get_label().split(",\n")[0]: line for line in axes.get_lines()}
    expected = {c.title for c in counts}
    assert expected <= set(lines)
    shown = lines["prompt tuning"].get_ydata()
    assert shown.tolist() == [c.number for c in chosen(counts, "prompt", 100)]
    assert len(axes.collections) == 2  # prompts and prompt design
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert charts.to_png(figure).startswith(b"\x89PNG")


def test_one_model_and_one_length_are_a_chart_too():
    one = {"xl": models.SIZES["xl"]}
    counts = parameter_counts.count(one, methods=["prompt"], lengths=[3])
    (axes,) = parameter_chart.draw(counts).axes
    assert axes.get_lines()[0].get_ydata().tolist() == [3 * 2048]
    with pytest.raises(ValueError, match="no counts to draw"):
        parameter_chart.draw([])
