import hypothesis
import pytest
from hypothesis import strategies as st

from tfew_jax.data import patterns, templates

REVIEW = "Review: {{text}} Sentiment? ||| {{answer_choices[label]}}"
NESTED = (
    "{% if kind == 'cause' %}{{text}} because ||| {{answer_choices[label]}}"
    "{% else %}{{text}} so ||| {{answer_choices[label]}}{% endif %}"
)


def render(text, row, choices="bad ||| good", **options):
    with_label = options.pop("with_label", True)
    template = templates.Template(text, choices, **options)
    return template.render(row, with_label=with_label)


def message_of(text, row, choices="bad ||| good", **options):
    with pytest.raises(ValueError) as caught:
        render(text, row, choices, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("cell", [1, "1", "good", "Good "])
def test_a_row_becomes_input_choices_and_label(cell):
    assert render(REVIEW, {"text": "fine", "label": cell}) == templates.Rendered(
        "Review: fine Sentiment?", ("bad", "good"), 1
    )


def test_a_template_without_separator_is_the_input():
    rendered = render(" Is {{text}} good? ", {"text": "it", "label": "0"})
    assert rendered == templates.Rendered("Is it good?", ("bad", "good"), 0)


def test_every_row_may_bring_its_own_choices():
    row = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "label": 1}
    rendered = render("{{premise}}", row, "{{choice1}} ||| {{choice2}}")
    assert rendered.choices == ("Wet.", "Dry.")
    listed = render(
        "{{text}}",
        {"text": "x", "endings": ["a", "b", "c"], "label": 2},
        '{{endings | join(" ||| ")}}',
    )
    assert (listed.choices, listed.label) == (("a", "b", "c"), 2)


def test_separators_inside_columns_do_not_split():
    row = {"text": "a ||| b", "other": "c|||d", "label": 1}
    rendered = render("{{text}} ||| {{other}}", row, "bad ||| {{other}}")
    assert rendered == templates.Rendered("a ||| b", ("bad", "c|||d"), 1)


@pytest.mark.parametrize("text", [REVIEW, NESTED, "{{text}}"])
@pytest.mark.parametrize("label", [{}, {"label": ""}, {"label": None}, {"label": -1}])
def test_a_row_without_label_renders_to_the_same_input(text, label):
    row = {"text": "fine", "kind": "cause"}
    unlabelled = render(text, {**row, **label})
    assert unlabelled.label is None
    assert unlabelled.inputs == render(text, {**row, "label": 1}).inputs


def test_labels_are_left_alone_when_not_wanted():
    row = {"text": "fine", "label": "whatever"}
    assert render(REVIEW, row, with_label=False).label is None
    assert "'whatever' is none of the choices" in message_of(REVIEW, row)


def test_the_label_column_may_have_any_name():
    row = {"text": "fine", "Gold": "good"}
    for target in ("{{answer_choices[label]}}", "{{answer_choices[Gold]}}", "{{Gold}}"):
        rendered = render(f"{{{{text}}}} ||| {target}", row, label_column="Gold")
        assert rendered.label == 1
    assert render("{{text}}", row, label_column="Gold").label == 1


def test_another_column_named_label_stays_a_column():
    row = {"text": "fine", "label": "on the box", "gold": 0}
    rendered = render("{{text}}, {{label}}", row, label_column="gold")
    assert rendered == templates.Rendered("fine, on the box", ("bad", "good"), 0)


def test_a_target_gives_the_label_where_no_column_does():
    text = "{{text}} ||| {{answer}}"
    assert render(text, {"text": "fine", "answer": "good"}).label == 1
    assert render(text, {"text": "fine", "answer": ""}).label is None
    assert render(text, {"text": "fine"}).label is None
    assert render(text, {"text": "f", "answer": "x"}, with_label=False).label is None
    assert "renders to 'so-so', which is none of the choices 'bad', 'good'" in (
        message_of(text, {"text": "fine", "answer": "so-so"})
    )


def test_a_target_that_contradicts_the_label_is_an_error():
    text = "{{text}} ||| {{ ['good', 'bad'][label] }}"
    message = message_of(text, {"text": "fine", "label": 1})
    assert "renders to 'bad', but column 'label' means choice 1, 'good'" in message


@pytest.mark.parametrize(
    "text, choices",
    [
        ("{{text}} {{label}}", "bad ||| good"),
        ("{% if label == 1 %}Nice. {% endif %}{{text}}", "bad ||| good"),
        ("{{text}}", "{{label}} ||| other"),
        (
            "{% if text %}{{text}} {{label}} ||| {{answer_choices[label]}}{% endif %}",
            "a|||b",
        ),
    ],
)
def test_an_input_or_choice_that_shows_the_label_is_an_error(text, choices):
    row = {"text": "fine", "label": 1}
    assert "would tell the answer" in message_of(text, row, choices)


def test_a_separator_may_stand_inside_a_condition():
    for kind, word in (("cause", "because"), ("effect", "so")):
        row = {"text": "It rained", "kind": kind, "label": "good"}
        assert render(NESTED, row).inputs == f"It rained {word}"
        assert render(NESTED, row).label == 1


def test_what_the_input_defines_is_known_to_the_target():
    text = "{% set loud = text | upper %}{{loud}} ||| {{answer_choices[loud | length]}}"
    assert render(text, {"text": "X"}).inputs == "X"
    assert render(text, {"text": "X"}).label == 1


def test_columns_whose_name_is_no_identifier_are_read_through_row():
    row = {"review text": "fine", "label": 0}
    assert render('{{ row["review text"] }}', row).inputs == "fine"
    assert 'row["my column"]' in message_of("{{review text}}", row)


