"""The base is measured with prompts and answers that it was not trained on."""

import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

from tfew_jax.data import tasks

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import real_data
from base_model import prompts

WORDINGS = [
    wording
    for name in (
        *("OPTIONS", "SENTIMENT", "RECOMMEND", "TOPIC", "DEFINITION", "TITLE"),
        *("PAIR", "COMPARATIVE"),
    )
    for wording in getattr(prompts, name)
]


def bare(text: str) -> str:
    """A wording without its texts, case, signs and line breaks."""
    text = re.sub(r"\{\{.*?\}\}|\{\}", " _ ", text.partition("|||")[0])
    return " ".join(re.findall(r"\w+", text.casefold()))


def evaluated() -> Iterator[tuple[str, str]]:
    for name in tasks.names():
        for template in tasks.get(name).spec.templates:
            yield name, template
    for name, task in real_data.TASKS.items():
        yield name, task["template"]


@pytest.mark.parametrize(("name", "template"), [*evaluated()])
def test_no_evaluated_prompt_is_a_training_wording(name, template):
    trained = {bare(wording) for wording in WORDINGS}
    assert bare(template) not in trained
    assert bare("Review: {} Tone?") == "review _ tone"  # what is compared


def test_the_words_of_evaluated_sentiment_tasks_are_no_training_answers():
    answers = {word.casefold() for pair in prompts.SENTIMENT_WORDS for word in pair}
    for choices in (
        " ".join(tasks.get("product_reviews").spec.choices),
        real_data.TASKS["sst2"]["choices"],
    ):
        words = {word.strip().casefold() for word in re.findall(r"\w+", choices)}
        assert words == {"bad", "good"}
        assert not words & answers
