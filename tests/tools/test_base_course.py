"""The base model's course: gin files, phases, snapshots, curves and prompted rows."""

import dataclasses
import json
import logging
import math
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

from tfew_jax import checkpoint, models
from tfew_jax.cli import configuration
from tfew_jax.cli import main as tfew
from tfew_jax.data import token_arrays

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import make_base_model
from base_model import (
    batches,
    curves,
    embedding,
    prepare,
    rows,
    teacher,
    training,
    vocabulary,
)
from base_model.course import Course

PHASES = ("distil", "span", "prefix_lm", "mixed")


def configured(name: str, *bindings: str) -> Course:
    folder = str(make_base_model.CONFIGS)
    with configuration.parsed(
        entry=Course, files=[name], bindings=bindings, search_paths=[folder]
    ) as make_course:
        return make_course()


def num_parameters(course: Course) -> int:
    config = course.config(8192)
    shapes = jax.eval_shape(lambda: models.init(config, None, jax.random.key(0)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("family_1m.gin", 800_000, 1_400_000),
        ("family_3m.gin", 2_500_000, 3_500_000),
        ("embedded.gin", 7_147_776, 7_147_776),
        ("family_10m.gin", 9_000_000, 11_000_000),
    ],
)
def test_a_gin_file_gives_the_size_that_its_name_says(name, least, most):
    assert least <= num_parameters(configured(name)) <= most


def test_there_is_a_size_for_every_file_and_the_embedded_one_is_the_default():
    names = {path.name for path in make_base_model.CONFIGS.glob("*.gin")}
    assert names == {"embedded.gin", *(f"family_{n}m.gin" for n in (1, 3, 10))}
    assert configured("embedded.gin") == Course()


def test_sizes_differ_in_shape_alone():
    shape = (
        *("emb_dim", "num_heads", "mlp_dim"),
        *("num_encoder_layers", "num_decoder_layers"),
    )
    for name in ("family_1m.gin", "family_3m.gin", "family_10m.gin"):
        course = configured(name)
        kept = {field: getattr(Course(), field) for field in shape}
        assert dataclasses.replace(course, **kept) == Course()


def test_a_misspelt_macro_or_setting_is_refused():
    with pytest.raises(ValueError, match="nothing uses the macro DISTIL_STEP; did you"):
        configured("embedded.gin", "DISTIL_STEP=3")
    with pytest.raises(ValueError, match=r"'row'.*; did you mean rows"):
        configured("embedded.gin", "course.Course.row=3")
    with pytest.raises(ValueError, match="DISTIL_STEPS must be int"):
        configured("embedded.gin", "DISTIL_STEPS='3'")


def test_phases_follow_one_another_and_those_without_steps_are_left_out():
    course = Course(distil_steps=3, span_steps=2, prefix_lm_steps=1, mixed_steps=7)
    ends = [(phase.name, phase.first_step, phase.end) for phase in course.phases]
    assert ends == [
        *(("distil", 0, 3), ("span", 3, 5)),
        *(("prefix_lm", 5, 6), ("mixed", 6, 13)),
    ]
    kinds = [course.kind_at(step) for step in range(13)]
    assert kinds == (
        ["distil"] * 3
        + ["span"] * 2
        + ["prefix_lm"]
        + "choice choice distil choice choice span choice".split()
    )
    alone = Course(teacher=False, distil_steps=0, span_steps=2, mixed_steps=6)
    assert [phase.name for phase in alone.phases] == ["span", "mixed"]
    assert {alone.kind_at(step) for step in range(8)} == {"span", "choice"}
    assert alone.without == ("topic",)


def test_every_phase_warms_up_and_decays_by_itself():
    course = Course(
        **{"distil_steps": 100, "span_steps": 10, "mixed_steps": 40},
        **{"learning_rate": 4.0, "span_learning_rate": 8.0},
        **{"mixed_learning_rate": 100.0, "warmup_steps": 10},
    )
    expected = {
        **{0: 0.0, 5: 2.0, 10: 4.0, 55: (4 + 1) / 2},  # the middle of the cosine
        **{100: 2.0, 105: 8.0},  # half of ten steps warm up
        **{110: 25.0, 120: 100.0, 135: (100 + 2) / 2, 150: 2.0},
    }
    found = {step: float(course.schedule(step)) for step in expected}
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"num_heads": 3}, "num_heads is 3, which does not divide emb_dim 256"),
        ({"span_steps": -1}, "span_steps is -1"),
        ({"save_every": 0}, "save_every is 0"),
        ({"distil_steps": 0, "mixed_steps": 0}, "no phase has a step; give one of"),
        ({"teacher": False}, "distil_steps must be 0"),
    ],
)
def test_a_course_that_cannot_be_is_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        Course(**settings)