def test_promptsource_filters_and_zip_are_there():
    row = {"words": ["b", "a", "b", "c", "a"], "marks": [1, 2], "text": "x"}
    assert render("{{ words | most_frequent | join }}", row).inputs == "ba"
    assert (
        render("{% for w, m in zip(words, marks) %}{{w}}{{m}}{% endfor %}", row).inputs
        == "b1a2"
    )
    assert "x</span>" in render("{{ text | highlight }}", row).inputs
    assert render("{{ marks | max }}{{ marks | min }}", row).inputs == "21"


@pytest.mark.parametrize("name", ["choice", "random"])
def test_a_random_choice_depends_on_the_row_alone(name):
    text = f"{{{{ range(1000) | {name} }}}} {{{{text}}}}"
    rows = [{"text": str(number)} for number in range(20)]
    once = [render(text, row).inputs for row in rows]
    assert once == [render(text, row).inputs for row in rows]
    assert len({inputs.split()[0] for inputs in once}) > 15
    assert once == [render(text, {**row, "label": 1}).inputs for row in rows]


def test_printed_variables_are_cut_to_2048_characters_at_a_word():
    words = "word " * 1000
    assert render("{{text}}", {"text": words}).inputs == "word " * 408 + "word..."
    assert render("{{text}}", {"text": "x" * 3000}).inputs == "x" * 2045 + "..."
    two = render("{{text}}{{text}}", {"text": "x" * 2040}).inputs
    assert two == "x" * 4080
    long_choice = render("{{text}}", {"text": words}, "{{text}} ||| b").choices[0]
    assert long_choice == words.strip()


@pytest.mark.parametrize(
    "text",
    [
        "{{ text.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ text.__init__.__globals__ }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
    ],
)
def test_an_unsafe_expression_is_an_error(text):
    assert "unsafe expression" in message_of(text, {"text": "x"})


@pytest.mark.parametrize(
    "text, row, says",
    [
        (
            "{{body}}",
            {"text": "x", "id": 1},
            "column 'body' is missing; the row's columns are 'text', 'id'",
        ),
        (
            "{% if body %}x{% endif %}",
            {"text": "x"},
            "'body' is undefined; the row's columns are 'text'",
        ),
        ("{{meta.author}}", {"meta": {"year": 1}}, "no attribute 'author'"),
        ("{{text}}", {"text": " "}, "column 'text' is empty"),
        ("{{text}}", {"text": None}, "column 'text' is empty"),
        ("{{meta.a}}", {"meta": {"a": None}}, "gives null"),
        ("{{range}}", {"text": "x"}, "is a function, not a column"),
        (
            "{% if kind == 'a' %}{{text}}{% endif %}",
            {"text": "x", "kind": "b"},
            "no text at all",
        ),
        ("{{text", {"text": "x"}, "not a jinja2 template"),
        ("{{text | nofilter}}", {"text": "x"}, "No filter named 'nofilter'"),
        ("{{text + 1}}", {"text": "x"}, "an expression fails"),
        ("{{1 // 0}}{{text}}", {"text": "x"}, "an expression fails"),
        ("{% include 'x' %}", {"text": "x"}, "an expression fails"),
        ("a ||| b ||| c", {"text": "x"}, "'|||' 2 times"),
        (" \n", {"text": "x"}, "the template is empty"),
        ("{{answer_choices}}", {"answer_choices": "x"}, "'answer_choices' hides"),
    ],
)
def test_a_bad_template_or_row_is_one_line_that_says_what_to_do(text, row, says):
    assert says in message_of(text, row)


@pytest.mark.parametrize(
    "provided",
    [
        '{{ title | default("", true) }}',
        "{{ title or '' }}",
        "{% if title %}{{title}}: {% endif %}",
    ],
)
def test_an_empty_column_is_fine_where_the_template_provides_for_it(provided):
    text = provided + "{{text}}"
    assert render(text, {"title": "", "text": "x"}).inputs == "x"
    assert render(text, {"title": "T", "text": "x"}).inputs.startswith("T")


@pytest.mark.parametrize(
    "choices, says",
    [
        ("", "there are no answer choices"),
        ("good", "expected two choices or more"),
        ("bad ||| ", "choice 1 is empty"),
        ("bad ||| {{nope}} ||| good", "column 'nope' is missing"),
        ("bad ||| good ||| bad", "choice 'bad' stands twice"),
        ("bad ||| {{empty}}", "column 'empty' is empty"),
        ("{{text}} ||| fine", "choice 'fine' stands twice"),
    ],
)
def test_bad_choices_are_an_error(choices, says):
    assert says in message_of("{{text}}", {"text": "fine", "empty": ""}, choices)


def test_messages_name_the_template():
    assert message_of("{{body}}", {}).startswith("template '{{body}}': ")
    assert message_of("{{body}}", {}, name="template 3").startswith("template 3: ")
    long = "word " * 30 + "{{body}}"
    assert message_of(long, {}).startswith(
        "template 'word word word word word word word wo...': "
    )


@hypothesis.given(
    st.text(st.characters(codec="utf-8"), max_size=60).filter(str.strip),
    st.booleans(),
)
def test_any_text_comes_through_unchanged_but_for_space_at_its_ends(text, label):
    rendered = render(
        "{{text}} ||| {{answer_choices[label]}}", {"text": text, "label": label}
    )
    assert rendered.inputs == text.strip()
    assert rendered.label == int(label)


def test_a_template_leaves_the_row_as_it_was():
    row = {"text": "a ||| b", "nested": {"x": ["|||"]}, "label": "good"}
    before = {"text": "a ||| b", "nested": {"x": ["|||"]}, "label": "good"}
    assert render("{{text}}{{nested.x[0]}}", row).inputs == "a ||| b|||"
    assert row == before


def test_protecting_keeps_lengths():
    assert len(patterns.protect("a|||b")) == 5
