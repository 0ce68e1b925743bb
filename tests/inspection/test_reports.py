"""Reports of whole adapters: prompts beside a vocabulary, vectors, files, charts."""

import dataclasses
import json

import matplotlib.image
import numpy as np
import pytest

from tfew_jax import inspection
from tfew_jax.inspection import charts, reports, units
from tfew_jax.report.charts import to_png


@pytest.fixture
def learned(vocabulary):
    """A prompt made of words: two labels, then a word twice; larger than the words."""
    texts = ["bad", "very good", "film", "film"]
    ids = [vocabulary.tokenizer.encode(text, add_eos=False) for text in texts]
    prompt = np.stack([vocabulary.table[some].mean(axis=0) for some in ids])
    return inspection.Learned(
        source="made",
        method="prompt",
        prompts={"encoder_input": prompt * np.array([[9], [9], [9], [18]], np.float32)},
        vectors={},
        labels=("bad", "very good"),
        start_labels=("bad", "very good"),
    )


@pytest.fixture
def report(learned, vocabulary):
    (report,) = inspection.inspect_prompts(learned, vocabulary, top=3)
    return report


def test_a_prompt_made_of_words_is_nearest_to_these_words(report):
    pieces = report.pieces
    assert [pieces[0][0], pieces[2][0], pieces[3][0]] == ["▁bad", "▁film", "▁film"]
    assert set(pieces[1][:2]) == {"▁very", "▁good"}
    np.testing.assert_allclose(report.neighbours.cosines[[0, 2, 3], 0], 1, atol=1e-6)


def test_labels_that_are_still_there_have_persisted(report):
    found = [(label.text, label.kept, label.num_kept) for label in report.labels]
    assert found == [("bad", True, 1), ("very good", True, 2)]
    assert report.summary["labels_kept"] == 2


def test_labels_that_are_given_take_the_place_of_the_tasks(learned, vocabulary):
    (report,) = inspection.inspect_prompts(learned, vocabulary, top=1, labels=["film"])
    (label,) = report.labels
    assert label.kept is False and label.positions == (2, 3)


def test_labels_of_another_order_do_not_take_the_place_of_a_start_that_is_known(
    learned, vocabulary
):
    told = dataclasses.replace(learned, init="class_labels")
    for given in (["very good", "bad"], ["film", "very good", "bad"]):
        (report,) = inspection.inspect_prompts(told, vocabulary, labels=given)
        found = {label.text: label.position for label in report.labels}
        assert found == {**dict.fromkeys(given), "bad": 0, "very good": 1}


def test_a_prompt_that_started_from_something_else_gives_labels_no_place(
    learned, vocabulary
):
    sampled = dataclasses.replace(learned, init="uniform", start_labels=())
    (report,) = inspection.inspect_prompts(sampled, vocabulary, top=3)
    assert [label.position for label in report.labels] == [None, None]
    assert [label.positions for label in report.labels] == [(0,), (1,)]
    assert report.summary["labels_kept"] == 0


def test_positions_that_share_their_entries_are_found(report):
    assert report.same_nearest == [(2, 3)] and report.same_neighbours == [(2, 3)]
    assert report.summary["positions_with_shared_nearest"] == 2
    assert dict(report.words)["film"] >= 2


def test_the_control_has_as_many_random_vectors_and_the_same_statistics(report):
    control = report.control
    assert control.kind == "control" and control.control is None
    assert control.summary.keys() == report.summary.keys()
    assert control.summary["positions"] == 4
    assert control.summary["mean_cosine"] < report.summary["mean_cosine"]
    assert control.summary["mean_norm"] < report.summary["mean_norm"]


def test_neighbours_stand_for_text_unless_all_rows_are_wanted(learned, vocabulary):
    pad = inspection.Learned(
        source="made",
        method="prompt",
        prompts={"encoder_input": vocabulary.table[[0, -1]]},
        vectors={},
    )
    (only_text,) = inspection.inspect_prompts(pad, vocabulary)
    assert vocabulary.is_text[only_text.neighbours.ids].all()
    (everything,) = inspection.inspect_prompts(pad, vocabulary, all_rows=True)
    last = len(vocabulary.table) - 1
    assert [some[0] for some in everything.pieces] == ["<pad>", f"<row {last}>"]


def test_prompts_of_encoder_and_decoder_have_a_report_each(learned, vocabulary):
    prompt = learned.prompts["encoder_input"]
    both = inspection.Learned(
        source="made",
        method="prompt",
        prompts={"encoder_input": prompt, "decoder_input": prompt[:1]},
        vectors={},
        labels=("bad",),
        start_labels=("bad",),
    )
    found = inspection.inspect_prompts(both, vocabulary)
    assert [(r.name, len(r.pieces)) for r in found] == [
        ("encoder_input", 4),
        ("decoder_input", 1),
    ]
    kept = [(r.labels[0].kept, r.labels[0].positions) for r in found]
    assert kept == [(True, (0,)), (None, (0,))]  # labels start the encoder's alone
    assert to_png(charts.prompt_chart(found)).startswith(b"\x89PNG")


