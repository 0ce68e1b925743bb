"""The golden files say how they were made, and are made so."""

import importlib.util
import pathlib

import numpy as np
import pytest

GOLDEN = sorted((pathlib.Path(__file__).parents[1] / "golden").glob("*.npz"))


@pytest.fixture
def make_golden(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "tools"))
    path = repository / "tools" / "make_golden.py"
    spec = importlib.util.spec_from_file_location("make_golden", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_a_golden_file_names_its_command_and_versions(path, make_golden):
    arrays = np.load(path)
    assert arrays["command"] == f"python tools/make_golden.py {path.stem}"
    assert [version.split()[0] for version in arrays["versions"]] == [
        *make_golden.LIBRARIES
    ]
    assert path.stem in make_golden.parts()


def test_every_part_has_its_golden_file(make_golden):
    assert make_golden.parts() == [path.stem for path in GOLDEN]


@pytest.mark.parametrize("part", ["losses", "adafactor"])
def test_the_reference_libraries_still_give_the_golden_values(
    part, make_golden, monkeypatch, tmp_path
):
    pytest.importorskip("torch", reason="needs torch and transformers, extra peer")
    pytest.importorskip("transformers", reason="needs transformers, extra peer")
    (committed,) = (np.load(path) for path in GOLDEN if path.stem == part)
    monkeypatch.setattr(make_golden, "GOLDEN", tmp_path)
    made = np.load(make_golden.make(part))
    assert set(made) == set(committed)
    for name in set(made) - {"command", "versions"}:
        np.testing.assert_allclose(made[name], committed[name], rtol=1e-6, atol=1e-9)
