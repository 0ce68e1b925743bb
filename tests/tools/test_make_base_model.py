"""The base model's tool, from a made-up data folder to a model folder."""

import dataclasses
import itertools
import json
import pathlib
import sys

import jax
import numpy as np
import pytest
from flax import traverse_util

from tfew_jax import checkpoint, models

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

from base_model import (  # noqa: E402
    batches,
    card,
    corpora,
    course,
    heldout,
    losses,
    prepare,
    prompts,
    starts,
    teacher,
    training,
)


@pytest.fixture
def folder(tiny_base) -> pathlib.Path:
    """Where the made-up data and what was made of it are."""
    return tiny_base.root


def test_an_interrupted_run_ends_with_the_same_weights(tiny_base):
    root = tiny_base.root
    again = ("--run", f"{root}/again")
    tiny_base.train(*again, "--out", f"{root}/stopped", "--stop-at=6")
    tiny_base.train(*again, "--out", f"{root}/resumed")
    whole = (root / "model/model.safetensors").read_bytes()
    assert (root / "stopped/model.safetensors").read_bytes() != whole
    assert (root / "resumed/model.safetensors").read_bytes() == whole


def test_a_state_of_other_settings_is_refused_with_the_names_of_the_differing(
    tiny_base,
):
    root = tiny_base.root
    before = (root / "run/config.gin").read_text()
    other = ("--run", f"{root}/run", "--out", f"{root}/other", "--gin.MLP_DIM=48")
    with pytest.raises(ValueError, match=r"settings: course\.mlp_dim was 32, now 48"):
        tiny_base.train(*other, "--gin.course.Course.rows=4")
    assert not (root / "other").exists()
    assert (root / "run/config.gin").read_text() == before


def test_sentiment_is_asked_for_in_prompts_or_read_off_the_encoder(folder):
    def asked(*arguments):
        raise AssertionError("asked")

    without = course.Course(sentiment="features").without
    data = batches.Data(folder / "work", without=without)
    data._makers["sentiment"] = asked
    for step in range(20):
        data.choice_batch(step, 8)
    without = course.Course(sentiment="both").without
    data = batches.Data(folder / "work", without=without)
    data._makers["sentiment"] = asked
    with pytest.raises(AssertionError, match="asked"):
        for step in range(20):
            data.choice_batch(step, 8)


@pytest.mark.parametrize("way", ["prompts", "features", "both"])
def test_what_the_head_reads_is_part_of_distillation(folder, way):
    settings = course.Course(emb_dim=32, num_heads=2, mlp_dim=48, sentiment=way)
    data = batches.Data(folder / "work", without=settings.without)
    model = models.T5(settings.config(data.vocab_size))
    params = training.initial_params(folder / "work", model.config, data)
    batch = jax.tree.map(jax.numpy.asarray, data.distil_batch(0, 64))
    _, metrics = losses.loss_fn(
        params, batch, model=model, course=settings, kind="distil"
    )
    assert ("sentiment" in metrics) == (way != "prompts")


def test_the_head_reads_sentiment_where_it_is_known():
    pooled = np.eye(4, 32, dtype=np.float32)
    head = {"teacher_head": {"sentiment": np.full(32, 2.0, np.float32)}}
    loss = losses.sentiment_loss(head, pooled, np.array([1.0, -1, -1, -1]))
    expected = np.log1p(np.exp(-2.0)) + 0.05 * 2.0
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="prompts, features or both, not 'x'"):
        course.Course(sentiment="x")
    with pytest.raises(ValueError, match="kept or fresh, not 'x'"):
        course.Course(decoder="x")


def test_an_earlier_base_gives_its_layers_and_embeddings(folder):
    data = batches.Data(folder / "work")
    earlier = checkpoint.load_model(folder / "model")
    config = dataclasses.replace(earlier.config, scan_layers=False, dtype="float32")
    params = training.initial_params(folder / "work", config, data)
    moved = starts.earlier_model(folder / "model", models.T5(config), params, data)
    expected = traverse_util.flatten_dict(models.unstack_layers(earlier.params))
    found = traverse_util.flatten_dict(moved)
    heads = {("teacher_head", name) for name in ("kernel", "sentiment")}
    assert set(found) == {*expected, *heads}
    for path, leaf in expected.items():
        rows = slice(None)
        if path[-1] == "embedding":  # marks of capitals keep their initial rows
            rows = ~np.isin(np.arange(450), data.marks)
        np.testing.assert_array_equal(
            np.asarray(found[path])[rows], np.asarray(leaf, np.float32)[rows]
        )


def test_an_earlier_base_may_give_all_but_its_decoder(folder):
    data = batches.Data(folder / "work")
    earlier = checkpoint.load_model(folder / "model")
    config = dataclasses.replace(earlier.config, scan_layers=False, dtype="float32")
    params = training.initial_params(folder / "work", config, data)
    moved = starts.earlier_model(
        folder / "model", models.T5(config), params, data, keep_decoder=False
    )
    old = models.unstack_layers(earlier.params)
    for stack, source in (("encoder", old), ("decoder", params)):
        jax.tree.map(np.testing.assert_array_equal, moved[stack], source[stack])