def test_a_prompt_of_another_width_names_both(vocabulary):
    other = inspection.Learned(
        source="a.npy",
        method="prompt",
        prompts={"encoder_input": np.ones((2, 3))},
        vectors={},
        base="t5",
    )
    with pytest.raises(
        ValueError, match=r"a.npy has 3 columns.* 32; give the model .* on, t5"
    ):
        inspection.inspect_prompts(other, vocabulary)


def test_each_kind_of_adapter_has_its_own_report(
    learned, vocabulary, adapter, tmp_path
):
    with pytest.raises(ValueError, match=r"made holds no .* vectors, only prompts"):
        inspection.inspect_vectors(learned)
    adapter.save(tmp_path / "a")
    vectors = inspection.load(tmp_path / "a")
    with pytest.raises(ValueError, match="holds no prompt, only"):
        inspection.inspect_prompts(vectors, vocabulary)


def test_a_report_of_a_prompt_is_json_and_a_table(report):
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    first = content["positions"][0]["neighbours"][0]
    assert set(first) == {"id", "piece", "cosine"}
    assert content["control"]["kind"] == "control"
    rows = report.rows()
    assert len(rows) == 2 * 4 * 3  # learned and control, positions, neighbours
    assert {len(row) for row in rows} == {len(reports.NEIGHBOUR_COLUMNS)}
    assert rows[0][:3] == ["encoder_input", "learned", 0]
    assert rows[-1][:3] == ["encoder_input", "control", 3]


def test_one_neighbour_leaves_no_pairs(learned, vocabulary):
    (report,) = inspection.inspect_prompts(learned, vocabulary, top=1)
    assert report.summary["mean_tightness"] is None
    json.dumps(report.to_dict(), allow_nan=False)
    assert to_png(charts.prompt_chart([report])).startswith(b"\x89PNG")


@pytest.fixture
def vector_report(adapter, tmp_path):
    adapter.save(tmp_path / "a")
    return inspection.inspect_vectors(inspection.load(tmp_path / "a"), top=2)


def test_a_report_of_vectors_is_json_and_a_table(vector_report):
    content = json.loads(json.dumps(vector_report.to_dict(), allow_nan=False))
    assert content["summary"]["units"] == 2 * (6 * 64 + 2 * 128)
    assert [unit["value"] for unit in content["inhibited"]] == [-0.25]
    assert len(content["vectors"]) == 16 and len(content["places"]) == 8
    place = ["decoder", 1, "mlp", "mlp_hidden"]
    assert vector_report.rows() == [
        [*place, "inhibited", 1, 3, -0.25],
        [*place, "amplified", 1, 5, 2.5],
    ]


def test_the_heat_map_has_a_panel_a_place_with_sorted_units_and_white_at_one(
    vector_report,
):
    figure = charts.heat_map(vector_report.vectors)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 8
    (image,) = panels[-1].images
    values = np.asarray(image.get_array())
    assert values.shape == (2, 128)
    assert values[1, 0] == -0.25 and values[1, -1] == 2.5
    assert image.norm(1.0) == 0.5
    assert panels[-1].get_title().startswith("decoder\nfeed-forward, hidden layer")


def test_charts_are_the_same_bytes_each_time(vector_report, tmp_path):
    data = to_png(charts.heat_map(vector_report.vectors))
    assert data == to_png(charts.heat_map(vector_report.vectors))
    (tmp_path / "a.png").write_bytes(data)
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] == 1500


def test_vectors_of_one_half_and_site_have_one_panel():
    vectors = units.vectors_of(
        {"encoder/layers_1/mlp/ia3_mlp_hidden/scale": np.ones(4, np.float32)}
    )
    panels = [axes for axes in charts.heat_map(vectors).axes if axes.images]
    assert len(panels) == 1
    assert np.isnan(np.asarray(panels[0].images[0].get_array())[0]).all()


def test_released_prompts_are_inspected_against_a_table_made_up(shared):
    path = shared / "data" / "prompts_lm100k_base" / "sst2.npy"
    file = shared / "data" / "t5_vocab" / "sentencepiece.model"
    learned = inspection.load(path)
    prompt = learned.prompts["encoder_input"]
    assert prompt.shape == (100, 768)
    rng = np.random.default_rng(1)
    table = rng.standard_normal((32128, 768), np.float32).astype(np.float16)
    table[20000:20100] = prompt[::-1]  # one entry lies along each position
    vocabulary = inspection.Vocabulary(
        table=table,
        tokenizer=inspection.sources.tokenizers.Tokenizer(file),
        source="made up",
    )
    (report,) = inspection.inspect_prompts(learned, vocabulary)
    assert report.neighbours.ids[:, 0].tolist() == list(range(20099, 19999, -1))
    np.testing.assert_allclose(report.neighbours.cosines[:, 0], 1, atol=1e-4)
    assert round(report.summary["mean_norm"]) == 1385
    assert report.summary["positions_with_shared_nearest"] == 0
