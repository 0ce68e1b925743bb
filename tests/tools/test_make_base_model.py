"""The base model's tool, from a made-up data folder to a model folder."""

import dataclasses
import io
import json
import lzma
import pathlib
import random
import sys
import tarfile
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from tfew_jax import checkpoint, models

TOOLS = pathlib.Path(__file__).resolve().parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import make_base_model  # noqa: E402
from base_model import (  # noqa: E402
    batches,
    card,
    corpora,
    heldout,
    prompts,
    starts,
    teacher,
    training,
)

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "ei", "oo") for c in "lmnrst"]
SHAPE = (
    "--emb-dim=32 --num-heads=2 --mlp-dim=32 --num-encoder-layers=1 "
    "--num-decoder-layers=1 --distil-steps=3 --mixed-steps=7 --rows=4 "
    "--distil-tokens=64 --span-rows=2 --save-every=4"
).split()


def sentence(rng: random.Random, length: int = 8) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(length)).capitalize() + "."


def write_zip(path: pathlib.Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)


def write_data(folder: pathlib.Path) -> None:
    """Small files in the formats of all corpora."""
    rng = random.Random(0)

    def lines(count: int) -> list[str]:
        return [sentence(rng) for _ in range(count)]

    (folder / "text").mkdir(parents=True)
    (folder / "nltk").mkdir()
    with tarfile.open(folder / "text/novels.tar.xz", "w:xz") as archive:
        body = "\n\n".join(" ".join(lines(4)) for _ in range(40)).encode()
        member = tarfile.TarInfo("novels/One.txt")
        member.size = len(body)
        archive.addfile(member, io.BytesIO(body))
    with lzma.open(folder / "text/nlp_corpus.txt.xz", "wt") as file:
        file.write("\n".join(lines(60)))
    with lzma.open(folder / "text/wordnet_glosses.txt.xz", "wt") as file:
        for word in WORDS:
            file.write(f'{word}, {word}s: {sentence(rng)}; "{sentence(rng)}"\n')
    pages = {
        f"Title {n}": {
            "title": f"Title {n}",
            "extract": " ".join(lines(3)),
            "description": sentence(rng, 3),
            "topic": "AB"[n % 2],
        }
        for n in range(40)
    }
    (folder / "text/wiki_vital_summaries_en.json").write_text(json.dumps(pages))
    for name in ("genesis", "inaugural", "state_union"):
        write_zip(
            folder / f"nltk/{name}.zip", {f"{name}/english.txt": " ".join(lines(20))}
        )
    speech = "".join(f"<LINE>{line}</LINE>" for line in lines(5))
    write_zip(
        folder / "nltk/shakespeare.zip", {"s/a.xml": f"<SPEECH>{speech}</SPEECH>"}
    )
    reviews = {
        f"movie_reviews/{side}/cv{n:03}_1.txt": "\n".join(lines(6))
        for side in ("neg", "pos")
        for n in range(10)
    }
    write_zip(folder / "nltk/movie_reviews.zip", reviews)
    for number, file in ((1, "Camera"), (2, "norton")):
        marked = "\n".join(
            f"lens[{'+-'[n % 2]}2]##{x}" for n, x in enumerate(lines(30))
        )
        write_zip(
            folder / f"nltk/product_reviews_{number}.zip", {f"p/{file}.txt": marked}
        )
    sides = {
        f"pros_cons/Integrated{s}.txt": "\n".join(f"<{s}>{x}</{s}>" for x in lines(40))
        for s in ("Pros", "Cons")
    }
    write_zip(folder / "nltk/pros_cons.zip", sides)
    compared = "\n".join(
        f"<cs-1>\n{a}\n</cs-1>\n1_x (more)\n{b}"
        for a, b in zip(lines(20), lines(20), strict=True)
    )
    write_zip(
        folder / "nltk/comparative_sentences.zip", {"c/labeledSentences.txt": compared}
    )


