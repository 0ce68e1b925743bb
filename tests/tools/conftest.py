"""A made-up data folder and what the base model's tool makes of it, once a session."""

import dataclasses
import io
import json
import lzma
import pathlib
import random
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))

import make_base_model

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "ei", "oo") for c in "lmnrst"]


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
            "title": f"Title {n} of a page",
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


@dataclasses.dataclass(frozen=True)
class Base:
    """Folders: data, teacher, work, run and model; held.jsonl beside them.

    Attributes:
        root: Where they are.
        shape: Arguments of a tiny course of ten steps.
    """

    root: pathlib.Path
    shape: tuple[str, ...]

    def train(self, *arguments: str) -> int:
        """Train the tiny course."""
        given = ["train", "--work", f"{self.root}/work", *self.shape, *arguments]
        return make_base_model.main(given)


def _gin(**bindings: object) -> tuple[str, ...]:
    return tuple(f"--gin.{name}={value}" for name, value in bindings.items())


SHAPE = (
    *_gin(EMB_DIM=32, NUM_HEADS=2, MLP_DIM=32, NUM_ENCODER_LAYERS=1),
    *_gin(NUM_DECODER_LAYERS=1, DISTIL_STEPS=3, MIXED_STEPS=7),
    *(
        f"--gin.course.Course.{name}={value}"
        for name, value in {
            **{"rows": 4, "distil_tokens": 64, "span_rows": 2},
            **{"language_rows": 2, "save_every": 4},
        }.items()
    ),
)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Base:
    """Data, teacher, held-out file, work folder and a model trained without a stop."""
    root = tmp_path_factory.mktemp("base")
    write_data(root / "data")
    write_teacher(root / "teacher")
    with lzma.open(root / "data/text/nlp_corpus.txt.xz", "rt") as file:
        held_out = file.read().splitlines()[:3]
    # Not equal to a sentence of the corpora, but to a window, and to phrases.
    with tarfile.open(root / "data/text/novels.tar.xz") as archive:
        file = archive.extractfile("novels/One.txt")
        held_out.append(file.read().decode().partition("\n\n")[0] if file else "")
    held_out += [f"title {n} of a page" for n in range(0, 40, 2)]
    (root / "held.jsonl").write_text(
        "\n".join(json.dumps({"text": text.upper()}) for text in held_out)
    )
    make_base_model.main(
        f"prepare --data {root}/data --out {root}/work --teacher {root}/teacher "
        f"--held-out {root}/held.jsonl --gin.VOCAB_SIZE=450 "
        "--gin.PREPARED_WIDTH=32".split()
    )
    made = Base(root, SHAPE)
    made.train("--run", f"{root}/run", "--out", f"{root}/model")
    return made
