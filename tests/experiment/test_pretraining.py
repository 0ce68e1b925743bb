import dataclasses
import json

import jax
import numpy as np
import pytest

from tfew_jax import checkpoint, experiment, losses, models
from tfew_jax.data import objectives, packing, token_arrays
from tfew_jax.experiment import continuing

LENGTHS = {"inputs": 16, "targets": 12}
WORDS = (
    "review sentiment bad good awful lovely dull great plot film no yes maybe".split()
)
RECIPE = experiment.Recipe(
    num_steps=6, batch_size=4, learning_rate=0.02, schedule="constant"
)
SHORTER = dataclasses.replace(RECIPE, num_steps=4)


def make_arrays(folder, base, seed):
    """Sentences of words in one order that can be learned."""
    generator = np.random.default_rng(seed)
    starts = generator.integers(len(WORDS), size=160)
    texts = [" ".join((WORDS * 3)[s : s + 6]) for s in starts]
    pairs = token_arrays.make_pairs(
        texts,
        tokenizer=base.tokenizer,
        objective=objectives.PrefixLM(),
        lengths=LENGTHS,
        seed=seed,
    )
    rows = packing.pack(pairs, LENGTHS)
    return token_arrays.write(folder, rows, lengths=LENGTHS, vocabulary=base.tokenizer)


@pytest.fixture(scope="module")
def base(dropping):
    return dropping


@pytest.fixture(scope="module")
def arrays(base, tmp_path_factory):
    return make_arrays(tmp_path_factory.mktemp("arrays") / "train", base, seed=0)


@pytest.fixture(scope="module")
def validation(base, tmp_path_factory):
    return make_arrays(tmp_path_factory.mktemp("arrays") / "validation", base, seed=1)


def pretrain(base, arrays, model_dir, **options):
    given = {"recipe": RECIPE, "eval_period": 3, "checkpoint_period": 2, "quiet": True}
    return experiment.pretrain(
        model_dir=model_dir, base=base, arrays=arrays, **(given | options)
    )


@pytest.fixture(scope="module")
def trained(base, arrays, validation, tmp_path_factory):
    return pretrain(base, arrays, tmp_path_factory.mktemp("run"), validation=validation)


def read(folder):
    return checkpoint.load_model(folder).params


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_loss_falls_and_the_model_is_kept(trained, base, validation):
    assert list(trained.losses) == [0, 3, 6]
    assert trained.losses[6] < trained.losses[0] - 0.5
    found = experiment.load_base(trained.path)
    assert found.config == base.config
    model = models.T5(found.config)
    # By hand: every token of all rows that the run measured.
    batch = validation.batch(np.arange(80))  # 20 batches of 4
    log_probs = np.asarray(models.token_log_probs(model, found.params, batch))
    mask = np.asarray(losses.target_mask(batch))
    np.testing.assert_allclose(
        -log_probs[mask].mean(), trained.losses[6], rtol=1e-5, atol=0
    )


def test_the_first_loss_is_that_of_the_model_it_starts_from(trained, base, validation):
    batch = validation.batch(np.arange(80))  # 20 batches of 4
    log_probs = models.token_log_probs(models.T5(base.config), base.params, batch)
    mask = np.asarray(losses.target_mask(batch))
    np.testing.assert_allclose(
        -np.asarray(log_probs)[mask].mean(), trained.losses[0], rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("stop_at", [1, 4, 5])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    trained, base, arrays, validation, tmp_path, monkeypatch, stop_at
):
    batch_at = token_arrays.PackedBatches.batch_at

    def fails(self, step):
        if step == stop_at:
            raise OSError("the disk is gone")
        return batch_at(self, step)

    monkeypatch.setattr(token_arrays.PackedBatches, "batch_at", fails)
    with pytest.raises(OSError, match="the disk is gone"):
        pretrain(base, arrays, tmp_path, validation=validation)
    assert not (tmp_path / "final_model").exists()
    monkeypatch.undo()
    again = pretrain(base, arrays, tmp_path, validation=validation)
    assert again.losses == trained.losses
    assert_equal(read(again.path), read(trained.path))
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 3, 6]


@pytest.fixture(scope="module")
def shorter(base, arrays, validation, tmp_path_factory):
    """A run that ends between two validations of the other one."""
    folder = tmp_path_factory.mktemp("shorter")
    return pretrain(base, arrays, folder, validation=validation, recipe=SHORTER)


