"""The same made-up rows as official files, in TFDS and on the Hub are the same rows.

TFDS's folders are made by TFDS's own builders from the official files, so that names
of features, keys and orders are TFDS's and not what we think them to be.
"""

import importlib.resources.abc
import pathlib
import sys
import unittest.mock

import pytest

from tfew_jax.data import benchmarks, mirrors

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from official_rows import NUM_ROWS, official_row, write_official


def hub_row(name: str, n: int) -> dict:
    """The same row with the Hub's columns, written down by hand."""
    row = official_row(name, n)
    if name == "storycloze":
        return {
            "story_id": f"s-{n}",
            **{f"input_sentence_{k}": row[f"InputSentence{k}"] for k in range(1, 5)},
            "sentence_quiz1": f"Wrong {n}.",
            "sentence_quiz2": "Right, and happy.",
            "answer_right_ending": n % 2 + 1,
        }
    if name == "h-swag":
        return {**row, "label": str(n % 4)}
    if name == "winogrande":
        return {key: value for key, value in row.items() if key != "qID"}
    if name.startswith("anli"):
        return {
            "uid": f"u{n}",
            "premise": f"It rained {n}.",
            "hypothesis": f"Wet {n}.",
            "label": n % 3,
            "reason": f"why {n}",
        }
    if name == "wsc":
        spans = {"span1_index": 3, "span1_text": "the lake"}
        spans |= {"span2_index": 6, "span2_text": "it"}
        return {"text": row["text"], **spans, "idx": n, "label": (n + 1) % 2}
    row.pop("version", None)
    return {**row, "label": n % 3 if name == "cb" else n % 2}


@pytest.fixture(scope="session")
def official(tmp_path_factory) -> pathlib.Path:
    """A data directory with the official files of all sets, and what TFDS wants."""
    return write_official(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="session")
def tfds_directory(official, tmp_path_factory) -> pathlib.Path:
    """A TFDS data directory, prepared by TFDS's builders."""
    tfds = pytest.importorskip("tensorflow_datasets", reason="needs TFDS (extra data)")
    pytest.importorskip("tensorflow", reason="needs TensorFlow (extra data)")
    folder = tmp_path_factory.mktemp("tfds")
    names = {"train": "train", "validation": "val", "test": "test"}

    def fetched(manager, urls):
        if not isinstance(urls, dict):
            return str(official)
        file = "hellaswag/hellaswag_{}.jsonl"
        return {key: str(official / file.format(names[key])) for key in urls}

    manager = tfds.download.DownloadManager
    config = tfds.download.DownloadConfig(
        manual_dir=str(official), compute_stats=tfds.download.ComputeStatsMode.SKIP
    )
    # Builders import this package, which TFDS does not bring along.
    backport = {"importlib_resources": importlib.resources}
    with (
        unittest.mock.patch.dict(sys.modules, backport),
        unittest.mock.patch.object(manager, "download_and_extract", fetched),
    ):
        for mirror in mirrors.MIRRORS.values():
            builder = tfds.builder(mirror.tfds, data_dir=str(folder))
            builder.download_and_prepare(download_config=config)
    return folder


