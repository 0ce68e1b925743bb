"""Medians, quartiles, folds, templates and the mean of medians, by hand."""

import pytest

from tfew_jax import report
from tfew_jax.report import tables

SPREAD = (0.9, 0.5, 0.7, 0.6, 0.8)  # median .7, quartiles .6 and .8


def table_of(*paths, variants=None, **options):
    return report.table(report.load_records(paths, variants=variants), **options)


def texts(table, **fields):
    [row] = [
        r for r in table.rows if all(getattr(r, k) == v for k, v in fields.items())
    ]
    return [table.text(row, task) for task in table.tasks]


def test_a_cell_is_the_median_and_the_interquartile_range(experiment, tuned):
    # Of four values quartiles lie between: .1 + .75 * .2, .5 + .25 * .4.
    path = experiment("a", tuned("copa", (0.9, 0.1, 0.3, 0.5), seeds=(0, 1, 2, 3)))
    table = table_of(path)
    cell = table.rows[0].cells["copa"]
    assert cell.median == pytest.approx(0.4)
    assert cell.quartiles == pytest.approx((0.25, 0.6))
    assert texts(table, kind="tuned") == ["40.00 (35.00)"]


def test_columns_are_tfews_sets_in_its_order_then_others_by_name(experiment, tuned):
    for task in ("zebra", "rte", "aardvark", "anli-r3", "cb", "copa", "boolq"):
        experiment(task, tuned(task, SPREAD))
    path = experiment("h-swag", tuned("h-swag", SPREAD)).parent
    expected = ("copa", "h-swag", "rte", "cb", "anli-r3", "aardvark", "boolq", "zebra")
    assert table_of(path).tasks == expected


def test_rows_are_variants_as_they_come_then_baselines(experiment, tuned, record):
    first = [
        record("zero_shot", 0.4, task="cb"),
        record("tfidf", 0.5, task="cb", seed=0),
        record("majority", 0.3, task="cb", seed=0),
        *tuned("cb", SPREAD, variant="zoo"),
        *tuned("cb", SPREAD, variant="zoo", template="random"),
    ]
    a = experiment("a", first)
    b = experiment("b", tuned("cb", SPREAD, variant="ant"))
    table = table_of(a, b, with_published="off")
    assert [(row.name, row.templates) for row in table.rows] == [
        ("zoo", "first"),
        ("zoo", "random"),
        ("ant", "first"),
        ("zero-shot", "first"),
        ("majority class", "–"),
        ("TF-IDF", "–"),
    ]
    assert texts(table, kind="zero_shot") == ["40.00"]


def test_records_of_earlier_versions_are_named_by_their_method(experiment, tuned):
    table = table_of(experiment("a", tuned("cb", SPREAD)))
    assert (table.rows[0].name, table.rows[0].templates) == ("ia3", "first")


def test_all_templates_are_the_values_of_all_seeds_and_templates(experiment, tuned):
    records = [
        *tuned("cb", (0.1, 0.3), seeds=(0, 1), template=0, template_name="x"),
        *tuned("cb", (0.5, 0.7), seeds=(0, 1), template=2, template_name="y"),
        *tuned("cb", (0.2, 0.4), seeds=(0, 1), template="random"),
    ]
    table = table_of(experiment("a", records))
    # .1 .3 .5 .7: quartiles .25 and .55.
    assert texts(table, kind="tuned", templates="all") == ["40.00 (30.00)"]
    assert texts(table, kind="tuned", templates="random") == ["30.00 (10.00)"]


def test_a_missing_template_of_a_seed_shows_as_the_number_of_values(experiment, tuned):
    records = [
        *tuned("cb", (0.1, 0.3), seeds=(0, 1), template=0),
        *tuned("cb", (0.5,), seeds=(0,), template=2),
    ]
    table = table_of(experiment("a", records))
    assert texts(table, kind="tuned") == ["30.00 (20.00) n=3"]


