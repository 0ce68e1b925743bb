"""A toy base, rows about films, and a result of each protocol, made once."""

import json
import pathlib
import random
import sys

import pytest

from tfew_jax import experiment

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))  # bank_of_tasks

TEMPLATE = "Review: {{text}} Sentiment? ||| {{answer_choices[label]}}"
CHOICES = "bad ||| good"
_WORDS = {0: "awful dull plot film".split(), 1: "lovely great plot film".split()}


def make_rows(count, seed):
    generator = random.Random(seed)
    return [
        {
            "text": " ".join(
                generator.choices(_WORDS[i % 2], k=generator.randint(2, 6))
            ),
            "label": i % 2,
        }
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def rows():
    return make_rows(24, seed=0)


@pytest.fixture(scope="session")
def test_rows():
    return make_rows(10, seed=1)


@pytest.fixture(scope="session")
def base(base_directory):
    return experiment.load_base(base_directory)


@pytest.fixture(scope="session")
def dropping(base_directory):
    """The toy base with dropout, where what is random in a step matters."""
    return experiment.load_base(base_directory, dropout_rate=0.1)


@pytest.fixture(scope="session")
def tested(base, rows, test_rows, tmp_path_factory):
    """Two seeds of 16 rows each, scored on test rows, and rows to predict."""
    return experiment.fewshot(
        base,
        rows,
        template=TEMPLATE,
        choices=CHOICES,
        test_rows=test_rows,
        predict_rows=[{"text": row["text"]} for row in make_rows(5, seed=2)],
        num_shots=16,
        seeds=(3, 1),
        num_steps=4,
        out=tmp_path_factory.mktemp("tested"),
        quiet=True,
    )


@pytest.fixture(scope="session")
def validated(base, rows, tmp_path_factory):
    """Three folds and an adapter of all rows."""
    return experiment.fewshot(
        base,
        rows,
        template=TEMPLATE,
        choices=CHOICES,
        num_folds=3,
        num_steps=4,
        out=tmp_path_factory.mktemp("validated"),
        quiet=True,
    )


_ENTAILMENT = ("entailment", "not_entailment")
_THREE = ("entailment", "contradiction", "neutral")


def _sentences(n):
    return {"premise": f"film {n} good", "hypothesis": "good film", "idx": n}


def _write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="session")
def text_data(tmp_path_factory):
    """RTE, CB and SQuAD in their official form, of five to eight rows each."""
    top = tmp_path_factory.mktemp("data")
    for name, labels in (("RTE", _ENTAILMENT), ("CB", _THREE)):
        for file, count in (("train", 8), ("val", 5), ("test", 3)):
            rows = [
                {**_sentences(n), "label": labels[n % len(labels)]}
                for n in range(count)
            ]
            if file == "test":
                rows = [{k: v for k, v in row.items() if k != "label"} for row in rows]
            _write(top / name / f"{file}.jsonl", rows)
    questions = [
        {"id": str(n), "question": f"film {n}", "answers": [{"text": "good"}]}
        for n in range(8)
    ]
    paragraph = {"context": "good", "qas": questions}
    article = {"title": "film", "paragraphs": [paragraph]}
    for file in ("train", "dev"):
        _write(top / "squad" / f"{file}-v1.1.json", [{"data": [article]}])
    return top
