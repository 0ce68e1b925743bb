"""Made-up rows have the fields that the sets' templates read."""

import pytest

from tfew_jax.data import benchmarks, example_rows, promptsource_sets


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_template_that_t_few_uses_renders_the_made_up_row(
    name, promptsource_directory
):
    found = promptsource_sets.load(
        benchmarks.get(name).template_set, promptsource_directory
    )
    for template in found.original_task:
        row, kind = example_rows.make(found.name, template.columns)
        assert kind == "a made-up row"
        if template.name.startswith(("…As a result", "…What could happen next")):
            continue  # COPA's for effects; the row asks for a cause
        rendered = template.render(row)
        assert rendered.inputs and rendered.target


def test_other_columns_stand_for_themselves():
    row, kind = example_rows.make("nothing/known", ["text", "label", "coarse_label"])
    assert kind == "placeholders"
    assert row == {"text": "<text>", "label": 0, "coarse_label": 0}
    # A set's row does not serve a template that reads more.
    assert example_rows.make("glue/sst2", ["sentence", "idx"])[1] == "placeholders"