def test_an_earlier_base_of_another_shape_is_refused(folder):
    data = batches.Data(folder / "work")
    earlier = checkpoint.load_model(folder / "model")
    config = dataclasses.replace(earlier.config, scan_layers=False, mlp_dim=48)
    params = training.initial_params(folder / "work", config, data)
    with pytest.raises(ValueError, match=r"--start .*mlp.* has another shape"):
        starts.earlier_model(folder / "model", models.T5(config), params, data)


def test_the_card_names_the_earlier_base(tiny_base):
    root = tiny_base.root
    places = ("--run", f"{root}/later_run", "--out", f"{root}/later")
    start = ("--start", f"{root}/model", "--gin.course.Course.decoder='fresh'")
    tiny_base.train(*places, *start)
    text = (root / "later/README.md").read_text()
    assert corpora.file_hash(root / "model/model.safetensors") in text
    assert "--gin.'course.Course.decoder='\"'\"'fresh'\"'\"'' --start EARLIER" in text
    assert "Its decoder is not taken over" in text
    assert str(root) not in text


def test_the_model_folder_loads_with_the_shape_that_was_asked_for(folder):
    model = checkpoint.load_model(folder / "model")
    assert (model.config.vocab_size, model.config.emb_dim) == (450, 32)
    assert model.params["token_embedder"]["embedding"].shape == (450, 32)


def test_the_card_names_every_corpus_with_licence_and_hash(folder):
    text = (folder / "model/README.md").read_text()
    for corpus in corpora.CORPORA:
        row = next(x for x in text.splitlines() if x.startswith(f"| {corpus.name} |"))
        assert corpus.licence in row
        assert corpora.file_hash(folder / "data" / corpus.path) in row


def test_the_card_counts_the_refused_rows_and_names_no_folder_of_the_machine(folder):
    text = (folder / "model/README.md").read_text()
    assert "3 texts were refused" in text
    assert str(folder) not in text


def test_the_card_says_how_sentiment_was_taught(folder):
    manifest = json.loads((folder / "work/manifest.json").read_text())
    cards = {
        way: card.render(manifest, [], course.Course(sentiment=way), 1)
        for way in ("prompts", "features", "both")
    }
    assert "reads the sentiment of reviews off" in cards["both"]
    assert "sentiment of product and film reviews in 22 pairs" in cards["both"]
    assert "reads the sentiment of reviews off" not in cards["prompts"]
    assert "No prompt of it asks for sentiment" in cards["features"]
    assert "sentiment of product and film reviews" not in cards["features"]
    assert "sentiment of product and film reviews in 22 pairs" in cards["prompts"]


def test_refused_rows_are_in_no_array(folder):
    data = batches.Data(folder / "work")
    texts = {
        " ".join(heldout.words(data.pieces.decode(data.texts[i].tolist())))
        for i in range(len(data.texts))
    }
    for line in (folder / "held.jsonl").read_text().splitlines():
        assert " ".join(heldout.words(json.loads(line)["text"])) not in texts
    assert len(texts) > 100


def test_rows_held_back_for_comparing_recipes_are_not_trained_on(folder):
    data = batches.Data(folder / "work")
    trained = {
        data.pieces.decode(data.texts[i].tolist()) for i in range(len(data.texts))
    }
    for name in ("topic", "product"):
        rows = (folder / f"work/proxies/{name}.jsonl").read_text().splitlines()
        assert rows
        assert not trained & {json.loads(row)["text"] for row in rows}


def test_phrases_equally_frequent_stand_in_the_order_of_the_text():
    words = [f"{a}{b}x" for a in "bdfgk" for b in "aeiou"]
    texts = [corpora.Text(" ".join(words), "novels")] * 3
    pairs = [f"{a} {b}" for a, b in itertools.pairwise(words)]
    assert prepare.phrases(texts, texts, 1.0) == pairs


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("The cat sat on the mat!", False),  # equal but for case and signs
        ("The cat sat on the rug.", True),
        ("the cat sat", True),  # too short to mean anything
        (" ".join(map(str, range(100, 120))), False),  # a held-out run of 20 words
        (" ".join(map(str, range(105, 160))), True),  # 3 of 43 runs
    ],
)
def test_held_out_texts_are_refused(text, allowed):
    numbers = " ".join(map(str, range(100, 120)))
    checker = heldout.HeldOut(["the cat sat on the mat", numbers])
    assert checker.allows(text) is allowed
    assert checker.refused == (not allowed)


def test_a_missing_held_out_path_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"--held-out .*nothing"):
        heldout.HeldOut.from_paths([tmp_path / "nothing"])


