"""A mixture of two small sets: its templates, raw rows and P3's export of them."""

from tfew_jax.data import p3

PLACE = "SET/train{.parquet,.jsonl,.csv,.tsv}"
COLOURS = """\
dataset: colours
templates:
  k1: !Template
    answer_choices: No ||| Yes
    jinja: '{% if thing %}Is {{thing}} warm? ||| {{answer_choices[label]}}{% endif %}'
    metadata: !TemplateMetadata {languages: [en], original_task: true}
    name: is it?
  k2: !Template
    jinja: 'Say {{some_thing}} ||| {{thing}}'
    metadata: !TemplateMetadata {}
    name: say-it
  k3: !Template
    jinja: 'Dis {{thing}} ||| {{thing}}'
    metadata: !TemplateMetadata {languages: [fr]}
    name: dis
"""
NUMBERS = """\
dataset: numbers
subset: v1.0
templates:
  k1: !Template
    jinja: 'After {{n}}? ||| {% set next = n + 1 %}{{next}}'
    metadata: !TemplateMetadata {}
    name: after
"""
ROWS = {
    "colours": [
        {"thing": thing, "some-thing": str(number), "label": number % 2}
        for number, thing in enumerate(["red", "", "blue", "green", ""])
    ],
    "numbers/v1.0": [{"n": n} for n in range(12)],
}
SMALL = p3.Definition(
    name="small",
    members=(
        p3.Member(set_name="colours", train_size=5),
        p3.Member(set_name="numbers/v1.0", train_size=12),
    ),
)
TASKS = ["colours_is_it_", "colours_say_it", "numbers_v1.0_after"]
IS_IT, _, AFTER = TASKS


def exported_row(inputs, targets, **more):
    return {"inputs_pretokenized": inputs, "targets_pretokenized": targets, **more}


EXPORT = {
    "colours_is_it_": [
        exported_row("Is red warm?", " No", answer_choices=["No", "Yes"])
    ],
    "colours_say_it": [exported_row("Say 0", "red"), exported_row("Say 2", "blue")],
    "numbers_v1.0_after": [exported_row(f"After {n}?", f"{n + 1}") for n in range(12)],
}
