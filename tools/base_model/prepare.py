"""Corpora to token arrays: selection, held-out check, vocabulary, teacher vectors.

What a work folder holds afterwards (without a teacher none of its vectors, and no
nearest.npy and embedding.npy):

- sentencepiece.model
- texts.{tokens,offsets}.npy and texts.json: short texts with a teacher vector, and for
  each its kind, label and neighbour; vectors.npy [texts, 384] float16
- phrases.{tokens,offsets}.npy, phrases.json, phrase_vectors.npy: candidate answers
- nearest.npy [texts, 32]: the phrases the teacher finds most similar to each text
- sentiment.npy [texts]: probability of "positive" where it is known well enough
- running.{tokens,offsets}.npy: paragraphs for span corruption
- embedding.npy [vocab, embed]: initial token embeddings of the widest model
- proxies/*.jsonl: rows held back from training, for comparing recipes
- manifest.json: settings, corpora with hashes, counts
"""

import collections
import itertools
import json
import logging
import pathlib
import random
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from base_model import (
    corpora,
    embedding,
    heldout,
    probe,
    questions,
    ragged,
    vocabulary,
)
from base_model import teacher as teacher_lib

log = logging.getLogger(__name__)

NUM_NEAREST = 32
_TAUGHT = ("embedding.npy", "phrase_vectors.npy", "vectors.npy", "nearest.npy")
_PROXY_FILES = ("norton", "Linksys_Router", "Diaper_Champ")  # product_reviews_2
_QUOTA = {  # texts with a teacher vector, at scale 1
    "nlp_corpus": 34_000,
    "novels": 14_000,
    "wordnet_glosses": 34_000,
    "wiki_summaries": 9_000,
    "genesis": 300,
    "inaugural": 400,
    "state_union": 1_500,
    "shakespeare": 1_000,
    "movie_reviews": 16_000,
    "product_reviews_1": 3_500,
    "product_reviews_2": 3_500,
    "pros_cons": 14_000,
    "comparative_sentences": 4_500,
    "natural_questions": 5_000,
    "commonsense_qa": 12_000,
    "arc": 5_000,
}
_WORDS = {
    "pros_cons": (2, 30),
    "wordnet_glosses": (3, 24),
    "movie_reviews": (4, 30),
    "arc": (4, 40),
}
_MAX_ANSWER_WORDS = 5
_DEFAULT_WORDS = (4, 24)
_STOP = frozenset(
    "the a an of to and in is it for on with that this was as at by be are or from but "
    "not have has had i you he she they we his her its their my your me him them us so "
    "if which who will would can could there been were do did no all one when what up "
    "out then than into more some any very just about also only other over such".split()
)


def read_corpora(
    data: pathlib.Path,
    held_out: heldout.HeldOut,
    wheel: pathlib.Path | None = None,
) -> tuple[list[corpora.Text], list[dict[str, object]]]:
    """All allowed texts of all corpora, without repetitions, and the card's table."""
    seen: set[str] = set()
    texts: list[corpora.Text] = []
    table: list[dict[str, object]] = []
    files = [(corpus, data / corpus.path) for corpus in corpora.CORPORA]
    if wheel is not None:
        files += [(corpus, wheel) for corpus in questions.corpora(wheel)]
    for corpus, path in files:
        if not path.is_file():
            raise ValueError(f"no {path} (corpus {corpus.name})")
        before, refused = len(texts), held_out.refused
        for text in corpora.read(corpus, path):
            key = " ".join(heldout.words(text.text))
            if key and key not in seen and held_out.allows(text.text):
                seen.add(key)
                texts.append(text)
        table.append(
            {
                "name": corpus.name,
                "file": corpus.path,
                "source": corpus.source,
                "licence": corpus.licence,
                "sha256": corpora.file_hash(path),
                "texts": len(texts) - before,
                "refused": held_out.refused - refused,
            }
        )
        log.info("%s", table[-1])
    return texts, table