def test_a_run_that_goes_on_from_a_shorter_one_ends_with_the_same_bits(
    trained, shorter, base, arrays, validation, tmp_path, monkeypatch
):
    steps, batch_at = [], token_arrays.PackedBatches.batch_at

    def counted(self, step):
        steps.append(step)
        return batch_at(self, step)

    monkeypatch.setattr(token_arrays.PackedBatches, "batch_at", counted)
    start = continuing.from_end_of(shorter.directory)
    helped = pretrain(base, arrays, tmp_path, validation=validation, on_start=start)
    assert steps == [4, 5]
    assert_equal(read(helped.path), read(trained.path))
    assert list(shorter.losses) == [0, 3, 4]
    assert helped.losses == trained.losses  # of steps 0, 3 and 6
    again = pretrain(base, arrays, tmp_path, validation=validation, on_start=start)
    assert again == helped and len(steps) == 2


def test_a_run_goes_on_from_nothing_but_its_own_beginning(
    trained, shorter, base, arrays, validation, tmp_path
):
    def error_of(name, start_from, **changed):
        start = continuing.from_end_of(start_from)
        given = {"validation": validation, "on_start": start} | changed
        with pytest.raises(ValueError) as error:
            pretrain(base, arrays, tmp_path / name, **given)
        return str(error.value)

    message = error_of("seed", shorter.directory, seed=1)
    assert "which has other settings: seed was 0, now 1" in message
    message = error_of("shorter", trained.directory, recipe=SHORTER)
    assert "4 steps of constant, cannot go on from" in message
    assert "it must be longer" in message
    decaying = dataclasses.replace(RECIPE, schedule="linear_decay")
    message = error_of("decaying", shorter.directory, recipe=decaying)
    assert "recipe.schedule was" in message
    message = error_of("unfinished", tmp_path / "seed")
    assert "is not finished" in message


def test_a_finished_run_is_not_done_again(trained, base, arrays, validation, capsys):
    again = pretrain(
        base, arrays, trained.directory, validation=validation, quiet=False
    )
    assert again == trained
    assert "all 6 steps are done already" in capsys.readouterr().err


def test_other_settings_in_the_same_directory_are_refused(
    trained, base, arrays, validation
):
    with pytest.raises(ValueError, match=r"other settings: seed was 0, now 1"):
        pretrain(base, arrays, trained.directory, validation=validation, seed=1)


def test_an_adapter_can_be_pre_trained_and_started_from(base, arrays, rows, tmp_path):
    result = pretrain(base, arrays, tmp_path / "run", method="ia3")
    adapter = checkpoint.load_adapter(result.path, base.config)
    assert result.path == tmp_path / "run" / "adapter"
    assert adapter.task is None
    scales = jax.tree.leaves(adapter.params)
    assert all((scale != 1).any() for scale in scales)
    tuned = experiment.train(
        model_dir=tmp_path / "tuned",
        base=base,
        task=tmp_path_task(tmp_path, rows),
        recipe=experiment.Recipe(num_steps=1),
        initial_adapter=result.path,
        quiet=True,
    )
    # The first update has the rate 0.
    assert_equal(tuned.adapter.params, adapter.params)


def tmp_path_task(tmp_path, rows):
    from tfew_jax.data import tasks

    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tasks.from_files(
        train=file,
        templates="{{text}} ||| {{answer_choices[label]}}",
        choices="bad ||| good",
    )


def test_a_new_model_has_random_weights_by_its_seed(base):
    file = base.tokenizer.model_file
    first, again, other = (
        experiment.new_base(base.config, vocabulary=file, seed=seed).params
        for seed in (0, 0, 1)
    )
    assert_equal(first, again)
    with pytest.raises(AssertionError):
        assert_equal(first, other)


def test_what_a_new_model_lacks_is_named(base):
    file = base.tokenizer.model_file
    with pytest.raises(ValueError, match="a new model needs MODEL, the sizes"):
        experiment.new_base(None, vocabulary=file)
    with pytest.raises(ValueError, match="a new model needs VOCABULARY, a file"):
        experiment.new_base(base.config, vocabulary=None)
    small = dataclasses.replace(base.config, vocab_size=300)
    with pytest.raises(ValueError, match="its embedding 300 rows"):
        experiment.new_base(small, vocabulary=file)


def test_bad_input_is_refused_before_anything_compiles(
    base, base_directory, arrays, tmp_path
):
    for name in ("eval_period", "eval_batches", "checkpoint_period", "keep_last"):
        with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
            pretrain(base, arrays, tmp_path / "run", **{name: 0})
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match=f"seed {seed} is not between 0 and"):
            pretrain(base, arrays, tmp_path / "run", seed=seed)
    with pytest.raises(ValueError, match="holds no token arrays"):
        pretrain(base, tmp_path, tmp_path / "run")
    file = tmp_path / "other.model"
    file.write_bytes(base.tokenizer.model_file.read_bytes() + b"\xba\x3e\x01a")
    other = experiment.load_base(base_directory, vocabulary=file)
    with pytest.raises(ValueError, match="tokens of another vocabulary"):
        pretrain(other, arrays, tmp_path / "run")
    assert not (tmp_path / "run").exists()