@pytest.mark.parametrize("width", [32, 12])
def test_a_wide_table_begins_with_a_narrow_one(tiny_base, width):
    encoder = teacher.load(tiny_base.root / "teacher")  # says 16 things of a piece
    pieces = vocabulary.load(tiny_base.root / "work/sentencepiece.model")
    wide = embedding.initial(encoder, pieces, 450, width)
    narrow = embedding.initial(encoder, pieces, 450, 8)
    found = embedding.narrowed(wide, 8, num_features=16)
    np.testing.assert_allclose(found, narrow, atol=2e-5)


def test_a_model_wider_than_the_prepared_table_is_refused(tiny_base):
    work = tiny_base.root / "work"
    assert embedding.load(work, 450, 32).shape == (450, 32)
    assert embedding.load(work, 450, 16).shape == (450, 16)
    with pytest.raises(ValueError, match=r"needs \(450, 64\); prepare again"):
        embedding.load(work, 450, 64)


@pytest.fixture(scope="module")
def whole(tiny_base) -> pathlib.Path:
    """A run of all phases at half the prepared width, stopped between two of them."""
    run = tiny_base.root / "whole_run"
    steps = ("DISTIL_STEPS=1", "SPAN_STEPS=2", "PREFIX_LM_STEPS=1", "MIXED_STEPS=2")
    given = [f"--gin.{binding}" for binding in (*steps, "EMB_DIM=16")]
    places = ("--run", str(run), "--out", str(tiny_base.root / "whole"))
    tiny_base.train(*places, *given, "--stop-at=3")
    tiny_base.train(*places, *given)
    return run


def test_each_phase_leaves_a_model_that_loads(tiny_base, whole):
    snapshots = [whole / "snapshots" / name for name in PHASES]
    assert {path.name for path in (whole / "snapshots").iterdir()} == set(PHASES)
    for path in snapshots:
        config = checkpoint.load_model(path).config
        assert (config.vocab_size, config.emb_dim) == (450, 16)
    weights = [(path / "model.safetensors").read_bytes() for path in snapshots]
    assert len(set(weights)) == 4
    assert weights[-1] == (tiny_base.root / "whole/model.safetensors").read_bytes()
    assert (snapshots[1] / "sentencepiece.model").is_file()


def test_a_run_keeps_its_configuration_and_its_settings(whole):
    operative = (whole / "operative_config.gin").read_text()
    assert "span_steps = %SPAN_STEPS" in operative
    assert "SPAN_STEPS = 2" in operative
    settings = json.loads((whole / "settings.json").read_text())
    assert settings["course"]["span_steps"] == 2
    assert settings["dtype"] == "float32"


def test_the_card_tells_the_phases_and_shows_the_curves(tiny_base, whole):
    folder = tiny_base.root / "whole"
    text = (folder / "README.md").read_text()
    assert text.startswith("# The embedded base model\n")
    for number, phrase in enumerate(
        (
            *("Start: token embeddings", "1 steps of distillation"),
            *("2 steps of T5's span corruption", "1 steps of prefix LM"),
            "2 steps of prompted choice rows",
        ),
        start=1,
    ):
        assert f"\n{number}. {phrase}" in text
    assert "![Loss curves](curves.png)" in text
    assert (folder / "curves.png").read_bytes() == (whole / "curves.png").read_bytes()
    assert (folder / "curves.png").stat().st_size < curves.MAX_BYTES
    assert "--gin.SPAN_STEPS=2" in text


def test_curves_have_every_step_once_also_of_a_resumed_run(whole):
    found = curves.records(whole / "log.jsonl")
    assert [record["step"] for record in found] == [1, 3, 4, 6]
    lines = curves.series(found)
    assert list(lines) == ["distil", "span", "prefix_lm", "choice"]
    assert lines["span"]["loss"][0] == [3, 6]
    assert lines["choice"]["right"][0] == [6]
    titles = [axes.get_title("left") for axes in curves.draw(found).axes]
    assert titles == [
        *("distillation", "distillation: agreement"),
        *("span corruption", "prefix LM"),
        *("prompted rows", "prompted rows: agreement"),
    ]