def write_teacher(folder: pathlib.Path) -> None:
    """A BERT of one layer with random weights."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *WORDS]
    pieces += [mark + c for c in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
    width, hidden = 8, 16
    shapes = {
        "embeddings.word_embeddings.weight": (len(pieces), width),
        "embeddings.position_embeddings.weight": (128, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    layer = "encoder.layer.0"
    for name in ("self.query", "self.key", "self.value", "output.dense"):
        shapes[f"{layer}.attention.{name}.weight"] = (width, width)
        shapes[f"{layer}.attention.{name}.bias"] = (width,)
    for name, size in (("intermediate", (hidden, width)), ("output", (width, hidden))):
        shapes[f"{layer}.{name}.dense.weight"] = size
        shapes[f"{layer}.{name}.dense.bias"] = size[:1]
    for name in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        shapes[f"{name}.LayerNorm.weight"] = shapes[f"{name}.LayerNorm.bias"] = (width,)
    arrays = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(pieces))
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Data, teacher, held-out file, work folder and a model trained without a stop."""
    root = tmp_path_factory.mktemp("base")
    write_data(root / "data")
    write_teacher(root / "teacher")
    with lzma.open(root / "data/text/nlp_corpus.txt.xz", "rt") as file:
        held_out = file.read().splitlines()[:3]
    (root / "held.jsonl").write_text(
        "\n".join(json.dumps({"text": text.upper()}) for text in held_out)
    )
    make_base_model.main(
        f"prepare --data {root}/data --out {root}/work --teacher {root}/teacher "
        f"--held-out {root}/held.jsonl --vocab-size 450 --emb-dim 32".split()
    )
    make_base_model.main(
        [*f"train --work {root}/work --out {root}/model".split(), *SHAPE]
    )
    return root


def test_an_interrupted_run_ends_with_the_same_weights(folder):
    again = [*f"train --work {folder}/work --run {folder}/again".split(), *SHAPE]
    make_base_model.main([*again, "--out", f"{folder}/stopped", "--stop-at=6"])
    make_base_model.main([*again, "--out", f"{folder}/resumed"])
    whole = (folder / "model/model.safetensors").read_bytes()
    assert (folder / "stopped/model.safetensors").read_bytes() != whole
    assert (folder / "resumed/model.safetensors").read_bytes() == whole


def test_a_state_of_other_settings_is_refused(folder):
    other = [*f"train --work {folder}/work --out {folder}/other".split(), *SHAPE]
    with pytest.raises(ValueError, match="belongs to other settings"):
        make_base_model.main([*other, "--mlp-dim=48"])


def test_sentiment_is_asked_for_in_prompts_or_read_off_the_encoder(folder):
    def asked(*arguments):
        raise AssertionError("asked")

    settings = training.Settings(sentiment="features")
    data = batches.Data(folder / "work", without=settings.without)
    data._makers["sentiment"] = asked
    for step in range(20):
        data.choice_batch(step, 8)
    data = batches.Data(folder / "work")
    data._makers["sentiment"] = asked
    with pytest.raises(AssertionError, match="asked"):
        for step in range(20):
            data.choice_batch(step, 8)


def test_the_head_reads_sentiment_where_it_is_known():
    pooled = np.eye(4, 32, dtype=np.float32)
    head = {"teacher_head": {"sentiment": np.full(32, 2.0, np.float32)}}
    loss = training._sentiment_loss(head, pooled, np.array([1.0, -1, -1, -1]))
    expected = np.log1p(np.exp(-2.0)) + 0.05 * 2.0
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    with pytest.raises(ValueError, match="prompts or features, not 'x'"):
        training.Settings(sentiment="x")
    with pytest.raises(ValueError, match="kept or fresh, not 'x'"):
        training.Settings(decoder="x")


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


def test_the_card_names_the_earlier_base(folder):
    arguments = [*f"train --work {folder}/work --out {folder}/later".split(), *SHAPE]
    arguments += ["--run", f"{folder}/later_run", "--start", f"{folder}/model"]
    make_base_model.main([*arguments, "--decoder", "fresh"])
    text = (folder / "later/README.md").read_text()
    assert corpora.file_hash(folder / "model/model.safetensors") in text
    assert "--decoder fresh --start EARLIER" in text
    assert "Its decoder is not taken over" in text
    assert str(folder) not in text


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
        way: card.render(manifest, [], training.Settings(sentiment=way), 1)
        for way in ("prompts", "features")
    }
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


def test_span_corruption_can_be_undone():
    tokens = np.arange(10, 70)
    inputs, targets = batches.corrupt(tokens, np.random.default_rng(3), 500)
    assert inputs[-1] == targets[-1] == 1
    spans: dict[int, list[int]] = {}
    for token in targets[:-1].tolist():
        if token >= 400:
            spans[token] = current = []
        else:
            current.append(token)
    restored = []
    for token in inputs[:-1].tolist():
        restored += spans[token] if token >= 400 else [token]
    assert restored == tokens.tolist()
    assert list(spans) == [499 - n for n in range(len(spans))]


def test_batches_depend_on_the_step_alone(folder):
    settings = training.Settings(distil_steps=2, rows=4, distil_tokens=64, span_rows=2)
    first, second = (batches.Data(folder / "work") for _ in range(2))
    training.batch_at(second, settings, 9)
    for step in range(9):
        kind, batch = training.batch_at(first, settings, step)
        other_kind, other = training.batch_at(second, settings, step)
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
