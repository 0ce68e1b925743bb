import csv

import hypothesis
import pytest
from hypothesis import strategies as st

from tfew_jax.data import sources


def write(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def message_of(path):
    with pytest.raises(ValueError) as caught:
        sources.load_rows(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    "name, text",
    [
        ("rows.csv", 'text,label\n"good, very",1\nbad,0\n'),
        ("rows.tsv", "text\tlabel\ngood, very\t1\nbad\t0\n"),
    ],
)
def test_tables_become_rows_of_text(tmp_path, name, text):
    rows = sources.load_rows(write(tmp_path, name, text))
    assert rows == [
        {"text": "good, very", "label": "1"},
        {"text": "bad", "label": "0"},
    ]


def test_values_of_jsonl_keep_their_types_and_nesting(tmp_path):
    text = '{"text": "a", "label": 1, "endings": ["x", "y"], "meta": {"n": 1.5}}\n'
    [row] = sources.load_rows(write(tmp_path, "rows.jsonl", text))
    assert row == {
        "text": "a",
        "label": 1,
        "endings": ["x", "y"],
        "meta": {"n": 1.5},
    }


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last_end", [True, False])
def test_byte_order_mark_line_ends_and_blank_lines_do_not_matter(
    tmp_path, name, bom, end, last_end
):
    lines = {
        "rows.csv": ["text,label", "é 1,0", "", "b,1"],
        "rows.tsv": ["text\tlabel", "é 1\t0", "", "b\t1"],
        "rows.jsonl": ['{"text":"é 1","label":"0"}', "", '{"text":"b","label":"1"}'],
    }[name]
    data = bom + (end.join(lines) + (end if last_end else "")).encode()
    rows = sources.load_rows(write(tmp_path, name, data))
    assert rows == [{"text": "é 1", "label": "0"}, {"text": "b", "label": "1"}]


def test_a_cell_may_be_as_long_as_a_book(tmp_path):
    limit, text = csv.field_size_limit(), "word " * 40_000
    rows = sources.load_rows(write(tmp_path, "rows.csv", f"text,label\n{text},1\n"))
    assert rows == [{"text": text, "label": "1"}]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    "name, text",
    [
        ("rows.csv", 'text;label\n"good; very";1\nbad, so bad;0\n'),
        ("rows.csv", "text\tlabel\ngood\t1\n"),
        ("rows.tsv", "text,label\ngood,1\n"),
    ],
)
def test_another_separator_is_named(tmp_path, name, text):
    message = message_of(write(tmp_path, name, text))
    assert f"{text[4]!r} seems to separate the columns" in message


def test_a_path_may_begin_with_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, "rows.csv", "text\na\n")
    assert sources.load_rows("~/rows.csv") == [{"text": "a"}]


def test_a_row_remembers_its_file_and_first_line(tmp_path):
    path = write(tmp_path, "rows.csv", 'text,label\n"two\nlines",1\n\nb,0\n')
    rows = sources.load_rows(path)
    assert [row.where for row in rows] == [f"{path}, line 2", f"{path}, line 5"]
    assert rows[0]["text"] == "two\nlines"
    assert sources.where(rows[1], 1) == f"{path}, line 5"
    assert sources.where({"text": "x"}, 3) == "row 3"


def test_unicode_line_separators_inside_a_value_do_not_end_a_line(tmp_path):
    text = '{"text": "a\u2028b\x85c"}\n'
    assert sources.load_rows(write(tmp_path, "r.jsonl", text)) == [
        {"text": "a\u2028b\x85c"}
    ]
    assert sources.load_rows(write(tmp_path, "r.tsv", "text\na\u2028b\n")) == [
        {"text": "a\u2028b"}
    ]


def test_quotes_inside_a_tsv_cell_are_text_and_whole_cells_lose_them(tmp_path):
    text = 'text\tlabel\nthe "best" one\t0\n"say ""hi"""\t1\n"a" and "b"\t1\n'
    rows = sources.load_rows(write(tmp_path, "rows.tsv", text))
    assert [row["text"] for row in rows] == [
        'the "best" one',
        'say "hi"',
        '"a" and "b"',
    ]


def test_spaces_around_column_names_are_dropped(tmp_path):
    [row] = sources.load_rows(write(tmp_path, "rows.csv", "text, label\na, 1\n"))
    assert row == {"text": "a", "label": " 1"}


@pytest.mark.parametrize(
    "name, data, says",
    [
        ("rows.csv", "", "empty"),
        ("rows.jsonl", " \n\n", "empty"),
        ("rows.csv", "text,label\n", "no rows"),
        ("rows.csv", "text,label\n\n\n", "no rows"),
        ("rows.csv", "text,text\na,b\n", "'text' stands twice"),
        ("rows.csv", ",text\n0,a\n", "line 1: column 1 has no name"),
        ("rows.csv", "great film,1\nbad film,0\n", "line 1: expected column names"),
        ("rows.csv", "text,label\na,1\nb\n", "line 3: 1 cell where the header has 2"),
        ("rows.csv", "text,label\na,b,1\n", "line 2: 3 cells where the header has 2"),
        ("rows.tsv", "text\tlabel\na\t1\nb 0\n", "line 3: 1 cell where the header"),
        ("rows.csv", 'text,label\na,1\n"b,0\n', "line 3: not a CSV row"),
        ("rows.csv", 'text,label\na,1\n"b"c,0\n', "line 3: not a CSV row"),
        ("rows.csv", b"text,label\na,1\ncaf\xe9,0\n", "line 3: byte 0xe9 is not UTF-8"),
        ("rows.csv", "text\na\n".encode("utf-16"), "UTF-16, not UTF-8"),
        ("rows.jsonl", '{"a": 1}\n{"a": \n', "line 2: not JSON"),
        ("rows.jsonl", '{"a": 1}\n[1]\n', "line 2: expected one JSON object"),
        ("rows.jsonl", '{"a": 1, "a": 2}\n', "line 1: key 'a' stands twice"),
        ("rows.jsonl", "[" * 100_000 + "\n", "line 1: nested too deeply"),
        (
            "rows.jsonl",
            '{"a": 1}\n{"a": ' + "1" * 5_000 + "}\n",
            "line 2: a number has",
        ),
        ("rows.jsonl", r'{"a": ["bad \ud83d emoji"]}', r"line 1: \ud83d is half of a"),
        ("rows.jsonl", r'{"a": 1, "\uDE00": 2}', r"line 1: \ude00 is half of a"),
        ("rows.parquet", "x", ".csv, .tsv, .jsonl"),
        ("rows", "x", ".csv, .tsv, .jsonl"),
    ],
)
def test_a_bad_file_is_one_line_that_names_file_and_line(tmp_path, name, data, says):
    assert says in message_of(write(tmp_path, name, data))


def test_a_missing_file_and_a_directory_say_so(tmp_path, monkeypatch):
    assert "no such file" in message_of(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "is a directory" in message_of(tmp_path / "folder.csv")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="looked for it in"):
        sources.load_rows("absent.csv")


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=1, max_size=9
)


@hypothesis.given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_what_the_csv_module_writes_is_read_back(tmp_path, pairs):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["a", "b"])
        writer.writerows(pairs)
    rows = sources.load_rows(path)
    assert [(row["a"], row["b"]) for row in rows] == pairs