def test_what_a_killed_run_logged_beyond_its_state_is_not_drawn(tmp_path):
    log = tmp_path / "log.jsonl"
    steps = [(50, 1.0), (100, 2.0), (150, 3.0), (70, 4.0), (100, 5.0)]
    lines = [json.dumps({"step": s, "span.loss": x, "seconds": 1}) for s, x in steps]
    log.write_text("\n".join(lines))
    drawn = curves.series(curves.records(log))
    assert drawn == {"span": {"loss": ([50, 70, 100], [1.0, 4.0, 5.0])}}
    log.write_text("{}\n")
    with pytest.raises(ValueError, match="line 1: not a record"):
        curves.records(log)
    with pytest.raises(ValueError, match="no metric"):
        curves.draw([{"step": 1}])


def test_settings_of_a_run_without_a_state_are_replaced(tmp_path, caplog):
    training.remember(tmp_path, {"dtype": "float32"})
    training.remember(tmp_path, {"dtype": "bfloat16"})
    (tmp_path / training.STATE).write_bytes(b"")
    with pytest.raises(ValueError, match='dtype was "bfloat16", now "float32"'):
        training.remember(tmp_path, {"dtype": "float32"})
    (tmp_path / training.SETTINGS).unlink()
    with caplog.at_level(logging.WARNING):
        training.remember(tmp_path, {"dtype": "float32"})
    assert "nothing to compare its state with" in caplog.text


@pytest.fixture(scope="module")
def untaught(tiny_base) -> pathlib.Path:
    """The work folder as `prepare` leaves it without a teacher."""
    work = tiny_base.root / "untaught"
    shutil.copytree(tiny_base.root / "work", work)
    none = prepare._teach(None, None, (450, 32), {}, work)
    assert none is None
    assert not (work / "embedding.npy").exists()
    return work


def test_without_a_teacher_a_course_starts_from_random_weights(tiny_base, untaught):
    root = tiny_base.root
    places = (*("--work", str(untaught)), *("--run", f"{root}/random_run"))
    with pytest.raises(ValueError, match="prepared without a teacher"):
        tiny_base.train(*places, "--out", f"{root}/random")
    given = "TEACHER=False DISTIL_STEPS=0 SPAN_STEPS=1 MIXED_STEPS=6".split()
    tiny_base.train(
        *places, "--out", f"{root}/random", *(f"--gin.{binding}" for binding in given)
    )
    text = (root / "random/README.md").read_text()
    assert "1. Start: random weights." in text
    assert "None: the weights started at random." in text
    assert "which phrase fits" not in text
    log = (root / "random_run/log.jsonl").read_text()
    assert "distil." not in log
    assert "choice.cosine" not in log


def test_prompted_rows_become_arrays_of_one_example_a_row(tiny_base, tmp_path):
    work = tiny_base.root / "work"
    given = ["rows", "--work", str(work), "--out", f"{tmp_path}/rows", "--count=70"]
    assert make_base_model.main(given) == 0
    arrays = token_arrays.load(tmp_path / "rows")
    assert (arrays.num_rows, arrays.num_examples) == (70, 70)
    assert arrays.description["seed"] == rows.SEED
    data = batches.Data(work, rows.SEED)
    drawn = data.choice_batch(1, 64)
    found = arrays.rows(np.arange(64, 70))
    for row in range(6):
        right = drawn["choices"][row, drawn["target"][row].argmax()]
        answer = found["decoder_target_tokens"][row]
        assert answer[answer > 0].tolist() == right[right > 0].tolist()
        inputs, expected = found["encoder_input_tokens"][row], drawn["tokens"][row]
        assert inputs[inputs > 0].tolist() == expected[expected > 0].tolist()
    assert found["encoder_segment_ids"].max() == 1
    with pytest.raises(ValueError, match="--count is 0"):
        make_base_model.main([*given[:-1], "--count=0"])


def test_the_product_trains_on_the_exported_rows(tiny_base, tmp_path):
    root = tiny_base.root
    make_base_model.main(
        f"rows --work {root}/work --out {tmp_path}/rows --count 8".split()
    )
    files = ("models/embedded.gin", "runs/pretrain_ia3.gin")
    bindings = {
        "INITIAL_CHECKPOINT_PATH": repr(str(root / "model")),
        "TOKEN_ARRAYS": repr(str(tmp_path / "rows")),
        "MODEL_DIR": repr(str(tmp_path / "adapter")),
        **{"TRAIN_STEPS": 2, "BATCH_SIZE": 4},
    }
    status = tfew.main(
        [
            *("train", *(f"--gin_file={name}" for name in files)),
            *(f"--gin.{name}={value}" for name, value in bindings.items()),
        ]
    )
    assert status == 0
    assert checkpoint.load_adapter(tmp_path / "adapter/adapter").params