@pytest.mark.parametrize("second, name", [(3, "index 3"), (1, "one")])
def test_a_row_with_one_template_a_set_is_not_called_all(
    experiment, tuned, second, name
):
    experiment("a", tuned("cb", SPREAD, template=3))
    path = experiment("b", tuned("rte", SPREAD, template=second)).parent
    assert table_of(path).rows[0].templates == name


def test_the_number_of_values_shows_where_it_is_unusual(experiment, tuned, record):
    experiment("a", [*tuned("cb", SPREAD), record("zero_shot", 0.4, task="cb")])
    experiment("b", tuned("rte", SPREAD))
    path = experiment("c", tuned("wsc", (0.5, 0.6), seeds=(0, 1))).parent
    table = table_of(path)
    assert texts(table, kind="tuned") == [
        "55.00 (5.00) n=2",
        "70.00 (20.00)",
        "70.00 (20.00)",
    ]
    assert texts(table, kind="zero_shot") == ["–", "–", "40.00"]


def test_zero_shot_by_random_templates_is_counted_by_seeds_too(
    experiment, tuned, record
):
    def zero_shot(task, seeds):
        more = {"template": "random", "task": task}
        return [record("zero_shot", 0.4, seed=seed, **more) for seed in seeds]

    experiment("a", [*tuned("cb", SPREAD), *zero_shot("cb", (0, 1, 32, 42, 1024))])
    path = experiment("b", [*tuned("rte", SPREAD), *zero_shot("rte", (0, 1))])
    assert texts(table_of(path.parent), kind="zero_shot") == [
        "40.00 (0.00) n=2",
        "40.00 (0.00)",
    ]


def test_folds_of_a_seed_are_one_value_by_their_rows(experiment, record):
    def fold(number, rows, matrix):
        right = sum(matrix[i][i] for i in range(2))
        scores = {
            "accuracy": right / rows,
            "macro_f1": 0.9,
            "confusion_matrix": matrix,
        }
        return record(
            *("tuned", None),
            task="mine",
            seed=0,
            fold=number,
            split="fold",
            num_scored_rows=rows,
            scores=scores,
        )

    folds = [fold(0, 3, [[2, 0], [1, 0]]), fold(1, 1, [[0, 1], [0, 0]])]
    unscored = record("tuned", None, task="mine", seed=0, split=None, template="all")
    path = experiment("a", [*folds, unscored | {"template": None}])
    table = table_of(path)
    # 2 of 4 rows; the mean of the folds' accuracies would be a third.
    assert texts(table, name="ia3, cross-validation") == ["50.00"]
    # [[2, 1], [1, 0]]: F1 of the classes 4/6 and 0.
    assert texts(table_of(path, metric="macro_f1"), kind="tuned") == ["33.33"]
    assert table.rows[0].cells["mine"].confusion == [[2, 1], [1, 0]]
    assert any("folds of a seed are one value" in note for note in table.notes)


def test_folds_without_confusion_matrices_have_no_common_f1(experiment, record):
    folds = [
        record("tuned", 0.5, task="mine", seed=0, fold=number, split="fold")
        for number in range(2)
    ]
    path = experiment("a", folds)
    assert texts(table_of(path), kind="tuned") == ["50.00"]
    with pytest.raises(ValueError, match="no confusion matrices of one size"):
        table_of(path, metric="macro_f1")


def test_the_mean_is_over_the_sets_that_all_rows_have(experiment, tuned, record):
    experiment("a1", tuned("cb", (0.1, 0.2, 0.6), seeds=(0, 1, 2)))
    tfidf = record("tfidf", 0.5, task="cb", seed=0)
    experiment("a2", [*tuned("rte", (0.4, 0.5, 0.9), seeds=(0, 1, 2)), tfidf])
    experiment("a3", tuned("wsc", (0.9,), seeds=(0,)))
    both = [*tuned("cb", (0.3,), seeds=(0,)), *tuned("rte", (0.4,), seeds=(0,))]
    path = experiment("b", [fields | {"variant": "b"} for fields in both]).parent
    table = table_of(path)
    assert table.mean_tasks == ("rte", "cb")
    assert table.mean_header == "mean (2 sets)"
    assert table.rows[0].mean == pytest.approx((0.2 + 0.5) / 2)
    assert table.rows[1].mean == pytest.approx((0.3 + 0.4) / 2)
    # TF-IDF lacks a set and has no say in which ones count.
    assert (table.rows[2].kind, table.rows[2].mean) == ("tfidf", None)