@pytest.fixture(scope="session")
def hub_directory(tmp_path_factory) -> pathlib.Path:
    """Parquet files: one half in a repository's own layout, one in the conversion's."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow (extra data)")
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("hub")
    for number, (name, mirror) in enumerate(mirrors.MIRRORS.items()):
        table = pyarrow.Table.from_pylist([hub_row(name, n) for n in range(NUM_ROWS)])
        for split in benchmarks.get(name).splits:
            split = mirror.hub_splits.get(split, split)
            top = mirror.config if mirror.config != "default" else "data"
            file = f"{top}/{split}-00000-of-00001.parquet"
            if number % 2:
                file = f"{mirror.config}/{split}/0000.parquet"
            path = folder / mirror.repository / file
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet.write_table(table, path)
    return folder


@pytest.mark.parametrize("name", benchmarks.names())
def test_rows_of_the_hub_are_those_of_the_official_files(official, hub_directory, name):
    for split in (benchmarks.get(name).train, benchmarks.get(name).evaluation):
        ours = benchmarks.load(name, split, official)
        assert benchmarks.load(name, split, f"hub:{hub_directory}") == ours
        assert benchmarks.load(name, split, hub_directory) == ours
        assert len({row["label"] for row in ours}) > 1


@pytest.mark.slow
def test_rows_of_tfds_are_those_of_the_official_files(official, tfds_directory):
    for name in benchmarks.names():
        sorts = mirrors.MIRRORS[name].sorts
        for split in (benchmarks.get(name).train, benchmarks.get(name).evaluation):
            ours = benchmarks.load(name, split, official)
            found = benchmarks.load(name, split, f"tfds:{tfds_directory}")
            assert [row["idx"] for row in found] == list(range(NUM_ROWS))
            assert [set(row) for row in found] == [set(row) for row in ours]
            expected = [without_dropped(row, sorts) for row in ours]
            kept = [without_dropped(row, sorts) for row in found]
            if sorts:
                assert kept == expected
            assert sorted(kept, key=str) == sorted(expected, key=str)
            assert benchmarks.load(name, split, tfds_directory) == found


def without_dropped(row: dict, sorts: bool) -> dict:
    """A row without what TFDS drops and no template shows: `mirrors` lists it."""
    dropped = {"ind", "split", "reason", "story_id", *([] if sorts else ["idx"])}
    return {key: value for key, value in row.items() if key not in dropped}


@pytest.mark.parametrize(
    "row, parts",
    [
        (
            {"source_id": "activitynet~1", "context": "He ran. Far. she"},
            ("Far.", "she"),
        ),
        ({"source_id": "wikihow~1", "context": "Run. Far."}, ("Far.", "")),
        ({"source_id": "activitynet~1", "context": "Far"}, ("Far", "")),
    ],
)
def test_hellaswags_context_of_tfds_ends_with_what_follows_its_last_sentence(
    row, parts
):
    fields = mirrors.MIRRORS["h-swag"].from_tfds(row)
    assert fields["ctx"] == row["context"]
    assert fields["ctx_a"].endswith(parts[0]) and fields["ctx_b"] == parts[1]
    assert f"{fields['ctx_a']} {fields['ctx_b']}".strip() == row["context"]


@pytest.mark.parametrize(
    "context, sentences",
    [
        ("Al ran. He sat! Was it far? It was.", 4),
        ('Al said "Go!" He went. "Why?" said Bo. It was at 5 p.m. in May.', 4),
        ("Al ran. He sat. He ate. He left. He slept.", 4),  # the last two stay one
        ("Al ran. He sat.", 2),
    ],
)
def test_storyclozes_context_of_tfds_is_cut_at_the_ends_of_sentences(
    context, sentences
):
    row = {"context": context, "endings": ["A.", "B."], "label": 2}
    fields = mirrors.MIRRORS["storycloze"].from_tfds(row)
    parts = [fields[f"InputSentence{n}"] for n in range(1, 5)]
    assert " ".join(parts).rstrip() == context
    assert sum(map(bool, parts)) == sentences
    assert fields["AnswerRightEnding"] == 2


@pytest.mark.parametrize(
    "name",
    [name for name in benchmarks.names() if name != "storycloze"],  # public there
)
def test_hidden_labels_of_mirrors_stay_minus_one(name):
    mirror, convert = mirrors.MIRRORS[name], benchmarks.get(name).convert
    row = hub_row(name, 0)
    for hidden in ("",) if name in ("h-swag", "winogrande") else (-1, None):
        field = "answer" if name == "winogrande" else "label"
        assert convert(mirror.from_hub({**row, field: hidden}), 0)["label"] == -1


def test_labels_outside_the_set_are_errors():
    with pytest.raises(ValueError, match="label 2, expected one of -1, 0, 1"):
        mirrors.MIRRORS["rte"].from_hub({**hub_row("rte", 0), "label": 2})


def test_every_set_has_a_mirror_and_splits_that_are_its_own():
    assert set(mirrors.MIRRORS) == set(benchmarks.names())
    for name, mirror in mirrors.MIRRORS.items():
        renamed = {*mirror.hub_splits, *mirror.tfds_splits}
        assert renamed <= set(benchmarks.get(name).splits)
