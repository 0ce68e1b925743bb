"""promptsource 0.2.3 itself, if it is in the cache or can be had: T-Few's indices,
and the texts that its own `apply` gives.

The digests are those of promptsource's `Template.apply` and `get_answer_choices_list`
on the first 20 rows of a set, over the templates of the original task that draw no
words: SHA-256 of json.dumps([parts, choices]), template by template.
"""

import hashlib
import json
import os

import pytest

from tfew_jax.data import promptsource_sets

# Set: number of templates, indices of those of the original task.
INDICES = {
    "super_glue/copa": (12, range(12)),
    "super_glue/cb": (15, range(15)),
    "super_glue/rte": (10, range(10)),
    "super_glue/wic": (10, range(10)),
    "super_glue/wsc.fixed": (10, range(10)),
    "anli": (15, range(15)),
    "hellaswag": (11, (3, 4, 8, 10)),
    "winogrande/winogrande_xl": (6, (0, 2, 3, 4, 5)),
    "story_cloze/2016": (6, (0, 1, 3, 4, 5)),
}
# Set: its rows in ../shared, the digest of their texts.
DIGESTS = {
    "super_glue/cb": ("CB", "362115d874240171"),
    "super_glue/copa": ("COPA", "7f42d7cce1d6d303"),
    "super_glue/rte": ("RTE", "97f943c9ffe6c6d2"),
    "super_glue/wic": ("WiC", "a8531098cd6273ec"),
    "super_glue/wsc.fixed": ("WSC", "9bbdb3efb0c0137f"),
    "hellaswag": ("h-swag", "c765b759a29d125a"),
    "winogrande/winogrande_xl": ("winogrande", "40aaea15de718925"),
    "anli": ("anli-r1", "3de66874d86844dc"),
    "story_cloze/2016": ("storycloze", "92d93cc2eae898b2"),
}
LABELS = {
    "CB": ["entailment", "contradiction", "neutral"],
    "RTE": ["entailment", "not_entailment"],
}


def rows_of(shared, name):
    """Dev rows of SuperGLUE in the dataset's columns, or T-Few's training rows."""
    folder = shared / "data" / "superglue_32shot_and_dev" / name
    if not folder.is_dir():
        files = sorted((shared / "data" / "tfew_splits" / name).rglob("*.jsonl"))
        texts = [file.read_text(encoding="utf-8") for file in files]
        return [json.loads(line) for text in texts for line in text.split("\n") if line]
    rows = []
    for line in (folder / "val.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row |= row.get("target", {})
        order = LABELS.get(name)
        row["label"] = order.index(row["label"]) if order else int(row["label"])
        rows.append(row)
    return rows


def test_the_archive_holds_all_sets(promptsource_directory):
    assert len(promptsource_sets.names(promptsource_directory)) == 279
    files = [path for path in promptsource_directory.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"templates.yaml"}
    assert len(files) == 279
    assert (
        os.path.getsize(promptsource_directory / "banking77" / "templates.yaml")
        == 16_722
    )


def test_every_template_is_read_and_names_its_choices(promptsource_directory):
    found = [
        t
        for s in promptsource_sets.load_all(promptsource_directory)
        for t in s.templates
    ]
    assert len(found) == 2085
    assert sum(template.choices is None for template in found) == 940


@pytest.mark.parametrize("name", INDICES)
def test_the_templates_of_the_original_task_have_tfews_indices(
    promptsource_directory, name
):
    found = promptsource_sets.load(name, promptsource_directory)
    number, indices = INDICES[name]
    assert len(found.templates) == number
    assert [t.index for t in found.original_task] == list(indices)


@pytest.mark.parametrize("name", DIGESTS)
def test_rows_render_to_promptsources_own_texts(promptsource_directory, shared, name):
    task, expected = DIGESTS[name]
    rows = rows_of(shared, task)[:20]
    digest = hashlib.sha256()
    for template in promptsource_sets.load(name, promptsource_directory).original_task:
        if "| choice" in template.text:
            continue
        for row in rows:
            choices = list(template.answer_choices(row))
            digest.update(json.dumps([template.parts(row), choices]).encode())
    assert digest.hexdigest()[:16] == expected


@pytest.mark.parametrize(
    "name, number", {"cb": 56, "rte": 40, "wic": 40, "wsc.fixed": 104}.items()
)
def test_dev_rows_have_an_input_and_their_label(
    promptsource_directory, shared, name, number
):
    rows = rows_of(shared, {"wsc.fixed": "WSC", "wic": "WiC"}.get(name, name.upper()))
    rows = rows[:number]
    for template in promptsource_sets.load(
        f"super_glue/{name}", promptsource_directory
    ).templates:
        rendered = [template.render(row) for row in rows]
        assert len(rendered) == number
        assert [r.label for r in rendered] == [row["label"] for row in rows]
        assert len({r.choices for r in rendered}) == 1


def test_copas_last_templates_render_for_some_rows_only(promptsource_directory, shared):
    rows = rows_of(shared, "COPA")
    found = promptsource_sets.load("super_glue/copa", promptsource_directory)
    counts = [sum(map(t.applies, rows)) for t in found.templates[7:]]
    assert counts == [100, 48, 48, 52, 52]


def test_hellaswag_draws_the_words_of_template_4(promptsource_directory, shared):
    rows = rows_of(shared, "h-swag")[:20]
    template = promptsource_sets.load("hellaswag", promptsource_directory).at(4)
    once = [template.render(row, seed=7) for row in rows]
    assert once == [template.render(row, seed=7) for row in rows]
    assert len({rendered.inputs.split("\n")[0] for rendered in once}) == 4
    assert [rendered.label for rendered in once] == [int(row["label"]) for row in rows]
