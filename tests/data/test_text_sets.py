"""SQuAD's development file by article, and the sets of SQuADShifts."""

import gzip
import json

import pytest

from tfew_jax.data import text_rows


def articles(count):
    return [
        {
            "title": f"T{n:02}",
            "paragraphs": [
                {
                    "context": f"It is {n}.",
                    "qas": [
                        {
                            "id": f"{n}-{k}",
                            "question": "What?",
                            "answers": [{"text": str(n), "answer_start": 6}],
                        }
                        for k in range(2)
                    ],
                }
            ],
        }
        for n in range(count)
    ]


def write(path, listed):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(json.dumps({"data": listed}).encode()))


def titles(data_dir, split):
    rows = text_rows.load("squad/articles", split, data_dir)
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["title"] for row in rows}, len(rows)


def test_an_article_is_trained_on_or_validated_whatever_their_order(tmp_path):
    write(tmp_path / "squad" / "dev-v1.1.json.gz", articles(9))
    train, num_train = titles(tmp_path, "train")
    held_out, num_held_out = titles(tmp_path, "validation")
    assert (len(train), num_train, len(held_out), num_held_out) == (6, 12, 3, 6)
    assert not train & held_out
    # Numpy's order of nine titles by the seed 0.
    assert held_out == {"T05", "T00", "T03"}
    reversed_dir = tmp_path / "other"
    write(reversed_dir / "squaddev_v1.1.json.gz", articles(9)[::-1])
    assert titles(reversed_dir, "train") == (train, 12)


def test_shifted_questions_have_a_validation_split_only(tmp_path):
    write(tmp_path / "squad" / "new_wiki_v1.0.json.gz", articles(2))
    rows = text_rows.load("squad/new_wiki", "validation", tmp_path)
    assert [row["answers"] for row in rows] == [["0"], ["0"], ["1"], ["1"]]
    with pytest.raises(ValueError, match=r"squad/new_wiki has no split 'train'"):
        text_rows.load("squad/new_wiki", "train", tmp_path)


def test_a_file_that_holds_no_articles_is_refused(tmp_path):
    write(tmp_path / "squad" / "dev-v1.1.json.gz", ["no article"])
    with pytest.raises(ValueError, match="not of SQuAD; expected an object with"):
        text_rows.load("squad/articles", "train", tmp_path)


def test_the_copy_at_hand_has_the_rows_it_is_said_to_have(shared):
    if not (shared / "data" / "squad").is_dir():
        pytest.skip("needs SQuAD's development file in ../shared/data")
    sizes = text_rows.sizes("squad/articles")
    for split in ("train", "validation"):
        rows = text_rows.load("squad/articles", split, shared / "data")
        assert len(rows) == sizes[split]
