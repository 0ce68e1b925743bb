"""Made-up rows of all held-out sets in the form of their official files."""

import csv
import json
import pathlib

from tfew_jax.data import benchmarks, mirrors

NUM_ROWS = 5
STORY = "cloze_test_{0}__spring2016 - cloze_test_ALL_{0}.csv"
PUNCTUATION = (".", "!", "?", '."', ".")


def nli(n: int) -> dict:
    return {"premise": f"It rained {n} days.", "hypothesis": f"Day {n} was wét."}


def official_row(name: str, n: int) -> dict:
    """Row n of a set in the form of its official file."""
    if name == "copa":
        texts = {"premise": f"P{n}.", "choice1": "A.", "choice2": f"B{n}."}
        return {**texts, "question": "effect", "label": n % 2, "idx": n}
    if name == "h-swag":
        start, follows = f"A man throws {n}. He stops.", f"he {n}" if n % 2 else ""
        return {
            "ind": n,
            "activity_label": "Archery",
            "ctx_a": start,
            "ctx_b": follows,
            "ctx": f"{start} {follows}".strip(),
            "endings": [f"sat {n}.", "ran.", "flew.", "sang."],
            "source_id": f"{'activitynet' if n % 2 else 'wikihow'}~v_{n}",
            "split": "train",
            "split_type": ("indomain", "zeroshot")[n // 2 % 2],
            "label": n % 4,
        }
    if name == "storycloze":
        sentences = [f"Ann {n} went {k}{PUNCTUATION[n]}" for k in range(1, 5)]
        return {
            "InputStoryid": f"s-{n}",
            **{f"InputSentence{k}": text for k, text in enumerate(sentences, 1)},
            "RandomFifthSentenceQuiz1": f"Wrong {n}.",
            "RandomFifthSentenceQuiz2": "Right, and happy.",
            "AnswerRightEnding": str(n % 2 + 1),
        }
    if name == "winogrande":
        texts = {"sentence": f"The _ won {n}.", "option1": "a", "option2": f"b{n}"}
        return {"qID": f"q{n}", **texts, "answer": str(n % 2 + 1)}
    if name == "wsc":
        target = {
            "span1_index": 3,
            "span1_text": "The lake.",  # "the lake" in the text
            "span2_index": 6,
            "span2_text": "it",
        }
        text = f"{n} ducks on the lake said it was cold."
        return {"text": text, "target": target, "idx": n, "label": n % 2 == 0}
    if name == "wic":
        texts = {"word": "run", "sentence1": f"A run {n}.", "sentence2": "I run."}
        spans = {"start1": 2, "start2": n, "end1": 5, "end2": n + 3}
        return {**texts, **spans, "idx": n, "label": n % 2 == 1, "version": 1.1}
    if name == "rte":
        label = ("entailment", "not_entailment")[n % 2]
        return {**nli(n), "label": label, "idx": n}
    if name == "cb":
        label = ("entailment", "contradiction", "neutral")[n % 3]
        return {**nli(n), "label": label, "idx": n}
    if name == "boolq":
        texts = {"question": f"is it {n}", "passage": f"It is {n}."}
        return {**texts, "idx": n, "label": n % 2 == 1}
    texts = {"uid": f"u{n}", "context": f"It rained {n}.", "hypothesis": f"Wet {n}."}
    return {**texts, "label": "enc"[n % 3], "reason": f"why {n}"}


def write_file(path: pathlib.Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def write_official(folder: pathlib.Path) -> pathlib.Path:
    """A data directory with the official files of all sets, and what TFDS wants."""
    for name in benchmarks.names():
        rows = [official_row(name, n) for n in range(NUM_ROWS)]
        for split in benchmarks.get(name).splits.values():
            write_file(folder / split.paths[0], rows)
        if mirrors.MIRRORS[name].sorts:  # the labels of test are hidden
            path = benchmarks.get(name).splits["test"].paths[0]
            hidden = [{k: v for k, v in row.items() if k != "label"} for row in rows]
            write_file(folder / path, hidden)
    (folder / "anli_v0.1").symlink_to(folder / "anli_v1.0")
    hidden = [official_row("h-swag", n) for n in range(NUM_ROWS)]
    write_file(folder / "hellaswag/hellaswag_test.jsonl", hidden)
    rows = [official_row("winogrande", n) for n in range(NUM_ROWS)]
    for part in ("train_xs", "train_s", "train_m", "train_l", "test"):
        write_file(folder / f"winogrande_1.1/{part}.jsonl", rows)
    for part in ("val", "test"):
        source = folder / "storycloze" / STORY.format(part)
        (folder / f"cloze_test_{part}__spring2016.csv").write_bytes(source.read_bytes())
    return folder
