"""Templates in promptsource's form, as its own `apply` renders them."""

import pytest

from tfew_jax.data import patterns, promptsource

QUESTION = "Is {{thing}} warm? ||| {{ answer_choices[label] }}"
ONLY_WARM = "{% if kind == 'warm' %}{{thing}}? ||| {{answer_choices[label]}}{% endif %}"


def template(text=QUESTION, choices="No ||| Yes", **options):
    return promptsource.Template(
        set_name="colours", index=3, name="is it", text=text, choices=choices, **options
    )


def parts(text, row, choices="No ||| Yes", **options):
    return template(text, choices).parts(row, **options)


def message_of(text, row, choices="No ||| Yes", **options):
    with pytest.raises(ValueError) as caught:
        template(text, choices).render(row, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("label", [1, True, "1"])
def test_a_row_becomes_input_target_choices_and_label(label):
    rendered = template().render({"thing": "red", "label": label})
    expected = promptsource.Rendered("Is red warm?", ("No", "Yes"), 1, "Yes")
    assert rendered == expected


def test_a_row_to_be_predicted_needs_no_label_and_shows_none():
    for row in ({"thing": "red"}, {"thing": "red", "label": 1}):
        rendered = template().render(row, with_label=False)
        assert rendered == promptsource.Rendered("Is red warm?", ("No", "Yes"), None)
    text = "{{thing}} is {{answer_choices[label]}} ||| {{thing}}"
    says = "the input itself shows the label"
    assert says in message_of(text, {"thing": "red"}, with_label=False)


def test_the_input_alone_is_the_input_of_the_whole():
    text = "{% set words = ['a', 'b', 'c'] %}{{words | choice}} {{thing}} ||| {{label}}"
    for thing in "pqrstuv":
        row = {"thing": thing, "label": 0}
        whole = template(text).render(row, seed=5)
        alone = template(text).render(row, with_label=False, seed=5)
        assert alone.inputs == whole.inputs


def test_a_template_without_choices_has_free_text_as_target():
    rendered = template("Name a colour ||| {{thing}}", None).render({"thing": "red"})
    assert rendered == promptsource.Rendered("Name a colour", (), None, "red")


@pytest.mark.parametrize(
    "text, row, says",
    [
        (ONLY_WARM, {"thing": "x", "kind": "cold", "label": 0}, "it gives no input"),
        (QUESTION, {"thing": "x", "label": -5}, "it gives no target"),
        ("{{thing}}", {"thing": "x"}, "it gives no target"),
        ("{{thing}} ||| a ||| b", {"thing": "x"}, "it gives 3 parts"),
        (
            QUESTION,
            {"thing": "x", "label": "warm"},
            "no target for the label 'warm' (most sets need its index there); it reads "
            "'label', 'thing'",
        ),
    ],
)
def test_a_template_need_not_apply_to_a_row(text, row, says):
    assert not template(text).applies(row)
    with pytest.raises(promptsource.NotApplicableError, match="template 3 of colours"):
        template(text).render(row)
    assert says in message_of(text, row)


def test_a_template_inside_a_condition_applies_where_that_holds():
    row = {"thing": "red", "kind": "warm", "label": 1}
    assert template(ONLY_WARM).applies(row)
    assert template(ONLY_WARM).applies(row, with_label=False)
    assert not template(ONLY_WARM).applies({**row, "kind": "x"}, with_label=False)


@pytest.mark.parametrize("text", [QUESTION, "{% if thing %}a{% endif %} ||| b"])
def test_a_missing_column_is_an_error_and_an_empty_one_is_not(text):
    row = {"other": 1, "label": 0}
    says = "column 'thing' is missing; the row's columns are 'other', 'label'"
    assert says in message_of(text, row)
    assert parts("{{thing}}? ||| b", {"thing": ""}) == ["?", "b"]
    assert parts("{{thing}} ||| b", {"thing": None}) == ["None", "b"]
    assert parts("{{thing.x}}! ||| b", {"thing": {}}) == ["!", "b"]
    assert parts('{{thing | default("c")}} ||| b', row) == ["c", "b"]
    provided = "{% if thing is defined %}a{% endif %}c ||| b"
    assert parts(provided, row) == ["c", "b"]


def test_printed_variables_are_cut_as_promptsource_cuts_them():
    long = {"thing": "x" * 3000, "other": "word " * 1000}
    assert parts("{{thing}} ||| b", long)[0] == "x" * 2045 + "..."
    assert parts("{{other}} ||| b", long)[0] == "word " * 408 + "word..."
    # Its filter binds to the last operand alone.
    assert len(parts("{{thing ~ thing}} ||| b", long)[0]) == 3000 + 2048
    assert len(parts("{{thing if 1 else ''}} ||| b", long)[0]) == 3000
    assert len(parts("{% for c in [thing] %}{{c}}{% endfor %}||| b", long)[0]) == 2048
    choices = template("a ||| b", "{{thing}} ||| b").answer_choices(long)
    assert choices == ("x" * 3000, "b")


def test_separators_inside_columns_do_not_split():
    row = {"thing": "a|||b", "list": ["c ||| d", "e"], "label": 0}
    text = "{{thing}}{{list[0]}} ||| {{answer_choices[label]}}"
    rendered = template(text, "{{list | join(' ||| ')}}").render(row)
    expected = ("a|||bc ||| d", ("c ||| d", "e"), 0, "c ||| d")
    assert rendered == promptsource.Rendered(*expected)


def test_the_label_decides_between_equal_choices():
    row = {"one": "same", "two": "same"}
    text = "{{one}} ||| {{two}}"
    for label, expected in ((1, 1), (0, 0), ("1", 1), (7, 0)):
        rendered = template(text, text).render({**row, "label": label})
        assert rendered.label == expected


def test_a_target_that_is_no_choice_has_no_label():
    assert template("a ||| {{thing}}").render({"thing": "x"}).label is None


def test_random_words_depend_on_row_and_seed_alone():
    text = "{{range(1000) | choice}} {{range(1000) | choice}} ||| b"
    rows = [{"thing": str(number), "label": 0} for number in range(20)]
    once = [parts(text, row, seed=1) for row in rows]
    assert once == [parts(text, row, seed=1) for row in rows]
    assert once == [parts(text, {**row, "label": 1}, seed=1) for row in rows]
    assert once != [parts(text, row, seed=2) for row in rows]
    assert len({words for words, _ in once}) > 15
    assert all(len(set(words.split())) == 2 for words, _ in once)


def test_promptsource_filters_are_there_and_lists_may_grow():
    row = {"words": ["b", "a", "b", "a", "c"], "empty": [], "thing": "x"}
    assert parts("{{words | most_frequent | join}} ||| b", row)[0] == "ba"
    assert parts("{{empty | most_frequent}} ||| b", row)[0] == "None"
    assert "x</span>" in parts("{{thing | highlight}} ||| b", row)[0]
    grow = (
        "{% set seen = [] %}{% for w in words %}{% if w not in seen %}{{w}}"
        "{{'' if seen.append(w) else ''}}{% endif %}{% endfor %} ||| {{seen | length}}"
    )
    assert parts(grow, row) == ["bac", "3"]
    shrink = "{{words.pop()}} ||| {{words | length}}"
    assert parts(shrink, row) == ["c", "4"]
    assert len(row["words"]) == 5


@pytest.mark.parametrize(
    "text, row, says",
    [
        ("{{thing.__class__}} ||| b", {"thing": "x"}, "unsafe expression"),
        ("{{''.__class__.__mro__}} ||| b", {}, "unsafe expression"),
        ("{{thing ||| b", {"thing": "x"}, "not a jinja2 template"),
        ("{{thing | nofilter}} ||| b", {"thing": "x"}, "No filter named 'nofilter'"),
        ("{{1 // 0}} ||| b", {"thing": "x"}, "an expression fails"),
        ("{{thing.x.y}} ||| b", {"thing": {}}, "no attribute 'x'"),
        ("{{answer_choices}} ||| b", {"answer_choices": "x"}, "'answer_choices' hides"),
    ],
)
def test_a_bad_template_or_row_is_one_line_that_names_the_template(text, row, says):
    message = message_of(text, row)
    assert says in message
    assert message.startswith("template 3 of colours, 'is it'")


def test_choices_that_do_not_depend_on_the_row_are_fixed():
    assert template().fixed_choices == ("No", "Yes")
    assert template(choices="{{thing}} ||| b").fixed_choices is None
    assert template(choices=None).fixed_choices is None


def test_own_templates_stay_strict():
    tree = patterns.parse("{{thing}}", name="own", truncate=True)
    pattern = patterns.Pattern(tree, name="own", truncate=True)
    with pytest.raises(patterns.TemplateError, match="is empty"):
        pattern.render({"thing": ""}, seed=0)
