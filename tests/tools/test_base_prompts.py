"""The base is measured with prompts and answers that it was not trained on."""

import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

from tfew_jax.data import promptsource_sets, tasks

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

from base_model import prompts

WORDINGS = [
    wording
    for name in (
        *("OPTIONS", "SENTIMENT", "RECOMMEND", "TOPIC", "DEFINITION", "TITLE"),
        *("PAIR", "COMPARATIVE", "QUESTION"),
    )
    for wording in getattr(prompts, name)
]


def bare(text: str) -> str:
    """A wording without its texts, case, signs and line breaks."""
    text = re.sub(r"\{\{.*?\}\}|\{\}", " _ ", text.partition("|||")[0])
    return " ".join(re.findall(r"\w+", text.casefold()))


def embedded() -> Iterator[tuple[str, str]]:
    for name in tasks.names():
        for template in tasks.get(name).spec.templates:
            yield name, template


@pytest.mark.parametrize(("name", "template"), [*embedded()])
def test_no_prompt_of_an_embedded_task_is_a_training_wording(name, template):
    trained = {bare(wording) for wording in WORDINGS}
    assert bare(template) not in trained
    assert bare("Review: {} Tone?") == "review _ tone"  # what is compared


def test_no_prompt_of_a_public_set_is_a_training_wording(promptsource_directory):
    trained = {bare(wording) for wording in WORDINGS}
    for name in ("glue/sst2", "trec", "ag_news", "super_glue/rte", "super_glue/cb"):
        found = promptsource_sets.load(name, promptsource_directory).templates
        assert not trained & {bare(template.text) for template in found}


def test_the_words_of_the_product_reviews_are_no_training_answers():
    answers = {word.casefold() for pair in prompts.SENTIMENT_WORDS for word in pair}
    choices = " ".join(tasks.get("product_reviews").spec.choices)
    words = {word.casefold() for word in re.findall(r"\w+", choices)}
    assert words == {"bad", "good"}
    assert not words & answers
