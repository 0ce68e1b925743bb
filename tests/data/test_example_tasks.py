"""The embedded example tasks keep what their README files promise."""

import collections
import csv
import itertools
import json
import pathlib
import re
import unicodedata

import pytest

_TASKS = pathlib.Path(__file__).resolve().parents[2] / "tfew_jax" / "assets" / "tasks"
_HALVES = ("train", "test")
_SHINGLE = 5
_MAX_SHINGLE_JACCARD = 0.5
_MAX_TOKEN_OVERLAP = 0.7
_FEW_WORDS = 6


@pytest.fixture(params=["customer_intent", "product_reviews"])
def folder(request: pytest.FixtureRequest) -> pathlib.Path:
    return _TASKS / request.param


def _spec(folder: pathlib.Path) -> dict:
    return json.loads((folder / "task.json").read_text(encoding="utf-8"))


def _read(folder: pathlib.Path, half: str) -> list[dict[str, str]]:
    with (folder / f"{half}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def _rows(folder: pathlib.Path) -> list[dict[str, str]]:
    return [row for half in _HALVES for row in _read(folder, half)]


def _words(text: str) -> list[str]:
    """Words in lower case, without accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.lower())
    return re.findall(r"[a-z0-9]+", plain.replace("\u2019", "").replace("'", ""))


def _shingles(text: str) -> set[str]:
    normal = " ".join(_words(text))
    return {normal[i : i + _SHINGLE] for i in range(max(1, len(normal) - _SHINGLE + 1))}


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def _token_overlap(a: set[str], b: set[str]) -> float:
    """Share of the shorter text's words that the other has, too.

    Of a very short text ("It works well.") nearly every longer one has all words, so
    there the share is that of the words of both.
    """
    shorter = min(len(a), len(b))
    return len(a & b) / shorter if shorter >= _FEW_WORDS else _jaccard(a, b)


def _near_duplicates(first: list[str], second: list[str]) -> list[tuple[str, str]]:
    """Pairs, one text of each list, that say nearly the same."""
    a_side = [(text, _shingles(text), set(_words(text))) for text in first]
    b_side = [(text, _shingles(text), set(_words(text))) for text in second]
    return [
        (a, b)
        for (a, a_shingles, a_words), (b, b_shingles, b_words) in itertools.product(
            a_side, b_side
        )
        if _jaccard(a_shingles, b_shingles) > _MAX_SHINGLE_JACCARD
        or _token_overlap(a_words, b_words) > _MAX_TOKEN_OVERLAP
    ]


def test_the_tested_tasks_are_all_embedded_tasks():
    found = {path.parent.name for path in _TASKS.glob("*/task.json")}
    assert found == {"customer_intent", "product_reviews"}


def test_a_task_names_its_folder_templates_choices_and_licence(folder: pathlib.Path):
    spec = _spec(folder)
    assert spec["name"] == folder.name
    assert spec["description"]
    assert spec["licence"] == "Apache-2.0 (written for this project)"
    assert len(set(spec["choices"])) == len(spec["choices"]) >= 2
    assert len(set(spec["templates"])) == len(spec["templates"]) >= 3
    for template in spec["templates"]:
        inputs, target = template.split(" ||| ")
        assert "{{text}}" in inputs
        assert target == "{{answer_choices[label]}}"


def test_a_task_has_500_rows_in_two_halves_of_250(folder: pathlib.Path):
    assert [len(_read(folder, half)) for half in _HALVES] == [250, 250]


def test_every_row_has_exactly_the_columns_id_text_and_label(folder: pathlib.Path):
    columns = ["id", "text", _spec(folder)["label_column"]]
    for row in _rows(folder):
        assert list(row) == columns
        assert all(isinstance(value, str) for value in row.values()), row


def test_ids_are_unique_over_both_halves(folder: pathlib.Path):
    counts = collections.Counter(row["id"] for row in _rows(folder))
    assert [name for name, count in counts.items() if count > 1] == []
    assert "" not in counts


def test_labels_are_choices_and_each_half_has_every_class(folder: pathlib.Path):
    spec = _spec(folder)
    for half in _HALVES:
        labels = {row[spec["label_column"]] for row in _read(folder, half)}
        assert labels == set(spec["choices"])


def test_the_halves_are_stratified_to_within_one_row(folder: pathlib.Path):
    spec = _spec(folder)
    train, test = (
        collections.Counter(row[spec["label_column"]] for row in _read(folder, half))
        for half in _HALVES
    )
    uneven = {c: (train[c], test[c]) for c in spec["choices"]}
    assert [c for c, (a, b) in uneven.items() if abs(a - b) > 1] == [], uneven


def test_files_are_utf8_with_unix_line_ends_and_no_byte_order_mark(
    folder: pathlib.Path,
):
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        assert not content.startswith(b"\xef\xbb\xbf"), path
        assert b"\r" not in content, path
        assert content.endswith(b"\n"), path
        content.decode("utf-8", errors="strict")


def test_texts_are_clean(folder: pathlib.Path):
    for row in _rows(folder):
        text = row["text"]
        assert text
        assert text == text.strip(), row["id"]
        assert text == unicodedata.normalize("NFC", text), row["id"]
        assert "  " not in text, row["id"]
        kinds = {unicodedata.category(character) for character in text}
        assert not kinds & {"Cc", "Cf", "Cn", "Co", "Cs"}, row["id"]
        assert "\ufffd" not in text, row["id"]
        assert not re.search("\u00c3.|\u00e2\u20ac", text), row["id"]  # decoded twice


def test_no_text_stands_twice_in_a_task(folder: pathlib.Path):
    counts = collections.Counter(" ".join(_words(row["text"])) for row in _rows(folder))
    assert [text for text, count in counts.items() if count > 1] == []


def test_no_row_of_one_half_is_nearly_a_row_of_the_other(folder: pathlib.Path):
    train, test = ([row["text"] for row in _read(folder, half)] for half in _HALVES)
    assert _near_duplicates(train, test) == []


def test_the_measure_finds_a_changed_word_and_a_shortened_copy():
    original = "The kettle leaks from the base, so please put the price on my card."
    changed = "The kettle leaks from the lid, so please put the price on my card!"
    shortened = "Please put the price on my card."
    brief = "Put the price there."
    other = "Whenever I try to print, the printer hums and goes back to sleep."
    pairs = _near_duplicates([original], [changed, shortened, brief, other])
    assert pairs == [(original, changed), (original, shortened)]
    assert _near_duplicates([brief], ["Put the price there!"]) != []
