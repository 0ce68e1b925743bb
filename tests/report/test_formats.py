"""The same table as text, Markdown, CSV and as a page."""

import base64
import csv
import html.parser
import io

import pytest

from tfew_jax import report
from tfew_jax.report import charts, tables

GOLDEN = "tests/golden/report.md"


@pytest.fixture
def loaded(experiment, tuned, record, monkeypatch):
    """Two variants on two sets, one with all templates, and baselines."""
    copa = [
        record("zero_shot", 0.35, task="copa"),
        *(record("majority", 0.5, task="copa", seed=seed) for seed in (0, 1, 32)),
        *tuned("copa", (0.9, 0.5, 0.7, 0.6, 0.8)),
        *tuned("copa", (0.9, 0.5, 0.7, 0.6, 0.8), template=7),
    ]
    experiment("a/copa", copa)
    cb = [
        *tuned("cb", (0.25, 0.5, 0.75), seeds=(0, 1, 32)),
        *tuned("cb", (0.2, 0.4), seeds=(0, 1), template=0, template_name="one"),
        *tuned("cb", (0.6, 0.8), seeds=(0, 1), template=1, template_name="a|b"),
    ]
    more = {"protocol.seeds": [0, 1, 32]}
    path = experiment("a/cb", cb, **more).parents[1]
    both = [*tuned("copa", (0.5,) * 5), *tuned("cb", (1.0,) * 5)]
    slow = [fields | {"variant": "<slow> & $x_1$"} for fields in both]
    experiment("b", slow, **{"recipe.learning_rate": 1e-4})
    monkeypatch.chdir(path.parent)
    return report.load_records("runs")


@pytest.fixture
def table(loaded):
    return report.table(loaded)


def test_markdown_is_as_in_the_golden_file(table, repository):
    expected = (repository / GOLDEN).read_text(encoding="utf-8")
    assert report.to_markdown(table) == expected


def test_text_is_cut_into_blocks_that_fit(table):
    lines = report.to_text(table).splitlines()
    assert lines[0].split() == ["templates", "copa", "cb", "mean", "(1", "set)"]
    assert lines[1].split() == "ia3 first 70.00 (20.00) 50.00 (25.00) n=3 70.00".split()
    blocks = report.to_text(table, width=64).split("\n\n")
    assert [block.splitlines()[0].split()[1:] for block in blocks[:-1]] == [
        ["copa"],
        ["cb"],
        ["mean", "(1", "set)"],
    ]
    assert {len(block.splitlines()) for block in blocks[:-1]} == {len(table.rows) + 1}
    # A line is never cut, be it wider than the terminal.
    assert report.to_text(table, width=1).count("T-Few (T0-11B, Table 9)") == 3


def test_csv_holds_unrounded_numbers(table):
    rows = list(csv.DictReader(io.StringIO(report.to_csv(table))))
    first = rows[0]
    assert first["name"] == "ia3"
    assert {k: v for k, v in first.items() if k not in ("iqr", "name")} == {
        "kind": "tuned",
        "templates": "first",
        "split": "test",
        "set": "copa",
        "metric": "accuracy",
        "median": "0.7",
        "q1": "0.6",
        "q3": "0.8",
        "num_values": "5",
        "num_seeds": "5",
        "num_templates": "1",
    }
    assert float(first["iqr"]) == pytest.approx(0.2)
    means = {r["name"]: r for r in rows if r["set"] == "mean"}
    assert means["zero-shot"]["median"] == "0.35"
    assert means["zero-shot"]["num_values"] == "1"
    printed = [r for r in rows if r["name"] == "T-Few (T0-11B, Table 9)"]
    assert [(r["set"], r["median"], r["iqr"]) for r in printed] == [
        ("copa", "0.93", "0.02"),
        ("cb", "0.875", "0.036"),
        ("mean", "0.93", ""),
    ]


class _Page(html.parser.HTMLParser):
    """Texts, images and whether every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.texts, self.images = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_one_file_that_loads_nothing(table):
    text = report.to_html(table)
    page = _Page(text)
    assert page.open == []
    assert "default-src 'none'" in text
    for mark in ("<script", "<link", "http:", "https:", "url("):
        assert mark not in text
    assert [image["alt"] for image in page.images] == [
        "all rows on all sets",
        "cb by template",
    ]
    for image in page.images:
        kind, _, data = image["src"].partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert b"<svg" in base64.b64decode(data)
    for told in ("70.00 (20.00)", "models/t0 0123456789abcdef", "c0ffee", "540,672"):
        assert told in page.texts


def test_the_page_shows_names_as_they_are(experiment, tuned):
    name = "<script>alert(1)</script>&\"'"
    more = {"confusion_matrix": [[1, 2], [3, 4]], "accuracy": 0.5, "macro_f1": 0.5}
    records = tuned(name, (0.5,) * 5, variant=name, scores=more, config_hash=name)
    table = report.table(report.load_records(experiment("x", records)))
    text = report.to_html(table, title=name)
    assert "<script" not in text
    page = _Page(text)
    assert page.texts.count(name) >= 4  # title, heading, column, row, configuration
    assert f"{name}: {name} (first)" in page.texts  # five seeds summed
    assert [t for t in page.texts if t in ("5", "10", "15", "20")] == [
        *("5", "10", "15", "20"),
    ]


def test_the_page_is_the_same_every_time(table):
    assert report.to_html(table) == report.to_html(table)


@pytest.mark.parametrize("count", [1, 11])
def test_texts_of_a_chart_do_not_overlap(experiment, tuned, record, count):
    names = ["ia3", "a variant with a name of great length " * 3, "lora", "w" * 60]
    for task in [*tables.ELEVEN, "another set with a long name"][-count:]:
        for number, name in enumerate(names[: 1 if count == 1 else 4]):
            records = tuned(task, (0.5, 0.6, 0.7, 0.9, 0.2), variant=name)
            records.append(record("zero_shot", 0.4, task=task))
            path = experiment(f"{task}/{number}", records).parents[1]
    figure = charts.scores(report.table(report.load_records(path)))
    figure.draw_without_rendering()
    [axes], [legend] = figure.axes, figure.legends
    low, high = axes.get_xlim()
    ticks = [t for t in axes.xaxis.get_major_ticks() if low <= t.get_loc() <= high]
    texts = [*legend.get_texts(), *axes.get_yticklabels(), *(t.label1 for t in ticks)]
    boxes = [text.get_window_extent() for text in [*texts, axes.xaxis.label]]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_a_set_with_one_template_has_no_chart_by_template(table):
    assert charts.templates(table, "copa") is None
    figure = charts.templates(table, "cb")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["0: one", "1: a|b"]
