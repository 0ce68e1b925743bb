import gzip
import json
import lzma

import pytest

from tfew_jax.data import texts

POEM = "One line,\r\nand more.\n\n \n  A second text.  \n\nThe third\n"


@pytest.fixture
def write(tmp_path):
    def make(name, data):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        data = data.encode() if isinstance(data, str) else data
        opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
        with opener(path, "wb") as file:
            file.write(data)
        return path

    return make


def message_of(*paths, **options):
    with pytest.raises(texts.TextsError) as error:
        list(texts.read(paths, **options))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz", "a.md"])
def test_paragraphs_of_plain_and_compressed_files_are_texts(write, name):
    found = list(texts.read([write(name, POEM)]))
    assert found == ["One line, and more.", "A second text.", "The third"]


def test_lines_or_whole_files_are_texts_on_request(write):
    path = write("a.txt", "\ufeffa\n\n b\n")
    assert list(texts.read([path], unit="line")) == ["a", "b"]
    assert list(texts.read([path], unit="file")) == ["a\n\n b"]


@pytest.mark.parametrize("name", ["c4.json.gz", "c4.jsonl", "c4.jsonl.xz"])
def test_rows_of_jsonl_hold_a_text_each(write, name):
    rows = [{"text": "One.\nTwo.", "url": "x"}, {"text": " "}, {"text": "Three"}]
    path = write(name, "\n".join(map(json.dumps, rows)) + "\n\n")
    assert list(texts.read([path])) == ["One.\nTwo.", "Three"]
    path = write("b.jsonl", '{"body": "x"}')
    assert list(texts.read([path], field="body")) == ["x"]


def test_rows_of_parquet_hold_a_text_each(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `data`")
    from pyarrow import parquet

    table = pyarrow.table(
        {"text": ["One.\nTwo.", None, " ", "Three"], "n": [1, 2, 3, 4]}
    )
    path = tmp_path / "train-00000-of-00001.parquet"
    parquet.write_table(table, path, row_group_size=2)
    assert list(texts.read([tmp_path])) == ["One.\nTwo.", "Three"]
    assert "has no column 'body', only text, n" in message_of(path, field="body")
    assert "'n' holds int, expected texts" in message_of(path, field="n")
    path.write_bytes(b"nothing of the kind")
    assert message_of(path).startswith(f"{path}: not a readable Parquet file (")


def test_files_of_the_hub_are_found_in_its_cache(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `data`")
    from pyarrow import parquet

    path = tmp_path / "en" / "train" / "0000.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.table({"text": ["One", "Two"]}), path)
    asked = []

    def download(*arguments):
        asked.append(arguments)
        return tmp_path

    monkeypatch.setattr(texts.hub, "download", download)
    assert list(texts.read(["hub:allenai/c4:en:train"])) == ["One", "Two"]
    assert asked == [("allenai/c4", "en", "train")]
    assert "no Parquet files of that split" in message_of("hub:allenai/c4:en:test")
    for wrong in ("hub:c4", "hub:allenai/c4", "hub:c4:en:train", "hub:allenai/c4::x"):
        assert "expected hub:OWNER/NAME:CONFIG:SPLIT" in message_of(wrong)


def test_a_folder_gives_its_files_by_name_and_nothing_else(write, tmp_path):
    for name in ("b.txt", "a.txt.gz", "c/d.jsonl", "notes.pdf"):
        text = json.dumps({"text": name}) if name.endswith("jsonl") else name
        write(f"all/{name}", text)
    assert list(texts.read([tmp_path / "all"])) == ["a.txt.gz", "b.txt", "c/d.jsonl"]


@pytest.mark.parametrize("num_shards", [1, 2, 3, 7])
def test_all_hosts_together_read_each_text_once(write, num_shards):
    paths = [write("a.txt", "a\nb\nc\n"), write("b.txt", "d\ne\n")]
    shards = [
        list(texts.read(paths, unit="line", shard=(index, num_shards)))
        for index in range(num_shards)
    ]
    assert sorted(text for shard in shards for text in shard) == list("abcde")
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_nothing_is_read_before_it_is_asked_for(write):
    path = write("a.txt", b"good\n\n\xff\n")
    found = texts.read([path])
    assert next(found) == "good"
    with pytest.raises(texts.TextsError, match="line 3: not UTF-8"):
        next(found)


def test_files_that_cannot_be_read_are_named(write, tmp_path):
    assert message_of(tmp_path / "none.txt").startswith(f"{tmp_path}/none.txt: no such")
    assert "expected a file that ends in .txt" in message_of(write("a.pdf", "x"))
    (tmp_path / "empty").mkdir()
    assert "holds no texts" in message_of(tmp_path / "empty")
    assert "no files of texts" in message_of()
    for name in ("a.txt.gz", "a.txt.xz"):
        path = write(name, "long enough a text\n" * 1000)
        path.write_bytes(path.read_bytes()[:-20])
        assert message_of(path).startswith(f"{path}: cut off or damaged (")
        path.write_bytes(b"this was never compressed at all")
        assert message_of(path).startswith(f"{path}: cut off or damaged (")
        middle = bytearray(gzip.compress(b"some text\n" * 5000))
        middle[30:60] = bytes(30)
        path = write("b.txt", "")
        path = path.rename(tmp_path / "b.txt.gz")
        path.write_bytes(middle)
        assert message_of(path).startswith(f"{path}: cut off or damaged (")


def test_rows_without_a_text_are_named(write):
    path = write("a.jsonl", '{"text": "fine"}\n\n{"txt": "x"}\n')
    assert message_of(path) == (
        f"{path}, line 3: expected an object with the text in 'text', found dict with "
        "txt"
    )
    assert "line 1: not JSON" in message_of(write("b.jsonl", "{"))
    assert "found list" in message_of(write("c.jsonl", "[1]"))


def test_half_of_a_surrogate_pair_is_named_by_its_line_and_a_whole_one_is_a_text(write):
    path = write("a.jsonl", r'{"text": "good \ud83d\ude00 emoji"}')
    assert list(texts.read([path])) == ["good \N{GRINNING FACE} emoji"]
    path = write("b.jsonl", '{"text": "x"}\n' + r'{"text": "bad \ud83d emoji"}')
    assert message_of(path).startswith(
        rf"{path}, line 2: \ud83d is half of a surrogate pair"
    )


def test_options_out_of_range_are_refused(write):
    path = write("a.txt", "x")
    assert message_of(path, unit="word").startswith("unit is 'word'; choose from")
    assert message_of(path, shard=(2, 2)).startswith("shard 2 of 2 does not exist")
