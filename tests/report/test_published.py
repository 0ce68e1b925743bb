"""The published numbers are those of the paper."""

import csv

import numpy as np
import pytest

from tfew_jax.data import raft
from tfew_jax.report import published, tables


def mean(row):
    return 100 * np.mean([median for _, median, _ in row.cells.values()])


def test_every_row_has_all_sets_of_its_tables():
    for row in published.load():
        sets = raft.NAMES if row.source == "Table 11" else tables.ELEVEN
        assert tuple(row.cells) == sets
        assert row.metric == ("macro_f1" if row.source == "Table 11" else "accuracy")
        assert row.templates in ("", "all", "random")


def test_printed_means_follow_from_the_rows_save_for_two_that_are_noted():
    wrong = [
        row
        for row in published.load()
        if row.printed_mean and abs(mean(row) - float(row.printed_mean)) > 0.0551
    ]
    assert [(row.name, row.printed_mean, f"{mean(row):.2f}") for row in wrong] == [
        ("T0 zero-shot", "66.9", "62.51"),
        ("T5+LM", "49.6", "49.80"),
    ]
    for row in wrong:
        assert row.printed_mean in row.note and f"{mean(row):.2f}" in row.note


def test_levels_hold_the_main_rows_all_rows_or_none():
    main, everything = published.load("on"), published.load("all")
    assert [row.source for row in main if row.name == "T-Few"] == [
        "Table 9",
        "Table 11",
    ]
    assert {row.source for row in main} == {f"Table {i}" for i in (8, 9, 10, 11)}
    assert {row.source for row in everything} == {f"Table {i}" for i in range(4, 12)}
    assert len(everything) == len(main) + 54
    assert published.load("off") == []


def test_rows_of_tables_4_to_7_are_those_read_from_the_paper(shared):
    """Against a second reading, made apart from the packaged file."""
    path = shared / "facts" / "tfew_tables_4_to_7.csv"
    if not path.exists():
        pytest.skip("needs ../shared/facts/tfew_tables_4_to_7.csv")
    rows = {(row.source, row.name.partition(",")[0]): row for row in published.load()}
    with open(path, newline="") as file:
        for expected in csv.DictReader(file):
            name = expected["method"].replace("(IA) 3", "(IA)^3")
            row = rows[f"Table {expected['paper_table']}", name]
            texts = [text for text, _, _ in row.cells.values()]
            assert texts == [v for k, v in expected.items() if k.endswith("(IQR)")]
            recomputed = float(expected["mean_of_11_recomputed"])
            assert mean(row) == pytest.approx(recomputed, abs=0.006)