def test_a_mean_over_no_set_is_no_number(experiment, tuned):
    experiment("a", tuned("cb", SPREAD, variant="a"))
    table = table_of(experiment("b", tuned("rte", SPREAD, variant="b")).parent)
    assert table.mean_header == "mean (0 sets)"
    assert {row.mean for row in table.rows} == {None}


def test_published_rows_stand_beside_the_same_sets(experiment, tuned):
    for task in tables.ELEVEN:
        experiment(task, tuned(task, SPREAD))
    path = experiment("mine", tuned("rte", SPREAD, variant="b")).parent / "copa"
    table = table_of(path.parent)
    assert texts(table, name="T-Few (T0-11B, Table 9)")[:2] == [
        "93.0 (2.0)",
        "67.1 (6.0)",
    ]
    assert (
        table_of(path, with_published="off").own_rows
        == table_of(path, with_published="off").rows
    )
    assert len(table_of(path, with_published="all").rows) > len(table.rows)
    assert not any(
        row.kind == "published" for row in table_of(path, metric="macro_f1").rows
    )


def test_the_published_mean_is_computed_where_the_printed_one_is_wrong(
    experiment, tuned
):
    for task in tables.ELEVEN:
        path = experiment(task, tuned(task, SPREAD)).parent
    table = table_of(path)
    means = {row.name: tables.percent(row.mean) for row in table.rows}
    assert means["T-Few (T0-11B, Table 9)"] == "72.41"
    assert means["T0 zero-shot (T0-11B, Table 9)"] == "62.51"
    assert any("66.9, does not follow" in note for note in table.notes)


def test_seeds_may_lie_in_directories_of_their_own(experiment, tuned):
    for seed in (0, 1, 32):
        changed = {"protocol.seeds": [seed], "rows.train": f"32 rows of {seed}"}
        records = tuned("cb", (0.1 * (1 + seed % 4),), seeds=(seed,))
        path = experiment(f"seed_{seed}", records, **changed).parent
    # .1 .2 .1
    assert texts(table_of(path), kind="tuned") == ["10.00 (5.00)"]


def test_what_goes_with_two_variants_counts_once(experiment, tuned, record):
    base = [
        record("zero_shot", 0.4, task="cb"),
        record("tfidf", 0.5, task="cb", seed=0),
    ]
    a = experiment("a", [*base, *tuned("cb", SPREAD, variant="a")])
    b = experiment("b", [*base, *tuned("cb", SPREAD, variant="b")])
    table = table_of(a, b, with_published="off")
    assert [row.name for row in table.rows] == ["a", "b", "zero-shot", "TF-IDF"]
    assert texts(table, kind="tfidf") == ["50.00 n=1"]


def test_baselines_that_differ_have_a_row_a_variant(experiment, tuned, record):
    def write(name, zero_shot, **changed):
        records = [
            record("zero_shot", zero_shot, task="cb"),
            record("tfidf", 0.5, task="cb", seed=0),
            *tuned("cb", SPREAD, variant=name),
        ]
        return experiment(name, records, **changed)

    table = table_of(write("a", 0.4), write("b", 0.6, base="fedc"))
    assert texts(table, name="zero-shot (a)") == ["40.00"]
    assert texts(table, name="zero-shot (b)") == ["60.00"]
    assert texts(table, name="TF-IDF") == ["50.00 n=1"]


def test_the_same_experiment_twice_counts_once(experiment, tuned):
    a = experiment("a", tuned("cb", SPREAD))
    b = experiment("b", tuned("cb", SPREAD))
    assert texts(table_of(a, b, a.parent), kind="tuned") == ["70.00 (20.00)"]


