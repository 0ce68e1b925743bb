"""Files of templates, read without running what they name."""

import pytest
from one_line import message_of

from tfew_jax.data import promptsource_archive, promptsource_sets
from tfew_jax.data.promptsource import Metadata

ONE = """\
  {key}: !Template
    answer_choices: {choices}
    id: {key}
    jinja: '{{{{thing}}}}? ||| {{{{answer_choices[label]}}}}'
    metadata: {metadata}
    name: {name}
    reference: a test
    task_template: true
"""
METADATA = """&{key} !TemplateMetadata
      choices_in_prompt: false
      metrics: [Accuracy, Other]
      original_task: true"""
HEAD = "dataset: colours\nsubset: warm\ntemplates:\n"


def one(key, name, *, choices="No ||| Yes", metadata=None):
    metadata = METADATA.format(key=key) if metadata is None else metadata
    return ONE.format(key=key, name=name, choices=choices, metadata=metadata)


COLOURS = HEAD + one("k1", "b") + one("k2", "a", choices="null", metadata="*k1")
COLOURS += one("k3", "…c", metadata="!TemplateMetadata {original_task: false}")


def write(folder, text, name="colours/warm"):
    path = folder / name / "templates.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_templates_are_indexed_by_the_order_of_their_names(tmp_path):
    write(tmp_path, COLOURS)
    colours = promptsource_sets.load("colours/warm", tmp_path)
    named = [(t.index, t.name, t.choices) for t in colours.templates]
    assert named == [(0, "a", None), (1, "b", "No ||| Yes"), (2, "…c", "No ||| Yes")]
    assert [t.index for t in colours.original_task] == [0, 1]
    assert str(colours.at(2)) == "template 2 of colours/warm, '…c'"
    assert colours.named("b") is colours.at(1)
    assert colours.at(1).metadata == Metadata(True, False, ("Accuracy", "Other"), ())
    assert colours.at(2).metadata == Metadata(False, None, (), ())
    assert colours.at(0).reference == "a test"


def test_a_loaded_template_renders(tmp_path):
    write(tmp_path, COLOURS)
    template = promptsource_sets.load("colours/warm", tmp_path).named("b")
    assert template.render({"thing": "Red", "label": 1}).target == "Yes"


def test_languages_of_later_versions_are_read(tmp_path):
    metadata = "!TemplateMetadata {languages: [en, de]}"
    path = write(tmp_path, HEAD + one("k", "a", metadata=metadata))
    assert promptsource_sets.load_file(path).at(0).metadata.languages == ("en", "de")


def test_a_file_says_its_name(tmp_path):
    path = write(tmp_path, COLOURS, "elsewhere")
    assert promptsource_sets.load_file(path).name == "colours/warm"
    path = write(tmp_path, COLOURS.replace("subset: warm\n", ""), "elsewhere")
    assert promptsource_sets.load_file(path).name == "colours"


def test_sets_are_all_folders_with_templates(tmp_path):
    for name in ("super_glue/cb", "anli", "super_glue/wsc.fixed"):
        write(tmp_path, COLOURS, name)
    (tmp_path / "empty").mkdir()
    names = ["anli", "super_glue/cb", "super_glue/wsc.fixed"]
    assert promptsource_sets.names(tmp_path) == names
    assert [found.name for found in promptsource_sets.load_all(tmp_path)] == names


@pytest.mark.parametrize(
    "name, near",
    [
        ("super_glue/cp", "'super_glue/cb', 'super_glue/wsc.fixed'"),
        ("super_glue", "'super_glue/cb', 'super_glue/wsc.fixed'"),
        ("wsc", "'super_glue/wsc.fixed'"),
        ("anlii", "'anli'"),
    ],
)
def test_a_missing_set_is_an_error_that_lists_near_names(tmp_path, name, near):
    for known in ("super_glue/cb", "anli", "super_glue/wsc.fixed"):
        write(tmp_path, COLOURS, known)
    message = message_of(promptsource_sets.load, name, tmp_path)
    assert message.startswith(f"promptsource has no set '{name}'; ")
    assert f"names like it: {near}; " in message
    assert "no name is like it" in message_of(promptsource_sets.load, "zz", tmp_path)


def test_a_set_outside_the_folder_is_missing(tmp_path):
    write(tmp_path, COLOURS, "outside")
    write(tmp_path / "inside", COLOURS)
    says = "has no set '../outside'"
    assert says in message_of(promptsource_sets.load, "../outside", tmp_path / "inside")


def test_an_unknown_template_is_an_error_that_lists_names(tmp_path):
    write(tmp_path, COLOURS)
    colours = promptsource_sets.load("colours/warm", tmp_path)
    says = "colours/warm has no template 'zz'; its templates are 'a', 'b', '…c'"
    assert message_of(colours.named, "zz") == says
    assert message_of(colours.named, "…cc").endswith("its templates are '…c'")
    for index in (-1, 3):
        says = f"no template {index}; its 3 templates are counted from 0 to 2"
        assert says in message_of(colours.at, index)


def test_without_templates_the_message_says_how_to_fetch_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TFEW_JAX_CACHE", str(tmp_path))
    assert "`tfew templates fetch`" in message_of(promptsource_sets.names)
    assert f"{tmp_path}: holds no SET" in message_of(promptsource_sets.names, tmp_path)


@pytest.mark.parametrize(
    "text, says",
    [
        ("templates: {k: !!python/object/apply:os.system ['touch {path}']}", "tag:"),
        ("templates: {k: !!python/name:os.system }", "python/name:os.system"),
        ("templates: {k: !Evil {name: a}}", "'!Evil'"),
        ("templates: {k: !Template [a, b]}", "expected a mapping"),
        ("templates: {k: !Template {name: a}}", "the jinja of a !Template is None"),
        ("templates: {k: !Template {name: 3, jinja: a}}", "line 1: the name of a"),
        (
            "templates: {k: !Template {name: a, jinja: b, metadata: {x: 1}}}",
            "no !TemplateMetadata",
        ),
        ("templates: {k: !TemplateMetadata {metrics: 5}}", "not iterable"),
        ("templates: {k: {name: a, jinja: b}}", "values are !Template"),
        ("templates: {}", "values are !Template"),
        ("templates: [1]", "values are !Template"),
        ("- 1", "expected a mapping 'templates'"),
        ("", "expected a mapping 'templates'"),
        ("templates: {k: [", "not a file of templates"),
        (HEAD + one("k1", "a") + one("k2", "a"), "the template 'a' stands twice"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, text, says):
    touched = tmp_path / "touched"
    path = write(tmp_path, text.replace("{path}", str(touched)))
    message = message_of(promptsource_sets.load_file, path)
    assert message.startswith(f"{path}: ")
    assert says in message
    assert not touched.exists()


def test_a_missing_file_and_bytes_that_are_no_text_are_errors(tmp_path):
    path = tmp_path / "templates.yaml"
    assert "No such file" in message_of(promptsource_sets.load_file, path)
    path.write_bytes(b"\xff\xfe\xfa\x00")
    assert "not a file of templates" in message_of(promptsource_sets.load_file, path)


def test_the_cache_is_the_default_place(make_archive):
    path = make_archive({"promptsource/templates/colours/warm/templates.yaml": COLOURS})
    promptsource_archive.fetch(path)
    assert promptsource_sets.names() == ["colours/warm"]
    assert len(promptsource_sets.load("colours/warm").templates) == 3
