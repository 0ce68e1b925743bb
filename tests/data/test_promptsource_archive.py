"""The source archive is fetched, checked and unpacked with suspicion."""

import io
import pathlib
import tarfile

import pytest

from tfew_jax.data import promptsource_archive as archive

FILES = {
    "setup.py": "raise SystemExit('the package was run')",
    "promptsource/templates.py": "raise SystemExit('the package was imported')",
    "promptsource/templates/anli/templates.yaml": "a: 1",
    "promptsource/templates/super_glue/wsc.fixed/templates.yaml": "b: 2",
}
PREFIX = "promptsource-0.2.3/promptsource/templates/"


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def message_of(path):
    with pytest.raises(ValueError) as caught:
        archive.fetch(path)
    assert not archive.directory().exists()
    assert list(archive.cache_directory().glob("*")) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_only_the_files_of_templates_are_kept(make_archive):
    assert archive.fetch(make_archive(FILES))
    assert contents(archive.cache_directory()) == {
        "promptsource-0.2.3/anli/templates.yaml": "a: 1",
        "promptsource-0.2.3/super_glue/wsc.fixed/templates.yaml": "b: 2",
    }


def test_a_second_fetch_has_nothing_to_do(make_archive):
    path = make_archive(FILES)
    assert archive.fetch(path)
    path.unlink()
    assert not archive.fetch(path)
    assert not archive.fetch()


def test_pip_downloads_the_archive_and_runs_nothing_of_it(make_archive, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(make_archive(FILES).parent))
    assert archive.fetch()
    assert len(contents(archive.directory())) == 2


def test_without_network_the_message_says_how_to_go_on(make_archive, monkeypatch):
    make_archive(FILES)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    message = message_of(None)
    assert "No matching distribution found for promptsource==0.2.3" in message
    assert "--ignore-requires-python promptsource==0.2.3`" in message
    assert message.endswith("and give it with --from")


def test_without_pip_the_message_says_so(make_archive, monkeypatch, tmp_path):
    make_archive(FILES)
    broken = tmp_path / "pip"
    broken.mkdir()
    (broken / "__init__.py").touch()
    (broken / "__main__.py").write_text("raise SystemExit('no pip here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert "no pip here" in message_of(None)


def test_another_archive_is_refused_by_its_hash(make_archive, monkeypatch):
    path = make_archive(FILES)
    monkeypatch.setattr(archive, "SHA256", "0" * 64)
    message = message_of(path)
    assert "its SHA-256 is" in message and f"expected {'0' * 64}" in message
    assert "bytes" not in message


def test_a_truncated_archive_is_refused(make_archive):
    path = make_archive(FILES)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    assert f"it has 100 of {len(whole)} bytes" in message_of(path)


@pytest.mark.parametrize("cut", [0, 50, 150, 250])
def test_a_damaged_archive_is_an_error_even_if_its_hash_is_right(make_archive, cut):
    path = make_archive(FILES)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="damaged"):
        archive.extract(path, path.parent / "unpacked")


def test_a_missing_file_and_a_folder_are_errors(make_archive, tmp_path):
    make_archive(FILES)
    assert "No such file" in message_of(tmp_path / "missing.tar.gz")
    assert "Is a directory" in message_of(tmp_path)


def member(name, kind=tarfile.REGTYPE, **attributes):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in attributes.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../templates.yaml",
        "/tmp/templates.yaml",
        "promptsource-0.2.2/promptsource/templates/anli/templates.yaml",
        f"{PREFIX}../../../evil/templates.yaml",
        f"{PREFIX}../templates.yaml",
        f"{PREFIX}..\\evil/templates.yaml",
        f"{PREFIX}a/b/c/templates.yaml",
        f"{PREFIX}/etc/templates.yaml",
        f"{PREFIX}.hidden/templates.yaml",
        f"{PREFIX}templates.yaml",
    ],
)
def test_a_file_outside_the_folder_of_templates_is_an_error(make_archive, name):
    message = message_of(make_archive({**FILES, "x": member(name)}))
    assert f"expected {PREFIX}SET/templates.yaml" in message


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_errors(make_archive, kind):
    link = member(f"{PREFIX}new/templates.yaml", kind, linkname="/etc/passwd")
    assert "not a file" in message_of(make_archive({**FILES, "x": link}))


def test_a_linked_folder_is_not_followed(make_archive, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    link = member(f"{PREFIX}new", tarfile.SYMTYPE, linkname=str(outside))
    file = {"promptsource/templates/new/templates.yaml": "c: 3"}
    assert archive.fetch(make_archive({"x": link, **file}))
    assert contents(archive.directory()) == {"new/templates.yaml": "c: 3"}
    assert list(outside.iterdir()) == []


def test_huge_files_are_errors(make_archive):
    name = "promptsource/templates/new/templates.yaml"
    path = make_archive({**FILES, name: "x" * (2**20 + 1)})
    assert "1,048,577 bytes; at most 1,048,576" in message_of(path)


def test_an_archive_that_unpacks_to_far_too_much_is_an_error(tmp_path):
    claimed = member("promptsource-0.2.3/README.md", size=2**40)
    path = tmp_path / "bomb.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.fileobj.write(claimed.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ValueError, match="unpacks to more than 67,108,864 bytes"):
        archive.extract(path, tmp_path / "unpacked")


def test_a_file_that_stands_twice_is_an_error(tmp_path):
    path = tmp_path / "twice.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for _ in range(2):
            name = f"{PREFIX}anli/templates.yaml"
            tar.addfile(member(name, size=1), io.BytesIO(b"x"))
    with pytest.raises(ValueError, match=r"templates\.yaml twice"):
        archive.extract(path, tmp_path / "unpacked")


def test_an_archive_without_templates_is_an_error(make_archive):
    assert "holds no" in message_of(make_archive({"setup.py": "pass"}))


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TFEW_JAX_CACHE", str(tmp_path))
    assert archive.directory() == tmp_path / "promptsource-0.2.3"
    monkeypatch.delenv("TFEW_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert archive.directory() == tmp_path / "tfew_jax" / "promptsource-0.2.3"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert archive.cache_directory() == tmp_path / ".cache" / "tfew_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert archive.cache_directory() == pathlib.Path.home() / ".cache" / "tfew_jax"