def test_span_corruption_of_a_batch_can_be_undone(folder):
    data = batches.Data(folder / "work")
    batch = data.language_batch("span", 3, 8)
    assert batch["tokens"].shape == (8, 64)
    assert batch["choices"].shape == (8, 1, 16)
    running = {tuple(data.running[i][:70].tolist()) for i in range(len(data.running))}
    for inputs, targets in zip(batch["tokens"], batch["choices"][:, 0], strict=True):
        inputs, targets = inputs[inputs > 0].tolist(), targets[targets > 0].tolist()
        assert inputs[-1] == targets[-1] == 1
        spans: dict[int, list[int]] = {}
        for token in targets[:-1]:
            if token >= 350:  # the sentinels of 450 pieces
                spans[token] = current = []
            else:
                current.append(token)
        restored = []
        for token in inputs[:-1]:
            restored += spans[token] if token >= 350 else [token]
        assert tuple(restored) in running
        assert list(spans) == [449 - n for n in range(len(spans))]


def test_a_prefix_and_what_follows_it_are_a_window_of_running_text(folder):
    data = batches.Data(folder / "work")
    batch = data.language_batch("prefix_lm", 3, 8)
    running = {tuple(data.running[i][:64].tolist()) for i in range(len(data.running))}
    for inputs, targets in zip(batch["tokens"], batch["choices"][:, 0], strict=True):
        inputs, targets = inputs[inputs > 0].tolist(), targets[targets > 0].tolist()
        assert inputs.pop() == targets.pop() == 1
        assert (*inputs, *targets) in running


def test_batches_depend_on_the_step_alone(folder):
    short = course.Course(distil_steps=2, rows=4, distil_tokens=64, span_rows=2)
    first, second = (batches.Data(folder / "work") for _ in range(2))
    training.batch_at(second, short, 9)
    for step in range(9):
        kind, batch = training.batch_at(first, short, step)
        other_kind, other = training.batch_at(second, short, step)
        assert kind == other_kind
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def test_targets_of_prompted_rows_are_distributions_over_real_choices(folder):
    data = batches.Data(folder / "work")
    for step in range(20):
        batch = data.choice_batch(step, 8)
        real = (batch["choices"] > 0).any(-1)
        np.testing.assert_allclose(batch["target"].sum(-1), 1, rtol=1e-5)
        assert (batch["target"][~real] == 0).all()
        assert (real.sum(-1) >= 2).all()


def test_choices_are_small_capitalised_or_as_they_are_and_stay_apart(folder):
    data = batches.Data(folder / "work")
    choices = [data.encode("Good"), data.encode("bad")]
    seen = set()
    for seed in range(60):
        styled = data._styled(np.random.default_rng(seed), choices)
        seen.add(tuple(data.pieces.decode(choice.tolist()) for choice in styled))
    assert seen == {("Good", "bad"), ("good", "bad"), ("Good", "Bad")}


def test_wordings_have_the_pieces_of_the_whole_text(folder):
    data = batches.Data(folder / "work")
    text = data.encode("Baam beil.")
    for template, line_break in (
        ("Review: {} Mood?", "\n"),
        ("{} Mood?", "\n\n"),
        ("What is: {}?", " "),
        ("{}", "\n"),
    ):
        laid_out = prompts.lay_out(template, line_break)
        whole = laid_out.replace("{}", "Baam beil.")
        filled = data._fill(laid_out, [text]).tolist()
        assert filled == data.pieces.encode(whole)


def test_a_prompt_may_list_its_choices(folder):
    data = batches.Data(folder / "work")
    choices = [data.encode(word) for word in ("good", "bad", "odd")]
    draft = batches.Draft("{} Mood?", (data.encode("Baam."),), choices, np.ones(3), 0)
    for seed in range(9):
        rng = np.random.default_rng(seed)
        tokens = data._inputs(rng, draft, choices, True)
        prompt = data.pieces.decode(tokens[:-1].tolist())
        assert all(word in prompt for word in ("good", "bad", "odd", "Mood?"))
        assert tokens[-1] == 1


def test_word_pieces_are_the_longest_that_fit():
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "un",
        "##believ",
        "##able",
        "cafe",
        "!",
    ]
    tokenizer = teacher.WordPiece(pieces)
    assert tokenizer.encode("Unbelievable Café!") == [4, 5, 6, 7, 8]
    assert tokenizer.encode("xyz") == [1]


def test_a_vector_does_not_depend_on_the_other_texts(folder):
    encoder = teacher.load(folder / "teacher")
    texts = ["Balbal.", "Beil boon dal feit gool kaam. Baam."]
    together = encoder.vectors(texts).astype(np.float32)
    alone = np.concatenate([encoder.vectors([t]) for t in texts]).astype(np.float32)
    np.testing.assert_allclose(together, alone, atol=2e-3)  # float16 of unit vectors
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=2e-3)