def test_different_experiments_do_not_share_a_cell(experiment, tuned):
    a = experiment("a", tuned("cb", SPREAD))
    changed = {"recipe.learning_rate": 0.01}
    b = experiment("b", tuned("cb", SPREAD, config_hash="beef"), **changed)
    with pytest.raises(ValueError) as caught:
        table_of(a, b)
    message = str(caught.value)
    assert f"{a} and {b} both hold ia3 on cb, seed 0, template first" in message
    assert "they differ in recipe.learning_rate (0.003, 0.01). Name" in message
    assert f"--variant NAME={b}" in message
    table = table_of(a, b, variants={a: "slow", b: "fast"})
    assert [row.name for row in table.own_rows] == ["slow", "fast"]


def test_seeds_of_different_experiments_do_not_share_a_cell(experiment, tuned):
    a = experiment("a", tuned("cb", (0.5,), seeds=(0,)))
    changed = {"protocol.num_shots": 16, "protocol.seeds": [1]}
    b = experiment("b", tuned("cb", (0.5,), seeds=(1,)), **changed)
    with pytest.raises(ValueError, match=r"protocol.num_shots \(32, 16\)"):
        table_of(a, b)


def test_other_scores_of_a_run_without_settings_are_refused(experiment, tuned):
    a = experiment("a", tuned("cb", SPREAD), settings=None)
    b = experiment("b", tuned("cb", SPREAD[::-1], config_hash="beef"), settings=None)
    with pytest.raises(ValueError, match=r"config_hash \(c0ffee, beef\)"):
        table_of(a, b)
    c = experiment("c", tuned("cb", SPREAD[::-1]), settings=None)
    with pytest.raises(ValueError, match="have other scores: of equal settings"):
        table_of(a, c)


def test_a_run_that_is_recorded_twice_in_a_file_is_refused(experiment, tuned):
    path = experiment("a", [*tuned("cb", SPREAD), *tuned("cb", SPREAD)])
    with pytest.raises(ValueError, match=r"line 6: the run of line 1 again"):
        table_of(path)


def test_a_variant_whose_sets_differ_in_recipe_is_said_to(experiment, tuned):
    experiment("a", tuned("cb", SPREAD))
    changed = {"recipe.num_steps": 300, "protocol.num_shots": 50}
    path = experiment("b", tuned("rte", SPREAD), **changed).parent
    assert table_of(path).notes[-1] == "ia3: its sets differ in recipe.num_steps."


def test_unfinished_experiments_are_counted_in_a_note(experiment, tuned):
    experiment("a", tuned("cb", SPREAD))
    path = experiment("b", tuned("rte", (0.5,), seeds=(0,)), finished=False).parent
    table = table_of(path)
    assert texts(table, kind="tuned") == ["50.00 n=1", "70.00 (20.00)"]
    assert any("1 of 2 experiments not finished" in note for note in table.notes)


def test_experiments_that_have_only_begun_keep_their_variants_apart(experiment, record):
    for name, accuracy in (("with it", 0.5), ("without it", 0.6)):
        zero_shot = record("zero_shot", accuracy, task="cb", seed=0)
        changed = {"variant": name, "protocol.normalization": name}
        path = experiment(name, [zero_shot], finished=False, **changed).parent
    names = {row.name for row in table_of(path).rows if row.kind == "zero_shot"}
    assert names == {"zero-shot (with it)", "zero-shot (without it)"}


def test_without_scores_there_is_no_table(experiment, record):
    path = experiment("a", [record("tuned", None, task="cb", seed=0, split=None)])
    with pytest.raises(ValueError, match=f"no scores to report: {path} hold no record"):
        table_of(path)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"metric": "f1"}, "metric must be accuracy or macro_f1, got 'f1'"),
        ({"with_published": "yes"}, "published must be on, all, off, got 'yes'"),
    ],
)
def test_an_unknown_option_is_an_error(experiment, tuned, options, says):
    with pytest.raises(ValueError, match=says):
        table_of(experiment("a", tuned("cb", SPREAD)), **options)


def test_scores_without_the_metric_name_file_and_line(experiment, record):
    path = experiment("a", [record("tuned", 0, task="cb", seed=0, scores={"f": 1})])
    with pytest.raises(ValueError, match=r"line 1: its scores hold no accuracy"):
        table_of(path)
