import pytest

from tfew_jax.data import fewshot, tasks


def test_the_embedded_tasks_are_listed():
    assert tasks.names() == ["customer_intent", "product_reviews"]


@pytest.mark.parametrize("name", tasks.names())
def test_an_embedded_task_renders_with_labels_and_without(name):
    task = tasks.get(name)
    assert task.name == name and task.description
    assert task.test is not None
    for rows in (task.train, task.test):
        rendered = fewshot.render_rows(rows, task.spec)
        assert len(rendered) == len(task.spec.templates) >= 2
        assert {row.label for row in rendered[0]} == set(
            range(len(rendered[0][0].choices))
        )
    unlabelled = [{"text": row["text"]} for row in task.test]
    predicted = fewshot.render_rows(unlabelled, task.spec, with_labels=False)
    assert [row.inputs for row in predicted[1]] == [row.inputs for row in rendered[1]]


def test_an_unknown_task_lists_those_there_are():
    with pytest.raises(ValueError, match="available: customer_intent, product_reviews"):
        tasks.get("nli")


def test_a_task_can_be_made_of_files(tmp_path):
    train, test = tmp_path / "mine.csv", tmp_path / "test.jsonl"
    train.write_text("text,gold\na,bad\nb,good\n")
    test.write_text('{"text": "c", "gold": 1}\n')
    settings = {
        "templates": "{{text}}",
        "choices": "bad ||| good",
        "label_column": "gold",
    }
    task = tasks.from_files(train=train, test=test, **settings)
    assert (task.name, len(task.train), task.test) == (
        "mine",
        2,
        [{"text": "c", "gold": 1}],
    )
    assert tasks.from_files(train=train, name="n", **settings).test is None
    with pytest.raises(ValueError, match="no such file"):
        tasks.from_files(train=tmp_path / "absent.csv", **settings)
