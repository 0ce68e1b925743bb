"""Every packaged gin file parses with the files its header asks for."""

import itertools
import re

import gin
import pytest

from tfew_jax import experiment, models, serving
from tfew_jax.cli import configuration, main, packaged
from tfew_jax.peft import prompt

FILES = packaged.names()
ENTRIES = {
    "runs/train.gin": experiment.train,
    "runs/model_tuning.gin": experiment.train,
    "runs/arrays.gin": experiment.pretrain,
    "runs/lm_adapt.gin": experiment.pretrain,
    "runs/multitask.gin": experiment.pretrain,
    "runs/multitask_model_tuning.gin": experiment.pretrain,
    "runs/pretrain.gin": experiment.pretrain,
    "runs/pretrain_ia3.gin": experiment.pretrain,
    "runs/text.gin": experiment.train_text,
    "runs/prompt_tuning.gin": experiment.train_text,
    "runs/text_model_tuning.gin": experiment.train_text,
    "runs/fewshot.gin": experiment.train,
    "runs/tfew.gin": experiment.train,
    "runs/raft_banking_77.gin": experiment.train,
    "runs/text_prompt.gin": experiment.text_prompt,
    "runs/eval.gin": experiment.evaluate,
    "runs/eval_text.gin": experiment.evaluate_text,
    "runs/infer.gin": experiment.infer,
    "runs/infer_bank.gin": experiment.infer_bank,
    "runs/serve.gin": serving.serve,
    "runs/generate.gin": experiment.write_generations,
    "experiments/compare.gin": experiment.compare,
    "experiments/adaptation_length.gin": experiment.compare,
    "experiments/size.gin": experiment.compare,
    "experiments/prompt_length.gin": experiment.compare,
    "experiments/sweep.gin": experiment.sweep,
    "experiments/five_sets.gin": experiment.sweep,
}
REST = {"models": "models/embedded.gin", "methods": "methods/ia3.gin"}
REST |= {"tasks": "tasks/csv.gin", "runs": "runs/train.gin"}
RUNS = {"domain_shift": "runs/text.gin"}  # of kinds that another run does not read
VALUES = {  # of the macros that only a user can give
    "MODEL_DIR": "'out'",
    "EVAL_OUTPUT_DIR": "'out'",
    "INFER_OUTPUT_DIR": "'out'",
    "ADAPTERS": "'adapters'",
    "INPUT_FILE": "'rows.jsonl'",
    "TRAIN_FILE": "'rows.csv'",
    "TEMPLATES": "['{{text}}']",
    "CHOICES": "'bad ||| good'",
    "INITIAL_CHECKPOINT_PATH": "'base'",
    "INITIAL_ADAPTER_PATH": "'vectors'",
    "PROMPT_TEXT": "'what is it'",
    "PROMPT_FILE": "'prompt.npy'",
    "DATA_DIR": "'data'",
    "TOKEN_ARRAYS": "'arrays'",
    "BENCHMARK": "'rte'",
    "RAFT_TASK": "'overruling'",
    "SEEDS": "(0,)",
    "OUT": "'out'",
    "CONDITIONS": "[]",
    "LINES": "[]",
    "SPAN_BASE": "'base'",
    "FAMILY": "['base']",
}
MACRO = re.compile(r"\b[A-Z]+(?:_[A-Z]+)*\b")


def rest_of(name):
    is_prompt = name.startswith("prompts/")
    return REST | ({"methods": "methods/prompt.gin"} if is_prompt else {})


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
    assert re.search(
        r"^# tfew (fewshot|train|eval|infer|serve|compare|sweep) --", header(name), re.M
    )
    assert max(map(len, read(name).splitlines())) <= 88


@pytest.mark.parametrize("name", FILES)
def test_a_file_parses_with_those_it_requires(name):
    kind = name.split("/")[0]
    kind = name.split("/")[0]
    rest = rest_of(name) | {"runs": RUNS.get(kind, REST["runs"])}
    kind = "runs" if kind == "experiments" else kind
    files = [*(rest | {kind: name}).values()]
    [run] = [file for file in files if file.startswith(("runs/", "experiments/"))]
    entry = ENTRIES[run]
    with configuration.parsed(
        entry=entry, files=files, bindings=bindings_for(files)
    ) as configured:
        assert callable(configured)


WITHOUT_UL = {"losses.TFewLoss.unlikelihood": 0.0}
WITHOUT_LN = {"losses.TFewLoss.length_normalized": 0.0, "SCORE": "sum"}
CHANGES = {  # beside the name in reports
    "lm_only": WITHOUT_UL | WITHOUT_LN,
    "no_input_eos": {"INPUT_EOS": False},
    "no_length_normalized": WITHOUT_LN,
    "no_unlikelihood": WITHOUT_UL,
    "pretrained": {"INITIAL_ADAPTER_PATH": "vectors"},
    "sum_score": {"SCORE": "sum"},
    "target_sentinel": {"TARGET_PREFIX": "<extra_id_0>"},
}


