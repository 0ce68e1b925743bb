"""T0's mixtures: sets, templates and caps."""

import dataclasses
import pathlib
import sys

import pytest

from tfew_jax.data import p3

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from one_line import message_of
from small_mixture import AFTER, COLOURS, IS_IT, SMALL, TASKS


def test_the_mixtures_hold_t0s_sets_each_the_one_before():
    definitions = [p3.get(name) for name in p3.names()]
    assert [d.name for d in definitions] == ["t0_train", "t0_plus_train", "t0_pp_train"]
    assert [len(d.members) for d in definitions] == [38, 48, 54]
    smaller, larger = definitions[0].members, definitions[2].members
    assert larger[:38] == smaller
    assert p3.get("t0++_train") == definitions[2]
    sizes = {member.set_name: member.train_size for member in larger}
    assert sizes["gigaword"] == 3_803_957
    held_out = {"anli", "super_glue/cb", "super_glue/rte", "winogrande/winogrande_xl"}
    assert not held_out & set(sizes)


def test_an_unknown_mixture_is_an_error():
    assert message_of(p3.get, "t0_trian") == (
        "unknown mixture 't0_trian'; available: t0_train, t0_plus_train, t0_pp_train"
    )


@pytest.mark.parametrize(
    ("size", "num_templates", "t0", "tfew"),
    [
        (1_000, 10, 1_000, 1_000),
        (363_846, 6, 363_846, 83_333),
        (500_000, 7, 500_000, 71_428),
        (500_001, 7, 71_428, 71_428),
    ],
)
def test_caps_of_the_two_rules(size, num_templates, t0, tfew):
    assert p3.cap(size, num_templates, rule="t0") == t0
    assert p3.cap(size, num_templates, rule="tfew") == tfew


def test_an_unknown_rule_is_an_error(template_directory):
    said = "rule='t5'; choose from t0, tfew"
    assert message_of(p3.cap, 1, 1, rule="t5") == said
    assert message_of(p3.tasks, SMALL, rule="t5", directory=template_directory) == said


def test_tasks_are_english_templates_under_p3s_names(template_directory):
    tasks, missing = p3.tasks(SMALL, directory=template_directory)
    assert [task.name for task in tasks] == TASKS
    assert [task.cap for task in tasks] == [5, 5, 12]
    assert [task.num_templates for task in tasks] == [2, 2, 1]
    assert missing == []


@pytest.mark.parametrize(
    ("set_name", "template", "name"),
    [
        ("cos_e/v1.11", "aligned_with_common_sense", "cos_e_v1.11_aligned_with_"),
        ("samsum", "Summarize:", "samsum_Summarize_"),
        ("ai2_arc/ARC-Challenge", "pick (a) - b", "ai2_arc_ARC_Challenge_pick_a_b"),
    ],
)
def test_names_of_tasks_are_p3s(set_name, template, name):
    assert p3.task_name(set_name, template).startswith(name)


def test_a_blacklisted_template_counts_but_is_no_task(template_directory, monkeypatch):
    monkeypatch.setattr(p3, "BLACKLIST", {"colours_say_it"})
    tasks, _ = p3.tasks(SMALL, directory=template_directory)
    assert [(task.name, task.num_templates) for task in tasks] == [
        (IS_IT, 2),
        (AFTER, 1),
    ]


def test_sets_without_templates_are_listed_and_may_be_left_out(template_directory):
    more = dataclasses.replace(
        SMALL,
        members=(*SMALL.members, p3.Member(set_name="glue/mrpc", train_size=3_668)),
    )
    assert message_of(p3.tasks, more, directory=template_directory) == (
        "small lacks 1 of what it is made of: no templates in "
        f"{template_directory}: glue/mrpc; get them, or name those to go without in "
        "allow_missing"
    )
    tasks, missing = p3.tasks(
        more, directory=template_directory, allow_missing=["glue/mrpc"]
    )
    assert len(tasks) == 3
    assert [item.name for item in missing] == ["glue/mrpc"]


def test_templates_whose_names_fall_together_are_an_error(template_directory):
    path = template_directory / "colours" / "templates.yaml"
    path.write_text(COLOURS.replace("name: say-it", "name: is it!"))
    assert message_of(p3.tasks, SMALL, directory=template_directory).startswith(
        "template 2 of colours, 'is it?' and template 1 of colours, 'is it!' have the "
        "same name in P3, colours_is_it_"
    )


def test_a_definition_without_sets_or_with_one_twice_is_an_error():
    assert "of no sets" in message_of(p3.Definition, name="none", members=())
    twice = message_of(p3.Definition, name="x", members=SMALL.members * 2)
    assert twice == "x: the set 'colours' stands twice"
    assert "train_size=0" in message_of(p3.Member, set_name="x", train_size=0)


@pytest.mark.parametrize(
    ("allowed", "problem"),
    [
        (["colour"], "allow_missing names 'colour', which small does not hold"),
        ("colours", "allow_missing='colours' is one text; give a list of names"),
    ],
)
def test_misspelt_names_of_what_may_lack_are_an_error(
    template_directory, allowed, problem
):
    said = message_of(
        p3.tasks, SMALL, directory=template_directory, allow_missing=allowed
    )
    assert said.startswith(problem)


# promptsource itself.


@pytest.fixture(scope="module")
def all_tasks(promptsource_directory):
    """Those of T0++, by T0's rule."""
    tasks, missing = p3.tasks(p3.get("t0_pp_train"), directory=promptsource_directory)
    assert missing == []
    return tasks


@pytest.mark.parametrize(
    ("name", "num_tasks", "t0", "tfew"),
    [
        ("t0_train", 313, 17_277_798, 10_606_443),
        ("t0_plus_train", 392, 20_672_671, 12_937_480),
        ("t0_pp_train", 464, 23_118_591, 13_868_800),
    ],
)
def test_counts_with_promptsources_templates(all_tasks, name, num_tasks, t0, tfew):
    members = p3.get(name).members
    tasks = [task for task in all_tasks if task.member in members]
    assert len(tasks) == num_tasks
    assert sum(task.cap for task in tasks) == t0
    assert sum(dataclasses.replace(t, rule="tfew").cap for t in tasks) == tfew


def test_names_that_p3_is_known_to_have_are_among_the_tasks(all_tasks):
    known = {
        "adversarial_qa_dbert_answer_the_following_q",
        "ai2_arc_ARC_Challenge_qa_options",
        "cnn_dailymail_3.0.0_generate_story",
        "kilt_tasks_hotpotqa_final_exam",
        "samsum_Summarize_",
        "super_glue_wsc.fixed_does_p_stand_for",
    }
    assert known <= {task.name for task in all_tasks}
