"""Every packaged gin file parses with the files its header asks for."""

import itertools
import re

import gin
import pytest

from tfew_jax import experiment, models
from tfew_jax.cli import configuration, main, packaged

FILES = packaged.names()
ENTRIES = {
    "runs/train.gin": experiment.train,
    "runs/fewshot.gin": experiment.train,
    "runs/tfew.gin": experiment.train,
    "runs/raft_banking_77.gin": experiment.train,
    "runs/eval.gin": experiment.evaluate,
    "runs/infer.gin": experiment.infer,
}
REST = {"models": "models/embedded.gin", "methods": "methods/ia3.gin"}
REST |= {"tasks": "tasks/csv.gin", "runs": "runs/train.gin"}
VALUES = {  # of the macros that only a user can give
    "MODEL_DIR": "'out'",
    "EVAL_OUTPUT_DIR": "'out'",
    "INFER_OUTPUT_DIR": "'out'",
    "TRAIN_FILE": "'rows.csv'",
    "TEMPLATES": "['{{text}}']",
    "CHOICES": "'bad ||| good'",
    "INITIAL_CHECKPOINT_PATH": "'base'",
    "INITIAL_ADAPTER_PATH": "'vectors'",
    "DATA_DIR": "'data'",
    "BENCHMARK": "'rte'",
    "RAFT_TASK": "'overruling'",
    "SEEDS": "(0,)",
}
MACRO = re.compile(r"\b[A-Z]+(?:_[A-Z]+)*\b")


def read(name):
    return (packaged.directory() / name).read_text()


def header(name):
    return "".join(itertools.takewhile(lambda line: line[0] == "#", lines(name)))


def lines(name):
    return read(name).splitlines(keepends=True)


def section(name, title, end):
    found = re.search(rf"{title}:(.*?){end}", header(name), re.S)
    assert found is not None
    return found[1]


def defined(name):
    return set(re.findall(rf"^({MACRO.pattern}) = (?!%gin)", read(name), re.M))


def required(name):
    return set(re.findall(rf"^({MACRO.pattern}) = %gin.REQUIRED", read(name), re.M))


def included(name):
    direct = re.findall(r"^include '(.*)'", read(name), re.M)
    return [*direct, *(other for one in direct for other in included(one))]


def bindings_for(files):
    text = "".join(read(name) for file in files for name in [file, *included(file)])
    have = {macro for file in files for macro in defined(file)}
    have -= {macro for file in files for macro in required(file)}
    return [
        f"{macro}={value}"
        for macro, value in VALUES.items()
        if f"%{macro}\n" in text and macro not in have
    ]


def test_there_are_files_of_all_four_kinds():
    assert {name.split("/")[0] for name in FILES} >= {*REST}


@pytest.mark.parametrize("name", FILES)
def test_the_header_says_what_is_provided_and_required_and_a_command(name):
    provided = set(MACRO.findall(section(name, "Provides", "# Requires:")))
    by_includes = {macro for other in included(name) for macro in defined(other)}
    assert defined(name) <= provided | by_includes
    assert provided <= defined(name) | by_includes
    assert re.search(r"^# tfew (fewshot|train|eval|infer) --", header(name), re.M)
    assert max(map(len, read(name).splitlines())) <= 88


@pytest.mark.parametrize("name", FILES)
def test_a_file_parses_with_those_it_requires(name):
    files = [*(REST | {name.split("/")[0]: name}).values()]
    entry = ENTRIES.get(files[-1], experiment.train)
    with configuration.parsed(
        entry=entry, files=files, bindings=bindings_for(files)
    ) as configured:
        assert callable(configured)


@pytest.mark.parametrize("size", sorted(models.SIZES))
def test_model_files_hold_the_sizes_of_the_library(size):
    files = [
        f"models/{size}.gin",
        *(REST[kind] for kind in ("methods", "tasks", "runs")),
    ]
    with configuration.parsed(
        entry=experiment.train, files=files, bindings=bindings_for(files)
    ):
        config = gin.query_parameter("MODEL/macro.value")
        assert config.scoped_configurable_fn() == models.SIZES[size]


def test_the_parameter_counts_in_the_headers_are_right():
    for size in models.SIZES:
        params = models.abstract_params(models.SIZES[size])
        count = sum(leaf.size for leaf in gin_leaves(params))
        assert f"{count:,} parameters" in header(f"models/{size}.gin")


def gin_leaves(tree):
    for value in tree.values():
        yield from gin_leaves(value) if hasattr(value, "values") else [value]


@pytest.mark.parametrize("name", FILES)
def test_the_command_in_the_header_is_one(name):
    (command,) = re.findall(r"^# tfew (.*\n(?:#   .*\n)*)", header(name), re.M)
    words = command.replace("#   ", " ").split()
    for word in words:
        if word.startswith("--gin."):
            words = words[: words.index(word)]  # values with spaces need a shell
            break
    args = main.make_parser().parse_args(words)
    for file in getattr(args, "gin_file", []):
        assert file in FILES
