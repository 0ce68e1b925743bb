"""What the README shows is what happens."""

import re

import pytest

import tfew_jax


@pytest.fixture
def readme(repository):
    return (repository / "README.md").read_text(encoding="utf-8")


def test_the_python_examples_run(readme, tmp_path, monkeypatch, capsys):
    first, second = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    first, num_changed = re.subn(r"num_steps=50\b", "num_steps=2", first)
    assert num_changed == 1  # tests compute slowly
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(first, "README.md", "exec"), names)
    assert names["result"].summary["tuned"]["n"] == 5
    assert (tmp_path / "my_adapter").is_dir()
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[0] in ("bad", "good")

    exec(compile(second, "README.md", "exec"), names)
    assert len(names["mixed"]) == 3
    assert float(capsys.readouterr().out) in (0.5, 1.0)


def test_every_file_and_folder_that_the_readme_names_exists(readme, repository):
    named = set(re.findall(r"\b(?:tools|tfew_jax|gin_configs)/[\w./]*\w", readme))
    named |= {
        f"gin_configs/{name}" for name in re.findall(r"--gin_file (\S+/\S+)", readme)
    }
    named |= set(re.findall(r"\]\(([^)#:\s]+)\)", readme))
    named |= {
        f"gin_configs/{name}"
        for name in re.findall(r"(?<![\w/-])[\w-]+/[\w-]+\.gin\b", readme)
    }
    assert len(named) > 25
    missing = [name for name in named if not (repository / name).exists()]
    assert missing == []


def test_every_file_that_a_document_links_exists(repository):
    documents = sorted((repository / "docs").glob("*.md"))
    assert documents
    for path in documents:
        for link in re.findall(r"\]\(([^)#:\s]+)\)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_the_numbers_of_parameters_are_the_real_ones(readme):
    from tfew_jax import models
    from tfew_jax.peft import ia3, prompt

    sizes = [ia3.IA3().num_parameters(models.SIZES[size]) for size in ("xl", "xxl")]
    assert "{:,} / {:,}".format(*sizes) in readme
    sizes = [prompt.Prompt().num_parameters(models.SIZES[s]) for s in ("xl", "xxl")]
    assert "{:,} / {:,}".format(*sizes) in readme


def test_the_public_names_are_those_that_the_readme_uses(readme):
    used = set(re.findall(r"tfew_jax\.(\w+)\(", readme))
    assert used == set(tfew_jax.__all__)