def values_of(files, bindings):
    """All that is bound, macros by their names; objects by how gin writes them."""
    with configuration.parsed(entry=experiment.train, files=files, bindings=bindings):
        bound = {
            f"{scope or selector.removeprefix('tfew_jax.')}.{name}": value
            for (scope, selector), parameters in gin.config._CONFIG.items()
            for name, value in parameters.items()
        }
    plain = (bool, int, float, str, type(None))
    return {
        name.removesuffix(".value"): value if isinstance(value, plain) else repr(value)
        for name, value in bound.items()
    }


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith("ablations/")]
)
def test_an_ablation_changes_what_it_says_and_nothing_else(name):
    files = ["models/embedded.gin", "methods/ia3.gin", "tasks/rte.gin", "runs/tfew.gin"]
    given = ["MODEL_DIR='out'", "DATA_DIR='data'"]
    before = values_of(files, given)
    ablation = name.removeprefix("ablations/").removesuffix(".gin")
    given += ["INITIAL_ADAPTER_PATH='vectors'"] if ablation == "pretrained" else []
    after = values_of([*files, name], given)
    missing = object()
    changed = {k: v for k, v in after.items() if before.get(k, missing) != v}
    assert before.keys() <= after.keys()
    assert isinstance(changed.pop("VARIANT"), str)
    assert changed == CHANGES[ablation]


PROMPT_CHANGES = {  # beside the name in reports
    "class_labels": {},  # the default
    "from_file": {"PROMPT_INIT": "file", "PROMPT_FILE": "prompt.npy"},
    "random_uniform": {"PROMPT_INIT": "uniform"},
    "sampled_vocabulary": {"PROMPT_INIT": "sampled_vocabulary"},
    "text": {"PROMPT_INIT": "text", "PROMPT_TEXT": "what is it"},
    "length_100": {},  # the default
    **{f"length_{n}": {"PROMPT_LENGTH": n} for n in (1, 5, 20, 150)},
}


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith("prompts/")]
)
def test_a_file_of_prompts_changes_what_it_says_and_nothing_else(name):
    files = ["models/embedded.gin", "methods/prompt.gin"]
    files += ["tasks/customer_intent.gin", "runs/fewshot.gin"]
    given = ["MODEL_DIR='out'"]
    before = values_of(files, given)
    expected = PROMPT_CHANGES[name.removeprefix("prompts/").removesuffix(".gin")]
    required = [n for n in ("PROMPT_TEXT", "PROMPT_FILE") if n in expected]
    given += [f"{macro}={VALUES[macro]}" for macro in required]
    after = values_of([*files, name], given)
    changed = {k: v for k, v in after.items() if before[k] != v}
    assert isinstance(changed.pop("VARIANT"), str)
    assert changed == expected


def test_files_of_prompts_stand_after_the_run():
    files = ["models/embedded.gin", "methods/prompt.gin", "tasks/customer_intent.gin"]
    files += ["prompts/length_5.gin", "runs/fewshot.gin"]
    with pytest.raises(ValueError, match=r"length_5\.gin stands before runs/fewshot"):
        values_of(files, ["MODEL_DIR='out'"])


@pytest.mark.parametrize(
    ("more", "decoder_length"),
    [([], 10), (["prompts/length_100.gin"], 100)],
    ids=["10", "100"],
)
def test_t_fews_prompts_are_of_encoder_and_decoder(more, decoder_length):
    files = ["models/embedded.gin", "methods/prompt_tfew.gin"]
    files += ["tasks/customer_intent.gin", "runs/fewshot.gin", *more]
    with configuration.parsed(
        entry=experiment.train, files=files, bindings=["MODEL_DIR='out'"]
    ):
        method = gin.get_configurable(prompt.Prompt)()
        recipe = gin.get_configurable(experiment.Recipe)()
    assert (method.length, method.decoder_length) == (decoder_length,) * 2
    assert (method.init, method.init_offset) == ("sampled_vocabulary", 3)
    assert (recipe.learning_rate, recipe.schedule) == (0.3, "linear_decay")
    assert not dict(recipe.adafactor)["multiply_by_parameter_scale"]


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


def recipe_of(files, entry):
    given = ["MODEL_DIR='out'", "DATA_DIR='data'", "MIXTURE_OR_TASK_NAME='rte'"]
    with configuration.parsed(entry=entry, files=files, bindings=given):
        return gin.get_configurable(experiment.Recipe)()


def test_prompt_tuning_has_the_papers_recipe():
    files = ["models/embedded.gin", "methods/ia3.gin", "runs/prompt_tuning.gin"]
    recipe = recipe_of(files, experiment.train_text)
    assert (recipe.num_steps, recipe.batch_size) == (30_000, 32)
    assert recipe.schedule == "constant"
    assert dict(recipe.adafactor) == {
        "decay_rate": 0.8,
        "decay_offset": 0,
        "max_grad_norm": None,
        "multiply_by_parameter_scale": False,
        "weight_decay": 1e-5,
    }


def test_model_tuning_of_the_paper_is_not_clipped():
    files = ["models/embedded.gin", "tasks/customer_intent.gin"]
    with configuration.parsed(
        entry=experiment.train,
        files=[*files, "runs/model_tuning.gin"],
        bindings=["MODEL_DIR='out'"],
    ):
        recipe = gin.get_configurable(experiment.Recipe)()
    assert dict(recipe.adafactor) == {"max_grad_norm": None}
    assert (recipe.schedule, recipe.learning_rate) == ("constant", 1e-3)


def test_text_model_tuning_has_the_papers_recipe():
    files = ["models/embedded.gin", "runs/text_model_tuning.gin"]
    recipe = recipe_of(files, experiment.train_text)
    assert (recipe.learning_rate, recipe.batch_size) == (1e-3, 128)
    assert recipe.schedule == "constant"


def test_class_labels_are_chosen_where_they_are_not_the_default():
    files = ["models/embedded.gin", "methods/prompt_tfew.gin"]
    files += ["tasks/customer_intent.gin", "runs/fewshot.gin"]
    files.append("prompts/class_labels.gin")
    with configuration.parsed(
        entry=experiment.train, files=files, bindings=["MODEL_DIR='out'"]
    ):
        assert gin.get_configurable(prompt.Prompt)().init == "class_labels"