def hold_back(
    texts: Sequence[corpora.Text], topics: dict[str, str], rng: random.Random
) -> tuple[list[corpora.Text], dict[str, list[dict[str, object]]]]:
    """Split off the proxy tasks that recipes are compared on."""
    titles = sorted(t for t in topics if topics[t] != "Uncategorized")
    proxy_titles = set(rng.sample(titles, min(2_000, len(titles) // 4)))
    kept: list[corpora.Text] = []
    proxies: dict[str, list[dict[str, object]]] = collections.defaultdict(list)
    for text in texts:
        if text.group == f"wiki:{text.label}" and text.label in proxy_titles:
            if text.kind == "summary":
                row: dict[str, object] = {
                    "text": text.text,
                    "label": topics[str(text.label)],
                }
                proxies["topic"].append(row)
        elif text.label in proxy_titles and text.corpus == "wiki_summaries":
            continue
        elif any(name in text.group for name in _PROXY_FILES):
            if text.kind == "product":
                row = {
                    "text": text.text,
                    "label": ("bad", "good")[int(text.label or 0)],
                }
                proxies["product"].append(row)
        elif re.search(r"/cv9\d\d_", text.group):
            continue
        else:
            kept.append(text)
    return kept, proxies


def select(
    texts: Sequence[corpora.Text], scale: float, rng: random.Random
) -> list[corpora.Text]:
    """A sample of short texts with the quota of each corpus."""
    pools: dict[str, list[corpora.Text]] = collections.defaultdict(list)
    for text in texts:
        low, high = _WORDS.get(text.corpus, _DEFAULT_WORDS)
        # Descriptions serve as phrases; letters, so that tables and codes stay out.
        letters = sum(c.isalpha() or c.isspace() for c in text.text)
        fits = low <= len(text.text.split()) <= high
        if fits and text.kind != "description" and letters >= 0.8 * len(text.text):
            pools[text.corpus].append(text)
    chosen: list[corpora.Text] = []
    for name, quota in _QUOTA.items():
        pool = pools[name]
        size = min(len(pool), max(1, int(quota * scale))) if pool else 0
        chosen += rng.sample(pool, size)
    rng.shuffle(chosen)
    return chosen


def phrases(
    texts: Sequence[corpora.Text], chosen: Sequence[corpora.Text], scale: float
) -> list[str]:
    """Candidate answers: frequent words and word pairs, dictionary words, titles."""
    counts: collections.Counter[str] = collections.Counter()
    for text in chosen:
        tokens = heldout.words(text.text)
        # Once each, in the order of the text: a set's order differs between processes.
        pairs = itertools.pairwise(tokens)
        paired = (f"{a} {b}" for a, b in pairs if not {a, b} & _STOP)
        counts.update([*dict.fromkeys(tokens), *dict.fromkeys(paired)])
    lemmas = {str(t.label).lower(): 0 for t in texts if t.kind == "gloss"}
    known = [lemma for lemma in lemmas if lemma not in _STOP and len(lemma) > 2]
    known.sort(key=lambda lemma: -counts[lemma])
    pairs = [p for p, n in counts.most_common() if " " in p and n > 2]
    names = [str(t.label) for t in texts if t.kind == "summary"]
    described = [t.text for t in texts if t.kind == "description"]
    described = [d for d in described if len(d.split()) <= 6]
    found: dict[str, None] = {}
    for pool, size in (
        (known, 11_000),
        (pairs, 4_000),
        (names, 4_000),
        (described, 5_000),
    ):
        found.update(dict.fromkeys(pool[: max(4, int(size * scale))]))
    answers = [str(t.label) for t in chosen if t.kind in questions.KINDS]
    found.update(
        dict.fromkeys(a for a in answers if len(a.split()) <= _MAX_ANSWER_WORDS)
    )
    labels = {str(t.label) for t in chosen if t.kind in ("gloss", "summary")}
    found.update(dict.fromkeys(sorted(labels)[: int(9_000 * scale)]))
    return [p for p in found if p]


def _neighbours(
    chosen: Sequence[corpora.Text], texts: Sequence[corpora.Text]
) -> list[str]:
    """For each chosen text the next text of its group, or an empty string."""
    following: dict[str, str] = {}
    for text, after in itertools.pairwise(texts):
        if text.group and text.group == after.group:
            following[text.text] = after.text
    return [following.get(text.text, "") for text in chosen]


def _running(texts: Sequence[corpora.Text], size: int, rng: random.Random) -> list[str]:
    """Paragraph-like windows of up to 60 words for span corruption."""
    windows: list[str] = []
    current: list[str] = []
    group = None
    for text in texts:
        if text.kind == "description":
            continue
        if current and (
            text.group != group or sum(len(c.split()) for c in current) > 45
        ):
            windows.append(rng.choice((" ", " ", " ", "\n")).join(current))
            current = []
        group = text.group or text.text
        current.append(" ".join(text.text.split()[:60]))
    return rng.sample(windows, min(size, len(windows)))


def _topics(data: pathlib.Path) -> dict[str, str]:
    """Topic of each page, by its title."""
    path = data / "text/wiki_vital_summaries_en.json"
    with corpora.readable("topics of", path):
        pages = json.loads(path.read_text("utf-8"))
        return {corpora.clean(p["title"]): p["topic"] for p in pages.values()}


def _nearest(
    vectors: np.ndarray, candidates: np.ndarray, block: int = 2_048
) -> np.ndarray:
    """Indices of the most similar candidates of each vector, best first."""
    count = min(NUM_NEAREST, len(candidates))
    table = candidates.astype(np.float32).T
    out = np.zeros((len(vectors), count), np.int32)
    for start in range(0, len(vectors), block):
        scores = vectors[start : start + block].astype(np.float32) @ table
        top = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(scores, top, 1), axis=1)
        out[start : start + block] = np.take_along_axis(top, order, 1)
    return out


def run(
    *,
    data: pathlib.Path,
    out: pathlib.Path,
    teacher: pathlib.Path | None = None,
    questions_wheel: pathlib.Path | None = None,
    held_out: Sequence[pathlib.Path] = (),
    scale: float = 1.0,
    vocab_size: int = 8_192,
    emb_dim: int = 256,
    seed: int = 0,
) -> None:
    """Prepare everything that training needs and write it to `out`.

    Args:
        data: Folder with the files of `corpora.CORPORA`.
        out: Work folder.
        teacher: Model folder or wheel of the sentence encoder, if there is one.
        questions_wheel: File with questions, see `questions`; None for none.
        held_out: Files and folders with rows that must not be trained on.
        scale: Share of the usual number of texts; small for trials.
        vocab_size: Rows of the embedding table, 100 sentinels included.
        emb_dim: Width of the widest model that will be trained.
        seed: Seed of every random choice.
    """
    rng = random.Random(seed)
    checker = heldout.HeldOut.from_paths(held_out)
    texts, table = read_corpora(data, checker, questions_wheel)
    out.mkdir(parents=True, exist_ok=True)
    # It says that all files are of one run: gone before the first, back after the last.
    (out / "manifest.json").unlink(missing_ok=True)
    texts, proxies = hold_back(texts, _topics(data), rng)
    chosen = select(texts, scale, rng)
    sample = rng.sample(texts, min(len(texts), int(150_000 * scale) + 2_000))
    spelled = [t.text for t in chosen + sample]
    vocabulary.train(spelled, out / "sentencepiece.model", vocab_size)
    pieces = vocabulary.load(out / "sentencepiece.model")
    # Titles and windows of several sentences were not seen as texts yet.
    candidates = [*filter(checker.allows, phrases(texts, chosen, scale))]
    windows = _running(texts, int(90_000 * scale) + 50, rng)
    log.info("%d texts, %d phrases", len(chosen), len(candidates))
    arrays: dict[str, Sequence[str]] = {
        "texts": [t.text for t in chosen],
        "following": _neighbours(chosen, texts),
        "phrases": candidates,
        "running": [*filter(checker.allows, windows)],
    }
    for name, lists in arrays.items():
        ragged.Ragged.from_lists(pieces.encode(lists)).save(out, name)
    encoder = teacher and teacher_lib.load(teacher)
    vectors = _teach(encoder, pieces, (vocab_size, emb_dim), arrays, out)
    np.save(out / "sentiment.npy", probe.sentiment(vectors, chosen))
    _write_facts(out, chosen, candidates, proxies)
    settings = {
        "vocab_size": vocab_size,
        "emb_dim": emb_dim,
        "scale": scale,
        "seed": seed,
        "held_out": sorted(path.name for path in held_out),
        "teacher_sha256": _hash(teacher),
        "counts": {"texts": len(chosen), "phrases": len(candidates)},
        "corpora": table,
    }
    _write(out / "manifest.json", settings)


def _teach(
    encoder: teacher_lib.Teacher | None,
    pieces: Any,
    shape: tuple[int, int],
    arrays: dict[str, Sequence[str]],
    out: pathlib.Path,
) -> Float[np.ndarray, "texts teacher"] | None:
    """Write what the teacher says of pieces, and of the arrays' texts and phrases.

    Returns:
        The vectors of the texts; None without a teacher, where nothing is written and
        what an earlier one said is removed.
    """
    if encoder is None:
        for name in _TAUGHT:
            (out / name).unlink(missing_ok=True)
        return None
    phrase_vectors = encoder.vectors(arrays["phrases"])
    vectors = encoder.vectors(arrays["texts"])
    table = embedding.initial(encoder, pieces, *shape)
    taught = (table, phrase_vectors, vectors, _nearest(vectors, phrase_vectors))
    for name, array in zip(_TAUGHT, taught, strict=True):
        np.save(out / name, array)
    return vectors


def _write_facts(
    out: pathlib.Path,
    chosen: Sequence[corpora.Text],
    candidates: Sequence[str],
    proxies: dict[str, list[dict[str, object]]],
) -> None:
    """Write what is known of the texts, the phrases, and the rows held back."""
    facts = {"kinds": [t.kind for t in chosen], "labels": [t.label for t in chosen]}
    _write(out / "texts.json", facts)
    _write(out / "phrases.json", candidates)
    (out / "proxies").mkdir(exist_ok=True)
    for name, rows in proxies.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (out / "proxies" / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def _hash(teacher: pathlib.Path | None) -> str | None:
    if teacher is None or not teacher.is_file():
        return None
    return corpora.file_hash(teacher)


def _write(path: pathlib.Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")
